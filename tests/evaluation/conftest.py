"""Test text for the tests of this folder."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.held_out import write_shard

_WORDS = ["The", "bridge", "over", "a", "river", "Watering", "stones", "3", "1987", "in", "Izmir"]


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> list[Path]:
    """Two files of 60 documents of one to six sentences."""
    folder, draw = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)

    def document() -> str:
        sentences = [
            " ".join(draw.choice(_WORDS, int(draw.integers(3, 20)))) + "."
            for _ in range(draw.integers(1, 7))
        ]
        return "\n".join(sentences)

    return [write_shard(folder, [document() for _ in range(60)], number) for number in range(2)]
