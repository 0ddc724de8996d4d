"""Random streams keyed by what they are for, so that no draw depends on another's order.

A generator that several shards or passes share would make the output depend on the number of
workers and on where a killed run stopped. Philox is counter-based (Salmon et al., 2011,
"Parallel random numbers: as easy as 1, 2, 3"): a key is a whole independent stream.
"""

import hashlib

import numpy as np

_SPLITMIX_INCREMENT = np.uint64(0x9E3779B97F4A7C15)


def key(seed: int, purpose: str, *indices: int) -> int:
    """128-bit key of the stream for `purpose` (and, say, shard and pass numbers)."""
    text = ":".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A NumPy generator on the stream keyed by (seed, purpose, *indices)."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, *indices)))


def hashes(seed: int, purpose: str, ordinals: np.ndarray) -> np.ndarray:
    """A uint64 hash of each ordinal: SplitMix64 (Steele et al., 2014) from a keyed start.

    Args:
        ordinals: uint64 array of any shape: the numbers of the items to be drawn among.

    Returns:
        uint64 array of the same shape. Distinct ordinals give distinct hashes (the mix is a
        bijection), so that "the N smallest" is always exactly N items.
    """
    start = np.uint64(key(seed, purpose) & 0xFFFFFFFFFFFFFFFF)
    mixed = start + (ordinals + np.uint64(1)) * _SPLITMIX_INCREMENT
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
