"""Pieces -> a WordPiece vocabulary without holes."""

from collections.abc import Iterable, Mapping

from lib.run.errors import UserError
from lib.vocab.alphabet import closed_alphabet, count_characters, covered
from lib.vocab.characters import BasicTokenizer
from lib.vocab.selection import SURPLUS, most_useful
from lib.vocab.tokenizer import MAX_WORD_LENGTH, SPECIAL_TOKENS
from lib.vocab.training import train_sentencepiece, word_pieces
from lib.vocab.wordpiece import CONTINUATION

_MULTIPLE = 8


def from_sentencepiece(
    words: Mapping[str, int],
    trained: Mapping[str, int],
    basic: BasicTokenizer,
    algorithm: str,
    size: int,
    character_coverage: float,
    max_token_length: int,
) -> tuple[list[str], bytes | None]:
    """The vocabulary: special tokens, the closed alphabet, then pieces, best first.

    The plain conversion leaves holes: a letter seen only inside words has no row of its own, and
    a word that needs it becomes [UNK]. Hence the alphabet comes first and in both forms.

    Args:
        words: counts of all words of the sample; their letters are covered.
        trained: counts of those that pieces are trained on.
        size: rows wanted. A sample that cannot fill them gives fewer.

    Returns:
        The vocabulary, and SentencePiece's model; None if no word has two letters.

    Raises:
        UserError: `size` does not hold the special tokens and the alphabet.
    """
    characters = count_characters(words, MAX_WORD_LENGTH)
    alphabet = covered(characters, character_coverage)
    letters = closed_alphabet(alphabet, basic)
    room = size - len(SPECIAL_TOKENS) - len(letters)
    if room < 0:
        raise UserError(
            f"vocab.size: {size} cannot hold the {len(alphabet)} characters of the "
            f"sample; set at least {size - room}, or lower vocab.character_coverage"
        )
    usable = {
        word: count
        for word, count in trained.items()
        if 1 < len(word) <= MAX_WORD_LENGTH and alphabet.keys() >= set(word)
    }
    if not usable:
        return fill([*SPECIAL_TOKENS, *letters], size), None
    model = train_sentencepiece(usable, algorithm, int(size * SURPLUS), max_token_length)
    # Single characters are in the alphabet, in the forms that can occur.
    candidates = [
        piece
        for piece in dict.fromkeys(word_pieces(model))
        if len(piece.removeprefix(CONTINUATION)) > 1
    ]
    pieces = most_useful(candidates, letters, usable, room)
    return fill([*SPECIAL_TOKENS, *letters, *pieces], size), model


def from_characters(
    words: Mapping[str, int], basic: BasicTokenizer, size: int, min_frequency: int
) -> list[str]:
    """A vocabulary of single characters: those that occur often enough.

    Raises:
        UserError: they are more than `size` holds.
    """
    characters = count_characters(words, MAX_WORD_LENGTH)
    frequent = [character for character, count in characters.items() if count >= min_frequency]
    rows = [*SPECIAL_TOKENS, *closed_alphabet(frequent, basic)]
    if len(rows) > size:
        raise UserError(
            f"vocab.size: {size} cannot hold the {len(frequent)} characters that occur "
            f"{min_frequency} times or more; set at least {len(rows)}, or raise vocab.min_frequency"
        )
    return fill(rows, size)


def fill(rows: Iterable[str], size: int) -> list[str]:
    """The rows, and `[unusedN]` up to a multiple of eight, but to no more than `size` rows.

    A table of such a height is multiplied faster; thousands of rows that nothing uses would only
    slow training.
    """
    vocabulary = list(rows)
    full = min(size, -(-len(vocabulary) // _MULTIPLE) * _MULTIPLE)
    return vocabulary + [f"[unused{number}]" for number in range(full - len(vocabulary))]
