"""How often each word occurs in a text: all that a vocabulary is made from and judged by.

A text of a hundred million words has a million different ones, so that everything behind this
works on a small table instead of on the text.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from pathlib import Path

from lib.run.pool import shard_map
from lib.vocab.characters import BasicTokenizer
from lib.vocab.tokenizer import SPECIAL_TOKENS, raw_piece_finder

_READ_BYTES = 1 << 20
# A worker takes half a second to start; below this it is not worth one.
_PART_BYTES = 1 << 24


@dataclass
class WordCounts:
    """What was counted in a text.

    Attributes:
        words: how often each word occurs.
        in_long_sentences: how often of that in sentences over the length limit.
        characters: of all lines, white space included, line ends not.
        sentences, long_sentences: lines with and over the length limit.
    """

    words: Counter[str] = field(default_factory=Counter)
    in_long_sentences: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    sentences: int = 0
    long_sentences: int = 0

    def __add__(self, other: "WordCounts") -> "WordCounts":
        """The sum; the counters of `self` are used for it."""
        self.words.update(other.words)
        self.in_long_sentences.update(other.in_long_sentences)
        return WordCounts(
            self.words,
            self.in_long_sentences,
            self.characters + other.characters,
            self.sentences + other.sentences,
            self.long_sentences + other.long_sentences,
        )

    def of_short_sentences(self) -> dict[str, int]:
        """The counts without those of sentences over the limit."""
        if not self.in_long_sentences:
            return self.words
        return {
            word: left
            for word, count in self.words.items()
            if (left := count - self.in_long_sentences[word])
        }


def by_frequency(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """(word, count), most frequent first, equally frequent ones by code points.

    An order of its own: that of a counter tells how the text was divided among workers.
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

    def __str__(self) -> str:
        return f"{self.path} (bytes {self.start:,} to {self.stop:,})"


def count_words(
    text: Path, basic: BasicTokenizer, max_sentence_length: int | None, workers: int
) -> WordCounts:
    """Counts the words of a file of lines (UTF-8, LF); the same for any number of workers.

    Special tokens that stand in the text as such ([MASK]) are no words.

    Args:
        max_sentence_length: in characters; None for no limit.
    """
    size = text.stat().st_size
    parts = max(1, min(workers, size // _PART_BYTES))
    cuts = [0]
    with text.open("rb") as stream:
        for part in range(1, parts):
            stream.seek(size * part // parts)
            stream.readline()
            cuts.append(stream.tell())
    cuts.append(size)
    tasks = [
        _CountTask(text, start, stop, basic.lowercase, basic.strip_accents, max_sentence_length)
        for start, stop in pairwise(cuts)
    ]
    return reduce(WordCounts.__add__, shard_map(_count, tasks, workers, "count words", "parts"))


def _count(task: _CountTask) -> WordCounts:
    """Counts raw pieces first: normalising each different one once is what makes it fast."""
    find_pieces = raw_piece_finder()
    pieces: Counter[str] = Counter()
    in_long: Counter[str] = Counter()
    counts = WordCounts()
    with task.path.open("rb") as stream:
        stream.seek(task.start)
        left = task.stop - task.start
        while block := stream.read(min(left, _READ_BYTES)):
            if not block.endswith(b"\n"):
                block += stream.readline()
            left -= len(block)
            text = block.decode()
            pieces.update(find_pieces(text))
            counts.characters += len(text) - text.count("\n")
            counts.sentences += text.count("\n") + (not text.endswith("\n"))
            if task.max_sentence_length:
                for line in text.split("\n"):
                    if len(line) > task.max_sentence_length:
                        in_long.update(find_pieces(line))
                        counts.long_sentences += 1
    basic = BasicTokenizer(task.lowercase, task.strip_accents)
    counts.words = _words(pieces, basic)
    counts.in_long_sentences = _words(in_long, basic)
    return counts


def _words(pieces: Counter[str], basic: BasicTokenizer) -> Counter[str]:
    words: Counter[str] = Counter()
    for piece, count in pieces.items():
        if piece.strip(" ") not in SPECIAL_TOKENS:
            for word in basic.words(piece):
                words[word] += count
    return words
