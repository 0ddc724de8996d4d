"""Shingles: a document as the set of its runs of three words, whatever the language (Broder, 1997,
"On the resemblance and containment of documents").

Two documents are alike to the degree that they share shingles. Runs of words, not of characters:
long documents of one language share most of their short character runs, and a word is hashed once
where a character run is hashed for each of its characters. Three words: one alone ignores order
and makes tweets on one topic alike, five leave a tweet with one word changed hardly any in common.
Case, punctuation, white space and the ends of sentences do not count. In scripts that put no
spaces between words each character stands for a word, and so does each symbol and emoji.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from lib.run import random

WORDS = 3

# Characters hashed at once: the working arrays, some 40 bytes a character, stay near the cache.
_BLOCK_CHARACTERS = 1 << 17
# A longer document is judged by its beginning, so that memory is bounded: 2 MiB are a long novel.
_LONGEST_BYTES = 1 << 21

# Marks a character that is a word of its own.
_ALONE = 1 << 21
# Thai and Lao, Myanmar, Khmer, kana and Han ideographs, half-width kana; beyond the table are only
# ideographs and what is unassigned.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x312F),
    (0x31A0, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
)
_TABLE_END = 0x20000

# Odd, so that it has an inverse modulo 2^64; otherwise arbitrary, as are the weights of the words.
_BASE = 0x9E6C63D0676A9A99
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_WEIGHTS = np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB], np.uint64)


@lru_cache(1)
def _folding() -> np.ndarray:
    """For each code point: 0 in no word, its case-folded form, or that with the mark _ALONE.

    The variation selectors (U+FE00 to U+FE0F) say how the emoji before them looks: no word.
    """
    table = np.arange(0x110000, dtype=np.uint32) | _ALONE
    for code in range(_TABLE_END):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] in "ZP" or category in ("Cc", "Cf", "Cs") or 0xFE00 <= code <= 0xFE0F:
            table[code] = 0
        elif category[0] in "LMN":
            table[code] = ord(character.casefold()[0])
    for first, last in _UNSPACED:
        letters = table[first : last + 1]
        letters[letters > 0] |= _ALONE
    return table


def _powers(base: int, count: int) -> np.ndarray:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


@lru_cache(1)
def _block_powers() -> tuple[np.ndarray, np.ndarray]:
    return _powers(_BASE, _BLOCK_CHARACTERS), _powers(_BASE_INVERSE, _BLOCK_CHARACTERS)


def _word_hashes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each word starts (int64 [words]) and its hash (uint64 [words]).

    A word's hash is a polynomial in its characters modulo 2^64. All are summed in one pass with
    the powers of the block's positions; the inverse power then moves each word to position 0.
    """
    values = np.take(_folding(), codes)  # twice as fast as indexing
    inside = values > 0
    edge = values >= _ALONE
    edge[1:] |= edge[:-1] | ~inside[:-1]
    edge[:1] = True
    starts = np.flatnonzero(inside & edge)
    if not len(starts):
        return starts, np.zeros(0, np.uint64)
    if len(codes) <= _BLOCK_CHARACTERS:
        powers, inverses = _block_powers()
    else:
        powers, inverses = _powers(_BASE, len(codes)), _powers(_BASE_INVERSE, len(codes))
    # What stands between two words is 0 and adds nothing to the sum of the first.
    sums = np.add.reduceat(values * powers[: len(codes)], starts)
    return starts, sums * inverses[starts]


def _block(documents: list[bytes], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    codes = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le"), "<u4")
    starts, words = _word_hashes(codes)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    bounds = np.searchsorted(starts, np.concatenate(([0], np.cumsum(lengths))))
    counts = np.diff(bounds)

    whole = np.ones(len(words), bool)  # whether a whole run, or all of its document, starts here
    sums = words * _WEIGHTS[0]
    for distance in range(1, WORDS):
        later = np.zeros_like(words)
        later[:-distance] = words[distance:]
        short = counts <= distance
        later[bounds[:-1][short & (counts > 0)]] = 0
        whole[(bounds[1:] - distance)[~short]] = False
        sums += later * _WEIGHTS[distance]
    hashes = random.hashes(0, "shingle", sums[whole])
    counts = np.maximum(counts - (WORDS - 1), np.minimum(counts, 1))
    offsets = np.concatenate(([0], np.cumsum(counts)))

    wordless = np.flatnonzero(counts == 0)
    if len(wordless):
        digests = [hashlib.blake2b(documents[index], digest_size=8).digest() for index in wordless]
        hashes = np.insert(hashes, offsets[wordless], np.frombuffer(b"".join(digests), "<u8"))
        offsets[1:] += np.cumsum(counts == 0)
    return hashes, offsets


def shingles(documents: Iterable[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes of the shingles of documents, a block of documents at a time.

    A document of fewer than three words has one shingle: all of its words. One without a word
    (`:)`, `...`) has the hash of its bytes, so that only an equal one is like it. Only the first
    2 MiB of a document count. Hashes do not depend on how the documents fall into blocks.

    Args:
        documents: UTF-8 text.

    Yields:
        uint64 [shingles], those of each document in reading order, repeated ones included, and
        int64 [documents + 1]: document i of the block has hashes[offsets[i]:offsets[i + 1]],
        never none.
    """
    batch: list[bytes] = []
    texts: list[str] = []
    size = 0
    for document in documents:
        # Ignored is at most a character that the limit cuts in two.
        text = document[:_LONGEST_BYTES].decode(errors="ignore")
        if batch and size + len(text) + 1 > _BLOCK_CHARACTERS:
            yield _block(batch, texts)
            batch, texts, size = [], [], 0
        batch.append(document)
        texts.append(text)
        size += len(text) + 1
    if batch:
        yield _block(batch, texts)
