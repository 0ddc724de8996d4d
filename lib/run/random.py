"""Random streams keyed by (seed, purpose, indices), such as shard and pass.

No draw depends on the order of others. With one generator for several shards or passes, the output
would depend on the number of workers and on where a killed run stopped. Philox is counter-based
(Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"): every key has an independent
stream.

A purpose is part of the results: renaming one changes every draw.
"""

import hashlib

import numpy as np

_SPLITMIX_INCREMENT = np.uint64(0x9E3779B97F4A7C15)


def key(seed: int, purpose: str, *indices: int) -> int:
    """128-bit key of the stream of (seed, purpose, *indices)."""
    text = ":".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """NumPy generator of the stream of (seed, purpose, *indices)."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, *indices)))


def hashes(seed: int, purpose: str, ordinals: np.ndarray) -> np.ndarray:
    """Hashes of ordinals: SplitMix64 (Steele et al., 2014) with a keyed starting state.

    The N items with the smallest hashes are a random sample, which does not depend on the order in
    which the items are read.

    Args:
        ordinals: uint64 array of any shape: the numbers of the items.

    Returns:
        uint64 array of the same shape. Distinct ordinals have distinct hashes, because the mix is a
        bijection: "the N smallest" are always exactly N items.
    """
    start = np.uint64(key(seed, purpose) & 0xFFFFFFFFFFFFFFFF)
    mixed = start + (ordinals + np.uint64(1)) * _SPLITMIX_INCREMENT
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
