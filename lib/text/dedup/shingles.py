"""Shingles: a document as the set of its runs of three words (Broder, 1997, "On the resemblance and
containment of documents").

The similarity of two documents is the Jaccard similarity of their sets of shingles:

    "Hello, WORLD! How are you?"    {hello world how, world how are, how are you}
    "hello world how is it"         {hello world how, world how is, how is it}
    similarity                      1 shared of 5 together: 0.2

Case, punctuation, white space and sentence ends do not count. In scripts without spaces between
words each character is a word, and so is each symbol and emoji.

Why words and not characters: long documents of one language share most of their short character
runs, and a word is hashed once, where a character run is hashed for each of its characters. Why
three: single words ignore order and make tweets on one topic similar; with five words, a tweet in
which one word is changed has hardly any shingle in common with the original.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from lib.run import random

WORDS = 3

# Characters hashed at once: the working arrays, about 40 bytes per character, stay near the cache.
_BLOCK_CHARACTERS = 1 << 17
# Only the beginning of a longer document counts, to bound memory: 2 MiB are a long novel.
_MAX_BYTES = 1 << 21

# Flag of a character that is a word by itself.
_ALONE = 1 << 21
# Thai and Lao, Myanmar, Khmer, kana and Han ideographs, half-width kana. Code points beyond the end
# of the table are ideographs or unassigned.
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

# Arbitrary, but odd, so that it has an inverse modulo 2^64. The weights are arbitrary, too.
_BASE = 0x9E6C63D0676A9A99
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_WEIGHTS = np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB], np.uint64)


@lru_cache(1)
def _folding() -> np.ndarray:
    """Maps each code point: uint32 [0x110000].

    To 0 if it belongs to no word, else to its case-folded form, with the flag _ALONE if it is a
    word by itself. Variation selectors (U+FE00 to U+FE0F), which choose how the preceding emoji
    looks, belong to no word.
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
    """Start of each word (int64 [words]) and its hash (uint64 [words]).

    The hash of a word is a polynomial in its characters modulo 2^64: c0 + c1 b + c2 b^2 and so on.
    One pass sums all words with the powers of the positions in the block, and the inverse power
    then moves each word to position 0: "hi" at position 7 is (h b^7 + i b^8) b^-7 = h + i b.

    Args:
        codes: uint32 [characters], code points.
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
    # Characters between two words are 0 and add nothing to the sum of the first.
    sums = np.add.reduceat(values * powers[: len(codes)], starts)
    return starts, sums * inverses[starts]


def _block(documents: list[bytes], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Shingles of a block of documents, see `shingles`; `texts` are the documents, decoded."""
    codes = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le"), "<u4")
    starts, words = _word_hashes(codes)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    bounds = np.searchsorted(starts, np.concatenate(([0], np.cumsum(lengths))))
    counts = np.diff(bounds)

    # Whether a shingle starts at a word: a run of WORDS words, or a whole document that is shorter.
    whole = np.ones(len(words), bool)
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

    A document of fewer than three words has one shingle: all of its words. A document without
    words (`:)`, `...`) has the hash of its bytes, so that it is similar to equal ones only. Only
    the first 2 MiB of a document count. Hashes do not depend on how documents fall into blocks.

    Args:
        documents: UTF-8 text.

    Yields:
        hashes: uint64 [shingles], of each document in reading order, with repetitions, and
        offsets: int64 [documents + 1]: document i of the block has the shingles
        hashes[offsets[i]:offsets[i + 1]], at least one.
    """
    batch: list[bytes] = []
    texts: list[str] = []
    size = 0
    for document in documents:
        # At most a character that the limit cuts in two is ignored.
        text = document[:_MAX_BYTES].decode(errors="ignore")
        if batch and size + len(text) + 1 > _BLOCK_CHARACTERS:
            yield _block(batch, texts)
            batch, texts, size = [], [], 0
        batch.append(document)
        texts.append(text)
        size += len(text) + 1
    if batch:
        yield _block(batch, texts)
