"""WordPiece tokenizer: the ids of the exported tokenizer.json, at millions of tokens per second."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lib.run.errors import UserError
from lib.vocab.characters import BasicTokenizer, word_pattern
from lib.vocab.export import write_tokenizer
from lib.vocab.settings import MAX_WORD_LENGTH, SPECIAL_TOKENS
from lib.vocab.tokenizer import SpanCache, Tokenizer, chunks_ending_with
from lib.vocab.wordpiece import CONTINUATION, WordPiece


def raw_span_finder(zero_width: tuple[str, ...] = ()) -> Callable[[str], list[str]]:
    """A function that cuts text into newlines and spans that can be normalized independently.

    "a [MASK]!" gives "a", " [MASK]", "!". The pattern tries special tokens first, because their
    opening bracket is a word by itself. A space goes with the span after it: matching it separately
    would cost more than caching every word twice, with and without the space. Zero-width characters
    that are tokens are spans by themselves.
    """
    special = "|".join(map(re.escape, (*SPECIAL_TOKENS, *zero_width)))
    return re.compile(f" ?+(?:{special}|{word_pattern(''.join(zero_width))}|\n)").findall


# No span extends across a space or a newline.
_chunks = chunks_ending_with("[ \n]")


class WordPieceTokenizer(Tokenizer):
    """BERT's WordPiece tokenizer.

    For every string it gives the ids of the tokenizer.json that `write_tokenizer` writes. Tokens
    that continue a word begin with `##`.
    """

    continuation: np.ndarray
    max_word_length = MAX_WORD_LENGTH

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
        self._cache = SpanCache(self._encode_span)

    def _chunks(self, text: str) -> Iterator[str]:
        return _chunks(text)

    def _encode_chunk(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        if self._cache.is_full():
            self._cache = SpanCache(self._encode_span)
        return self._cache.gather(self._find_spans(text))

    def _encode_span(self, span: str) -> list[int]:
        """The ids of a raw span: a special or zero-width token, one character, or a run of others.

        A run gives several words if normalization turns one of its letters into punctuation, and
        none if normalization removes all of it.
        """
        span = span.removeprefix(" ")
        if span in self._span_ids:
            return [self._span_ids[span]]
        return [token_id for word in self._basic.words(span) for token_id in self.encode_word(word)]

    def encode_word(self, word: str) -> list[int]:
        """The ids of one word from the basic tokenizer, or [UNK] if it cannot be spelt."""
        if len(word) > MAX_WORD_LENGTH:
            return [self.unk_id]
        ids = self.wordpiece.split(word)
        return [self.unk_id] if ids is None else ids

    def encode_words(self, words: Sequence[str]) -> Iterator[list[int]]:
        return map(self.encode_word, words)

    def text_of(self, token: str) -> str:
        return token.removeprefix(CONTINUATION)

    def display(self, token: str) -> str:
        return token

    def write(self, directory: Path, max_length: int, segments: bool, listing: bool = True) -> None:
        write_tokenizer(
            directory,
            self.vocabulary,
            self.lowercase,
            self.strip_accents,
            max_length,
            segments,
            self.zero_width,
        )
