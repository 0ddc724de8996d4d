"""Word counts of a text: the only input for making and for measuring a vocabulary.

A text of a hundred million words has about a million different ones, so everything after this step
works on a small table instead of on the text.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path

import numpy as np

from lib.run.errors import UserError
from lib.run.pool import shard_map
from lib.vocab.characters import BasicTokenizer
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import raw_span_finder

_READ_BYTES = 1 << 20
# Starting a worker takes half a second, which a smaller chunk of the file would not repay.
_MIN_CHUNK_BYTES = 1 << 24
_BATCH_SPANS = 1 << 17


@dataclass
class WordCounts:
    """Counts of words, characters and sentences of a text.

    Attributes:
        words: word -> count.
        in_long_sentences: word -> count within sentences over the length limit.
        characters: characters of all lines, including white space but not line ends.
        sentences: number of lines.
        long_sentences: number of lines over the length limit.
        raw_characters: counts of the characters beyond ASCII before normalization.
    """

    words: Counter[str] = field(default_factory=Counter)
    in_long_sentences: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    sentences: int = 0
    long_sentences: int = 0
    raw_characters: Counter[str] = field(default_factory=Counter)

    def update(self, other: "WordCounts") -> None:
        """Adds the counts of another text."""
        for each in fields(self):
            mine, its = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Counter):
                mine.update(its)
            else:
                setattr(self, each.name, mine + its)

    def without_long_sentences(self) -> dict[str, int]:
        """The word counts of all sentences within the length limit."""
        if not self.in_long_sentences:
            return self.words
        return {
            word: remaining
            for word, count in self.words.items()
            if (remaining := count - self.in_long_sentences[word])
        }


def by_frequency(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """(word, count) pairs, most frequent first, ties ordered by code point.

    The order of a Counter would depend on how the text was divided among workers.
    """
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True)
class _CountTask:
    path: Path
    start: int
    stop: int
    lowercase: bool
    strip_accents: bool
    max_sentence_length: int | None
    zero_width: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path} (bytes {self.start:,} to {self.stop:,})"


def count_words(
    text: Path,
    basic: BasicTokenizer,
    max_sentence_length: int | None,
    workers: int,
    zero_width: tuple[str, ...] = (),
) -> WordCounts:
    """Counts the words of a text file (UTF-8, LF) with one sentence per line.

    The result is the same for any number of workers. Special tokens that occur in the text ([MASK])
    are not counted as words.

    Args:
        max_sentence_length: in characters; None for no limit.
        zero_width: zero-width characters that are tokens, and so are counted as words.
    """
    size = text.stat().st_size
    chunks = max(1, min(workers, size // _MIN_CHUNK_BYTES))
    bounds = [0]
    with text.open("rb") as stream:
        for chunk in range(1, chunks):
            stream.seek(size * chunk // chunks)
            stream.readline()
            bounds.append(stream.tell())
    bounds.append(size)
    tasks = [
        _CountTask(
            text,
            start,
            stop,
            basic.lowercase,
            basic.strip_accents,
            max_sentence_length,
            zero_width,
        )
        for start, stop in pairwise(bounds)
    ]
    total, *others = shard_map(_count, tasks, workers, "count words", "chunks")
    for counts in others:
        total.update(counts)
    return total


def _count(task: _CountTask) -> WordCounts:
    """Counts raw spans, then normalizes each distinct span once, which is what makes it fast."""
    find_spans = raw_span_finder(task.zero_width)
    spans: Counter[str] = Counter()
    in_long: Counter[str] = Counter()
    counts = WordCounts()
    with task.path.open("rb") as stream:
        stream.seek(task.start)
        remaining = task.stop - task.start
        while block := stream.read(min(remaining, _READ_BYTES)):
            if not block.endswith(b"\n"):
                block += stream.readline()
            remaining -= len(block)
            try:
                text = block.decode()
            except UnicodeDecodeError as error:
                position = stream.tell() - len(block) + error.start
                raise UserError(
                    f"{task.path}: not UTF-8 at byte {position:,}; have the stage that wrote it "
                    "write UTF-8"
                ) from None
            spans.update(find_spans(text))
            counts.characters += len(text) - text.count("\n")
            counts.sentences += text.count("\n") + (not text.endswith("\n"))
            if task.max_sentence_length:
                for line in text.split("\n"):
                    if len(line) > task.max_sentence_length:
                        in_long.update(find_spans(line))
                        counts.long_sentences += 1
    basic = BasicTokenizer(task.lowercase, task.strip_accents)
    counts.words = _words(spans, basic, task.zero_width)
    counts.in_long_sentences = _words(in_long, basic, task.zero_width)
    counts.raw_characters = _characters(spans)
    return counts


def _characters(spans: Mapping[str, int]) -> Counter[str]:
    """Counts of the characters of spans that are not ASCII."""
    totals = np.zeros(0x110000, np.int64)
    beyond = [span for span in spans if not span.isascii()]
    for start in range(0, len(beyond), _BATCH_SPANS):
        some = beyond[start : start + _BATCH_SPANS]
        codes = np.frombuffer("".join(some).encode("utf-32-le"), "<u4")  # [characters]
        numbers, lengths = (
            np.fromiter(map(of, some), np.int64, len(some)) for of in (spans.__getitem__, len)
        )
        weights = np.repeat(numbers, lengths)  # [characters]
        # Exact: the sums stay below 2^53.
        totals += np.bincount(codes, weights, len(totals)).astype(np.int64)
    found = np.flatnonzero(totals[128:]) + 128
    return Counter({chr(code): int(totals[code]) for code in found.tolist()})


def _words(spans: Counter[str], basic: BasicTokenizer, zero_width: tuple[str, ...]) -> Counter[str]:
    words: Counter[str] = Counter()
    for span, count in spans.items():
        if (token := span.strip(" ")) in zero_width:
            words[token] += count
        elif token not in SPECIAL_TOKENS:
            for word in basic.words(span):
                words[word] += count
    return words
