"""Which words of a test document are masked: the same ones for every model and vocabulary.

Masked tokens cannot be compared between vocabularies, because each splits words in its own way. So
whole words are chosen, by a hash of the document and of the word's number in it, before anything is
lower-cased, stripped of accents or split into wordpieces.

Example: "The cat sat." is the words The, cat, sat and "."; the hash of (seed, document, 1) falls
below `evaluate.masked_lm_prob`, so *cat* is masked. A vocabulary that has *cat* predicts one token,
one with c, ##at predicts two; both are evaluated on the same three characters.
"""

import hashlib
import re
from functools import lru_cache

import numpy as np

from lib.run import random
from lib.vocab.characters import BasicTokenizer
from lib.vocab.settings import SPECIAL_TOKENS, ZERO_WIDTH
from lib.vocab.wordpiece_tokenizer import raw_span_finder

_MAX_CACHED = 500_000
_ZERO_WIDTH_RUNS = re.compile(f"([{''.join(ZERO_WIDTH)}]+)")


class WordFinder:
    """Splits text into words as BERT's basic tokenizer does without lower-casing or stripping.

    With lower-casing or stripping, the tokenizer finds the same words in changed form. A word may
    then become empty (combining marks alone, when accents are stripped) or several words (a letter
    that decomposes into punctuation), but no word ever begins within another. A special token in
    the text is a word.
    """

    def __init__(self) -> None:
        self._find = raw_span_finder()
        self._basic = BasicTokenizer(lowercase=False, strip_accents=False)
        self._words_of = lru_cache(_MAX_CACHED)(self._split)

    def words(self, line: str) -> list[str]:
        """The words of one line, in order."""
        if not any(each in line for each in ZERO_WIDTH):
            return [word for raw in self._find(line) for word in self._words_of(raw)]
        found: list[str] = []
        before = ""
        for raw in self._find(line):
            joined, words = not raw.startswith(" "), list(self._words_of(raw))
            if words:
                if joined and words[0] not in SPECIAL_TOKENS:
                    words[0] = before + words[0]
                found += words
                before = ""
            elif joined and found and found[-1] not in SPECIAL_TOKENS:
                found[-1] += "".join(each for each in raw if each in ZERO_WIDTH)
            else:
                before += "".join(each for each in raw if each in ZERO_WIDTH)
        return found

    def _split(self, raw: str) -> list[str]:
        text = raw.removeprefix(" ")
        if text in SPECIAL_TOKENS:
            return [text]
        if not any(each in text for each in ZERO_WIDTH):
            return self._basic.words(text)
        # The basic tokenizer deletes these characters, others have tokens for them: they stay
        # with a word, of which each tokenizer makes its own tokens.
        found: list[str] = []
        between = last = ""
        for part in _ZERO_WIDTH_RUNS.split(text):
            words = self._basic.words(part)
            if not words:
                between += part if part[:1] in ZERO_WIDTH else ""
                continue
            first, *others = words
            if not found:
                found = [between + first]
            elif len(self._basic.words(last + first)) == 1:
                found[-1] += between + first
                first = last + first
            else:
                found[-1] += between
                found.append(first)
            found += others
            between, last = "", words[-1] if others else first
        if found:
            found[-1] += between
        return found


def document_digest(document: bytes) -> str:
    """Identifies a document by its bytes, as split wrote them: 32 hex digits."""
    return hashlib.blake2b(document, digest_size=16).hexdigest()


def masked_words(document: bytes, words: int, probability: float, seed: int) -> np.ndarray:
    """Which of the first words of a document are masked, each equally probably: bool [words].

    Args:
        document: its bytes, as split wrote them.
        words: how many words to decide on; the decision on a word does not depend on it.
    """
    # The purpose is part of every result: it must stay as it is.
    draws = _draws("hidden words of", document, words, seed)
    masked: np.ndarray = draws < np.uint64(int(probability * 2**64))
    return masked


def segment_draws(document: bytes, words: int, seed: int) -> np.ndarray:
    """uint64 [words]: segment B begins at the lowest draw among the words at which it can begin."""
    return _draws("segment B of", document, words, seed)


def _draws(purpose: str, document: bytes, words: int, seed: int) -> np.ndarray:
    ordinals = np.arange(words, dtype=np.uint64)
    return random.hashes(seed, f"{purpose} {document_digest(document)}", ordinals)
