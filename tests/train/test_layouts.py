"""The same batch in microbatches, on several devices, in several processes: the same training."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.run.errors import UserError
from lib.train.step import _microbatches
from tests.conftest import ROOT
from tests.helpers.layout import train_runs

_LAYOUT = "tests.helpers.layout"
# Without dropout everything agrees; with it, layouts of equal microbatches.
PLAIN, DROPPED = 0.0, 0.1


def layout(name: str, architecture: str) -> list:
    """A run as `tests.helpers.layout` takes it."""
    microbatch = 8 if "parts" in name or "dropped" in name else None
    dropout = DROPPED if "dropped" in name else PLAIN
    return [name, microbatch, dropout, "muon" if "muon" in name else "adamw", architecture]


ARCHITECTURES = pytest.mark.parametrize("architecture", ["bert", "modernbert"])
# A matrix of the first layer.
OUTPUTS = {"bert": "bert/encoder/layer_0/output/dense/kernel", "modernbert": "layers/0/mlp/Wo"}
Ended = dict[str, dict[str, np.ndarray]]


def ended(distribution: str, runs: list, folder: Path) -> Ended:
    """Final state of each run of a distribution; two workers end with the same."""
    environments = [{}]
    if distribution == "multiworker":
        environments = [{"TF_CONFIG": config} for config in tf_configs()]
    folders = [folder / f"{distribution}-{number}" for number in range(len(environments))]
    processes = []
    for mine, environment in zip(folders, environments, strict=True):
        mine.mkdir()
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", _LAYOUT, distribution, mine, json.dumps(runs)],
                cwd=ROOT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    results = {}
    for run, *_ in runs:
        first, *others = [dict(np.load(mine / f"{run}.npz")) for mine in folders]
        for other in others:
            assert all(np.array_equal(first[name], other[name]) for name in first)
        results[run] = first
    return results


def tf_configs() -> list[str]:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> tuple[float, float]:
    """The largest relative difference of a tensor by norm, and the largest of a key bias.

    The true gradient of a key bias is 0: it changes by rounding only.
    """
    assert one.keys() == other.keys()
    relative, key_bias = 0.0, 0.0
    for name, values in one.items():
        if name.startswith(("m/", "v/")):
            continue
        difference = values - other[name]
        if name.endswith("key/bias"):
            key_bias = max(key_bias, np.abs(difference).max())
        else:
            size = max(np.linalg.norm(values), 1e-12)
            relative = max(relative, np.linalg.norm(difference) / size)
    return relative, key_bias


def assert_agree(
    one: dict[str, np.ndarray], other: dict[str, np.ndarray], architecture: str
) -> None:
    """Equal but for rounding, which the division by small second moments makes larger."""
    assert one["norms"].max() > 0.5  # So gradients were clipped.
    relative, key_bias = differences(one, other)
    assert relative <= {"bert": 1e-5, "modernbert": 3e-5}[architecture] and key_bias <= 1e-6


@pytest.mark.slow
@ARCHITECTURES
def test_microbatches_train_like_the_whole_batch(architecture):
    runs = [layout(name, architecture) for name in ("whole", "parts")]
    one = dict(train_runs("one", runs, steps=6))
    assert_agree(one["whole"], one["parts"], architecture)


@pytest.mark.slow
@ARCHITECTURES
def test_all_layouts_agree_after_twenty_steps(tmp_path, architecture):
    def runs(*names: str) -> list:
        return [layout(name, architecture) for name in names]

    one = ended("one", runs("whole", "parts", "dropped", "muon", "muon parts"), tmp_path)
    assert_agree(one["whole"], one["parts"], architecture)
    assert_agree(one["muon"], one["muon parts"], architecture)
    # The optimizers differ.
    kernels = [one[run][OUTPUTS[architecture]] for run in ("whole", "muon")]
    assert np.linalg.norm(kernels[0] - kernels[1]) > 0.1 * np.linalg.norm(kernels[0])
    # Dropout has an effect.
    assert differences(one["parts"], one["dropped"])[0] > 1e-3
    for distribution in ("mirrored", "multiworker"):
        other = ended(distribution, runs("whole", "dropped", "muon parts"), tmp_path)
        assert_agree(one["whole"], other["whole"], architecture)
        assert_agree(one["dropped"], other["dropped"], architecture)
        assert_agree(one["muon"], other["muon parts"], architecture)


def test_batch_sizes_that_cannot_be_divided_are_refused():
    assert _microbatches(32, None, 1) == 1
    assert _microbatches(32, 8, 2) == 2
    with pytest.raises(UserError, match=r"batch_size: 33 .* 2 devices; set 32 or 34"):
        _microbatches(33, None, 2)
    with pytest.raises(UserError, match=r"microbatch_size: 5 should divide 16"):
        _microbatches(32, 5, 2)
