"""Random streams: keys, and hashes of ordinals."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lib.run import random


def test_random_streams_depend_on_every_part_of_their_key_and_nothing_else():
    draws = {
        name: random.generator(*key).integers(1 << 60)
        for name, key in {
            "base": (1, "mask", 0, 0),
            "again": (1, "mask", 0, 0),
            "seed": (2, "mask", 0, 0),
            "purpose": (1, "pairs", 0, 0),
            "shard": (1, "mask", 1, 0),
            "pass": (1, "mask", 0, 1),
        }.items()
    }
    assert draws.pop("again") == draws["base"]
    assert len(set(draws.values())) == len(draws)


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=200), st.integers(0, 2**40))
def test_distinct_ordinals_have_distinct_hashes(ordinals, seed):
    hashes = random.hashes(seed, "test", np.array(ordinals, np.uint64))
    assert len(np.unique(hashes)) == len(ordinals)


def test_hashes_are_uniform():
    hashes = random.hashes(7, "test", np.arange(100_000, dtype=np.uint64))
    counts = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16)
    # Chi-squared with 15 degrees of freedom: 37.7 is the 0.1 % tail.
    assert ((counts - 6250.0) ** 2 / 6250.0).sum() < 37.7
