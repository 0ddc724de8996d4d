"""Domain words for an existing vocabulary, and what a trainer needs to begin their rows with."""

import hashlib
import heapq
import json
import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.run.errors import UserError
from lib.vocab.tokenizer import MAX_WORD_LENGTH, WordPieceTokenizer
from lib.vocab.wordpiece import WordPiece

_FILE = "extension.json"
_UNUSED = re.compile(r"\[unused.*\]")
# Of a word that is [UNK]: one token, which says nothing. To know the word saves one.
_UNKNOWN_COST = 2
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class NewRow:
    """One new word.

    Attributes:
        pieces_before: ids of the pieces that it consisted of.
        log_fraction: the mean over them of log(times the word occurs / times the piece was used), in
            the sample, at most 0: how much of a piece's probability the word takes over.
    """

    id: int
    piece: str
    pieces_before: tuple[int, ...]
    log_fraction: float


@dataclass(frozen=True)
class Extension:
    """How a vocabulary was made from another.

    Attributes:
        base_rows: rows of the other one; a higher id is a new row, a lower one was `[unusedN]`.
        base_digest: of its pieces, see `digest`.
        rows: the new words, by their ids; none, where the vocabulary is its own base.
    """

    base_rows: int
    base_digest: str
    rows: tuple[NewRow, ...]


def no_extension(vocabulary: Sequence[str]) -> Extension:
    """That of a vocabulary that was not made from another."""
    return Extension(len(vocabulary), digest(vocabulary), ())


def digest(vocabulary: Sequence[str]) -> str:
    """SHA-256 of the pieces, one a line."""
    return hashlib.sha256("".join(f"{piece}\n" for piece in vocabulary).encode()).hexdigest()


def extend(
    base: WordPieceTokenizer, words: Mapping[str, int], size: int, min_frequency: int
) -> tuple[list[str], Extension]:
    """Adds the words that save the most tokens; every piece of the base keeps its id.

    Whole words only: a new inner piece would also split words of general text in a new way, which
    the model has never seen.

    Args:
        words: counts of the sample's words.
        size: rows at most. `[unusedN]` rows are used first, then new ones are added.
        min_frequency: occurrences that a new word must have.

    Returns:
        The vocabulary, and what is new in it.

    Raises:
        UserError: `size` is below the rows of the base.
    """
    vocabulary = list(base.vocabulary)
    free = [number for number, piece in enumerate(vocabulary) if _UNUSED.fullmatch(piece)]
    if size < len(vocabulary):
        raise UserError(
            f"vocab.size: {size} is less than the {len(vocabulary)} rows of the vocabulary to be "
            f"extended; set {len(vocabulary)} to use its {len(free)} [unusedN] rows only, or more"
        )
    free += range(len(vocabulary), size)
    rows = []
    chosen = _most_saving(base, words, len(free), min_frequency)
    uses: Counter[int] = Counter()
    for word, count in words.items():
        for piece in base.encode_word(word):
            uses[piece] += count
    for number, word in zip(free, chosen, strict=False):
        before = base.encode_word(word)
        share = sum(math.log(words[word] / uses[piece]) for piece in before) / len(before)
        # Rounded: the last digit of a logarithm is the machine's.
        rows.append(NewRow(number, word, tuple(before), round(share, 6)))
        if number < len(base.vocabulary):
            vocabulary[number] = word
        else:
            vocabulary.append(word)
    return vocabulary, Extension(len(base.vocabulary), digest(base.vocabulary), tuple(rows))


def _most_saving(
    base: WordPieceTokenizer, words: Mapping[str, int], room: int, min_frequency: int
) -> list[str]:
    """New words, each the one that saves most when those before it are there.

    A new word also splits the words that begin with it (`lockdown`: `lockdowns`), for the better
    or the worse; both count. What a word saves hardly ever grows by another's addition, so that a
    saving that was computed earlier is a bound: only the first of the queue is computed anew (the
    lazy greedy algorithm of Minoux, 1978).
    """
    ordered = sorted(word for word in words if len(word) <= MAX_WORD_LENGTH)
    wordpiece = WordPiece({piece: number for number, piece in enumerate(base.vocabulary)})
    costs = {word: _cost(wordpiece.split(word)) for word in ordered}

    def beginning_with(word: str) -> list[str]:
        start = bisect_left(ordered, word)
        return ordered[start : bisect_left(ordered, word + _LAST_CHARACTER, start)]

    def with_word(longer: str, word: str) -> int:
        """The cost of a word when another that it begins with is a piece."""
        if longer == word:
            return 1
        first = wordpiece.first(longer)
        if first is not None and len(first) > len(word):
            return costs[longer]
        rest = wordpiece.split(longer[len(word) :], continuing=True)
        return _UNKNOWN_COST if rest is None else 1 + len(rest)

    def saving(word: str) -> int:
        return sum(
            words[longer] * (costs[longer] - with_word(longer, word))
            for longer in beginning_with(word)
        )

    queue = [
        (-saving(word), word)
        for word in ordered
        if words[word] >= min_frequency and word not in wordpiece
    ]
    heapq.heapify(queue)
    chosen: list[str] = []
    while queue and len(chosen) < room:
        bound, word = heapq.heappop(queue)
        now = saving(word)
        if now <= 0:
            continue
        if -now > bound and queue and (-now, word) > queue[0]:
            heapq.heappush(queue, (-now, word))
            continue
        for longer in beginning_with(word):
            costs[longer] = with_word(longer, word)
        wordpiece.add(word, len(base.vocabulary))
        chosen.append(word)
    return chosen


def _cost(split: list[int] | None) -> int:
    return _UNKNOWN_COST if split is None else len(split)


def write_extension(directory: Path, extension: Extension) -> None:
    """Writes the file that tells a trainer of new rows."""
    text = json.dumps(asdict(extension), ensure_ascii=False, indent=1)
    (directory / _FILE).write_text(text + "\n", encoding="utf-8")


def read_extension(directory: Path) -> Extension:
    """Reads it.

    Raises:
        UserError: it is missing or damaged.
    """
    path = directory / _FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(
            NewRow(
                int(row["id"]),
                str(row["piece"]),
                tuple(map(int, row["pieces_before"])),
                float(row["log_fraction"]),
            )
            for row in values["rows"]
        )
        return Extension(int(values["base_rows"]), str(values["base_digest"]), rows)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage vocab first") from None
    except (ValueError, KeyError, TypeError) as failure:
        raise UserError(f"{path}: damaged ({failure!r}); run the stage vocab again") from None
