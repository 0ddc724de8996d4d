"""WordPiece tokenizer: the ids of the exported tokenizer.json, at millions of tokens per second.

Text repeats itself: WikiText-2 has 2.2 million words, of which 33 thousand are different. So one
regular expression cuts the text into raw spans, a cache holds the ids of every span that was seen
before, and only new spans take the slow, exact path through normalization and WordPiece.

For example, "The cats sat. The cats" with a vocabulary of the, cat, ##s, sat and the full stop:

    spans          "The"  " cats"  " sat"  "."  " The"  " cats"
    numbers          1       2        3     4      5       2         (0 is the newline)
    cache.ids      the | cat ##s | sat | . | the
    cache.starts   0, 0, 1, 3, 4, 5, 6         number n has ids[starts[n]:starts[n + 1]]
    result         the  cat ##s  sat  .  the  cat ##s
"""

import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np

from lib.run.errors import UserError
from lib.vocab.characters import BasicTokenizer, word_pattern
from lib.vocab.directory import CONFIG, TokenizerFiles, read_directory
from lib.vocab.settings import MAX_WORD_LENGTH, SPECIAL_TOKENS
from lib.vocab.wordpiece import CONTINUATION, WordPiece

# Bounds on memory, for texts of any length and any number of different words.
_CHUNK_CHARACTERS = 1 << 20
_MAX_CACHED_SPANS = 500_000
_NEWLINE = 0


def raw_span_finder(zero_width: tuple[str, ...] = ()) -> Callable[[str], list[str]]:
    """A function that cuts text into newlines and spans that can be normalized independently.

    "a [MASK]!" gives "a", " [MASK]", "!". The pattern tries special tokens first, because their
    opening bracket is a word by itself. A space goes with the span after it: matching it separately
    would cost more than caching every word twice, with and without the space. Zero-width characters
    that are tokens are spans by themselves.
    """
    special = "|".join(map(re.escape, (*SPECIAL_TOKENS, *zero_width)))
    return re.compile(f" ?+(?:{special}|{word_pattern(''.join(zero_width))}|\n)").findall


class _SpanCache(dict[str, int]):
    """Raw span -> its number n; the span's ids are `ids[starts[n]:starts[n + 1]]`.

    The values are numbers rather than lists of ids so that NumPy can gather the ids of a whole text
    at once. Number 0 is the newline, which has no ids.
    """

    def __init__(self, encode_span: Callable[[str], list[int]]) -> None:
        super().__init__({"\n": _NEWLINE, " \n": _NEWLINE})
        self._encode_span = encode_span
        self.ids = array("i")
        self.starts = array("q", [0, 0])

    def __missing__(self, span: str) -> int:
        self.ids.extend(self._encode_span(span.removeprefix(" ")))
        self[span] = number = len(self.starts) - 1
        self.starts.append(len(self.ids))
        return number


