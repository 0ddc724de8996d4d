"""Tokenizer interface, and the cache of spans that makes tokenizers fast.

Text repeats itself: WikiText-2 has 2.2 million words, of which 33 thousand are different. So one
regular expression cuts the text into raw spans, a cache holds the ids of every span that was seen
before, and only new spans take the slow, exact path of the tokenizer.

For example, "The cats sat. The cats" with a WordPiece vocabulary of the, cat, ##s, sat and the full
stop:

    spans          "The"  " cats"  " sat"  "."  " The"  " cats"
    numbers          1       2        3     4      5       2         (0 is the newline)
    cache.ids      the | cat ##s | sat | . | the
    cache.starts   0, 0, 1, 3, 4, 5, 6         number n has ids[starts[n]:starts[n + 1]]
    result         the  cat ##s  sat  .  the  cat ##s
"""

import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np

# Added to the id of a token that continues a word, by tokenizers whose ids alone do not say so. No
# vocabulary is as large.
CONTINUES_WORD = 1 << 30

# Bounds on memory, for texts of any length and any number of different words.
_CHUNK_CHARACTERS = 1 << 20
_MAX_CACHED_SPANS = 500_000
_MAX_CACHED_IDS = 1 << 23
_NEWLINE = 0


class SpanCache(dict[str, int]):
    """Raw span -> its number n; the span's ids are `ids[starts[n]:starts[n + 1]]`.

    The values are numbers rather than lists of ids so that NumPy can gather the ids of a whole text
    at once. Number 0 is the newline, which has no ids.
    """

    def __init__(self, encode_span: Callable[[str], Iterable[int]]) -> None:
        super().__init__({"\n": _NEWLINE, " \n": _NEWLINE})
        self._encode_span = encode_span
        self.ids = array("i")
        self.starts = array("q", [0, 0])

    def __missing__(self, span: str) -> int:
        self.ids.extend(self._encode_span(span))
        self[span] = number = len(self.starts) - 1
        self.starts.append(len(self.ids))
        return number

    def add(self, spans: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> None:
        """Adds new spans at once.

        Args:
            ids: int32 [tokens], those of all spans, one after the other.
            lengths: int64 [spans]: tokens per span.
        """
        self.update(zip(spans, count(len(self.starts) - 1), strict=False))
        self.starts.frombytes((np.cumsum(lengths) + len(self.ids)).tobytes())
        self.ids.frombytes(ids.tobytes())

    def is_full(self) -> bool:
        return len(self) > _MAX_CACHED_SPANS or len(self.ids) > _MAX_CACHED_IDS

    def gather(self, spans: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """ids: int32 [tokens]; ends: int64 [newlines], the number of tokens before each newline."""
        numbers = np.fromiter(map(self.__getitem__, spans), np.int64)
        # Views, not copies: they must be released before the cache grows again.
        table = np.frombuffer(self.ids, np.int32) if self.ids else np.empty(0, np.int32)
        starts = np.frombuffer(self.starts, np.int64)
        first = starts[numbers]
        length = starts[numbers + 1] - first
        end = np.cumsum(length)
        # Token t of the text, in span s, is at `first[s] + (t - tokens before s)` in the table.
        shift = np.repeat(first - end + length, length)  # [tokens]
        return table[shift + np.arange(len(shift))], end[numbers == _NEWLINE]


class Tokenizer(ABC):
    """A tokenizer with its vocabulary.

    Attributes:
        vocabulary: token of each id.
        lowercase, strip_accents: what its normalization does.
        zero_width: zero-width characters that are tokens, each by itself.
        pad_id, cls_id, sep_id, mask_id: ids of the special tokens.
        unk_id: the same; -1 if every text has a spelling in this vocabulary.
        continuation: bool [vocabulary size], true for tokens that continue a word; None if that
            depends on the text around a token.
        max_word_length: in characters; longer words are unknown. None: no limit.
    """

    vocabulary: list[str]
    lowercase: bool
    strip_accents: bool
    zero_width: tuple[str, ...] = ()
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    continuation: np.ndarray | None
    max_word_length: int | None = None

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without special tokens around it."""
        ids: list[int] = self.encode_lines(text)[0].tolist()
        return ids

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one text as strings."""
        return [self.vocabulary[token_id] for token_id in self.encode(text)]

    def encode_lines(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of many lines at once.

        Only LF ends a line, and the last line may lack it. Other line separators, such as U+2028,
        are part of a line. "the cat\\n\\nsat" gives the ids of the, cat and sat and the offsets
        0, 2, 2, 3.

        Returns:
            ids: int32 [tokens], the lines concatenated. Signed and as wide as the model's input,
                because arithmetic on a narrow unsigned type wraps around silently.
            offsets: int64 [lines + 1]; line i is `ids[offsets[i]:offsets[i + 1]]`.
        """
        ids, offsets = self.encode_marked_lines(text)
        return ids if self.continuation is not None else ids & ~CONTINUES_WORD, offsets

    def encode_marked_lines(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """As `encode_lines`; without `continuation`, ids include the mark CONTINUES_WORD."""
        all_ids = [np.empty(0, np.int32)]
        all_offsets = [np.zeros(1, np.int64)]
        tokens = 0
        for chunk in self._chunks(text):
            ids, ends = self._encode_chunk(chunk)
            all_ids.append(ids)
            all_offsets.append(ends + tokens)
            tokens += len(ids)
        if text and not text.endswith("\n"):
            all_offsets.append(np.array([tokens]))
        return np.concatenate(all_ids), np.concatenate(all_offsets)

    def continues_word(self, marked_ids: np.ndarray) -> np.ndarray:
        """Whether each of the ids of `encode_marked_lines` continues a word: bool, same shape."""
        if self.continuation is None:
            return (marked_ids & CONTINUES_WORD) != 0
        return self.continuation.take(marked_ids)

    @abstractmethod
    def _chunks(self, text: str) -> Iterator[str]:
        """The text in chunks that can be encoded independently."""

    @abstractmethod
    def _encode_chunk(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """See `SpanCache.gather`; the ids are marked."""

    @abstractmethod
    def encode_words(self, words: Sequence[str]) -> Iterator[list[int]]:
        """The ids of single words, each as after a space in the middle of a line."""

    @abstractmethod
    def text_of(self, token: str) -> str:
        """The text that a token of the vocabulary stands for, without marks of word boundaries."""

    def display(self, token: str) -> str:
        """A token as readers should see it."""
        return self.text_of(token)

    @abstractmethod
    def write(self, directory: Path, max_length: int, segments: bool, listing: bool = True) -> None:
        """Writes the files that Hugging Face loads into an existing folder.

        Args:
            max_length: maximum number of tokens of the model's input, special tokens included.
            segments: whether the model is given `token_type_ids`.
            listing: also write vocab.txt, a token per line. WordPiece always has it.
        """


def chunks_ending_with(pattern: str) -> Callable[[str], Iterator[str]]:
    """A function that cuts text into chunks that end with a match, except for the last one."""
    find_cut = re.compile(pattern).search

    def chunks(text: str) -> Iterator[str]:
        start = 0
        while start < len(text):
            match = find_cut(text, start + _CHUNK_CHARACTERS)
            end = match.end() if match else len(text)
            yield text[start:end]
            start = end

    return chunks
