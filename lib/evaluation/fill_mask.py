"""Sentences with one word hidden, to look at what a model learnt."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from lib.evaluation.baselines import Unigram
from lib.evaluation.evaluator import Evaluator
from lib.run import random
from lib.vocab.tokenizer import WordPieceTokenizer

_SHORTEST, _LONGEST = 8, 40
_SHOWN = 5


@dataclass(frozen=True)
class Hole:
    """One hidden word: the sentence around it, the word, and the guesses, best first."""

    sentence: str
    word: str
    guesses: list[str]
    probabilities: list[float]
    unigram_guess: str


def _candidates(tokenizer: WordPieceTokenizer, ids: list[int]) -> list[int]:
    """Positions of words of one piece, in Latin script of at least four letters."""
    places = []
    for place, piece_id in enumerate(ids):
        piece = tokenizer.vocabulary[piece_id]
        continued = place + 1 < len(ids) and tokenizer.continuation[ids[place + 1]]
        # In other scripts a word may well have one character.
        wordlike = piece.isalpha() and (len(piece) >= 4 or not piece.isascii())
        if wordlike and not continued:
            places.append(place)
    return places


def fill_holes(
    evaluator: Evaluator,
    tokenizer: WordPieceTokenizer,
    unigram: Unigram,
    sentences: Iterable[str],
    count: int,
    seed: int,
) -> list[dict[str, object]]:
    """Hides one word in each of the first `count` sentences that have a fitting one."""
    holes: list[Hole] = []
    for number, sentence in enumerate(sentences):
        if len(holes) == count:
            break
        ids = tokenizer.encode(sentence)
        places = _candidates(tokenizer, ids)
        if not _SHORTEST <= len(ids) <= _LONGEST or not places:
            continue
        place = places[int(random.generator(seed, "hole", number).integers(len(places)))]
        row = [tokenizer.cls_id, *ids, tokenizer.sep_id]
        row[place + 1] = tokenizer.mask_id
        best = evaluator.best_pieces(row, place + 1, _SHOWN, len(tokenizer.vocabulary))
        pieces = [tokenizer.vocabulary[piece_id] for piece_id in ids]
        pieces[place] = "____"
        holes.append(
            Hole(
                " ".join(pieces).replace(" ##", ""),
                tokenizer.vocabulary[ids[place]],
                [tokenizer.vocabulary[index] for index, _ in best],
                [round(probability, 4) for _, probability in best],
                tokenizer.vocabulary[unigram.top],
            )
        )
    return [asdict(hole) for hole in holes]