class WordPieceTokenizer:
    """BERT's WordPiece tokenizer.

    For every string it gives the ids of the tokenizer.json that `write_tokenizer` writes.

    Attributes:
        vocabulary: token of each id; tokens that continue a word begin with `##`.
        continuation: bool [vocabulary size], true for tokens that continue a word.
        zero_width: zero-width characters that are tokens, each by itself.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.
    """

    def __init__(
        self,
        vocabulary: list[str],
        lowercase: bool,
        strip_accents: bool,
        zero_width: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            vocabulary: one token per id. Of equal tokens the last one is used.
            zero_width: those of ZERO_WIDTH that are tokens; the others are deleted.

        Raises:
            UserError: a special token is not in the vocabulary.
        """
        self.vocabulary = vocabulary
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.zero_width = zero_width
        self._ids = {token: token_id for token_id, token in enumerate(vocabulary)}
        for token in SPECIAL_TOKENS:
            if token not in self._ids:
                raise UserError(
                    f"the vocabulary lacks the special token {token}; put it in place of an "
                    "[unused] entry, or on a line of its own at the end"
                )
        self._special_ids = {token: self._ids[token] for token in SPECIAL_TOKENS}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._special_ids.values()
        )
        self.continuation = np.array([token.startswith(CONTINUATION) for token in vocabulary])
        self.wordpiece = WordPiece(self._ids)
        self._basic = BasicTokenizer(lowercase, strip_accents)
        self._find_spans = raw_span_finder(zero_width)
        self._span_ids = self._special_ids | {each: self._ids[each] for each in zero_width}
        self._cache = _SpanCache(self._encode_span)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Reads a directory written by `write_tokenizer` or by transformers.

        Raises:
            UserError: the vocabulary or the settings are missing or damaged, a special token is
                missing, or the settings need a feature that this tokenizer does not have.
        """
        files = read_directory(directory)
        if files.lowercase is None or files.strip_accents is None:
            raise UserError(
                f"{directory / CONFIG}: missing; without it nothing states whether the tokenizer "
                "lower-cases; copy it from the original model"
            )
        return cls.of(files, files.lowercase, files.strip_accents)

    @classmethod
    def of(cls, files: TokenizerFiles, lowercase: bool, strip_accents: bool) -> Self:
        """The tokenizer of a model's files; an error names the file of the vocabulary."""
        try:
            return cls(files.vocabulary, lowercase, strip_accents, zero_width=files.zero_width)
        except UserError as error:
            raise UserError(f"{files.path}: {error}") from None

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without [CLS] and [SEP]."""
        ids: list[int] = self.encode_lines(text)[0].tolist()
        return ids

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one text as strings."""
        return [self.vocabulary[token_id] for token_id in self.encode(text)]

    def encode_lines(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of many lines at once.

        Only LF ends a line, and the last line may lack it. Other line separators, such as U+2028,
        count as spaces. "the cat\\n\\nsat" gives the ids of the, cat and sat and the offsets
        0, 2, 2, 3.

        Returns:
            ids: int32 [tokens], the lines concatenated. Signed and as wide as the model's input,
                because arithmetic on a narrow unsigned type wraps around silently.
            offsets: int64 [lines + 1]; line i is `ids[offsets[i]:offsets[i + 1]]`.
        """
        all_ids = [np.empty(0, np.int32)]
        all_offsets = [np.zeros(1, np.int64)]
        tokens = 0
        for chunk in _chunks(text):
            ids, ends = self._encode_chunk(chunk)
            all_ids.append(ids)
            all_offsets.append(ends + tokens)
            tokens += len(ids)
        if text and not text.endswith("\n"):
            all_offsets.append(np.array([tokens]))
        return np.concatenate(all_ids), np.concatenate(all_offsets)

    def _encode_chunk(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """ids: int32 [tokens]; ends: int64 [newlines], the number of tokens before each newline."""
        if len(self._cache) > _MAX_CACHED_SPANS:
            self._cache = _SpanCache(self._encode_span)
        cache = self._cache
        spans = np.fromiter(map(cache.__getitem__, self._find_spans(text)), np.int64)
        # Views, not copies: they must be released before the cache grows again.
        table = np.frombuffer(cache.ids, np.int32) if cache.ids else np.empty(0, np.int32)
        starts = np.frombuffer(cache.starts, np.int64)
        first = starts[spans]
        length = starts[spans + 1] - first
        end = np.cumsum(length)
        # Token t of the chunk, in span s, is at `first[s] + (t - tokens before s)` in the table.
        shift = np.repeat(first - end + length, length)  # [tokens]
        return table[shift + np.arange(len(shift))], end[spans == _NEWLINE]

    def _encode_span(self, span: str) -> list[int]:
        """The ids of a raw span: a special or zero-width token, one character, or a run of others.

        A run gives several words if normalization turns one of its letters into punctuation, and
        none if normalization removes all of it.
        """
        if span in self._span_ids:
            return [self._span_ids[span]]
        return [token_id for word in self._basic.words(span) for token_id in self.encode_word(word)]

    def encode_word(self, word: str) -> list[int]:
        """The ids of one word from the basic tokenizer, or [UNK] if it cannot be spelt."""
        if len(word) > MAX_WORD_LENGTH:
            return [self.unk_id]
        ids = self.wordpiece.split(word)
        return [self.unk_id] if ids is None else ids


_find_cut = re.compile("[ \n]").search


def _chunks(text: str) -> Iterator[str]:
    """The text in chunks that end with a space or newline, which no span extends across."""
    start = 0
    while start < len(text):
        match = _find_cut(text, start + _CHUNK_CHARACTERS)
        end = match.end() if match else len(text)
        yield text[start:end]
        start = end
