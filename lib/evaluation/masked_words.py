"""Which words of a test text are hidden: the same ones whatever model is asked.

Masked pieces are no measure that two vocabularies share: each cuts words in its own way. So whole
words are chosen, by a hash of the document and of the word's number in it, before anything is
lower-cased, stripped of accents or cut into pieces.
"""

import hashlib
from functools import lru_cache

import numpy as np

from lib.run import random
from lib.vocab.characters import BasicTokenizer
from lib.vocab.tokenizer import SPECIAL_TOKENS, raw_span_finder

_MAX_CACHED = 500_000


class WordFinder:
    """Cuts text into words as BERT's basic tokenizer does with both its switches off.

    With the switches on it finds the same words, changed. A word may then come out empty (marks
    alone, when accents are stripped) or as several (a letter that decomposes into punctuation),
    but no word ever begins within another. A special token that stands in the text is a word.
    """

    def __init__(self) -> None:
        self._find = raw_span_finder()
        self._basic = BasicTokenizer(lowercase=False, strip_accents=False)
        self._words_of = lru_cache(_MAX_CACHED)(self._cut)

    def words(self, line: str) -> list[str]:
        """The words of one line, in order."""
        return [word for raw in self._find(line) for word in self._words_of(raw)]

    def _cut(self, raw: str) -> list[str]:
        piece = raw.removeprefix(" ")
        return [piece] if piece in SPECIAL_TOKENS else self._basic.words(piece)


def hidden_words(document: bytes, words: int, share: float, seed: int) -> np.ndarray:
    """Which of the first words of a document are hidden, each with probability `share`.

    Args:
        document: its bytes, as split wrote them.
        words: how many words to decide about; no word's answer depends on it.

    Returns:
        bool [words].
    """
    digest = hashlib.blake2b(document, digest_size=16).hexdigest()
    draws = random.hashes(seed, f"hidden words of {digest}", np.arange(words, dtype=np.uint64))
    hidden: np.ndarray = draws < np.uint64(int(share * 2**64))
    return hidden
