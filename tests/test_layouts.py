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


class Run:
    """What a layout ended with; two workers must have ended with the same."""

    def __init__(self, folder: Path, layout: str, changes: dict) -> None:
        environments = [{}]
        if layout.startswith("multiworker"):
            environments = [{"TF_CONFIG": config} for config in tf_configs()]
        outputs = [folder / f"{layout}-{number}.npz" for number in range(len(environments))]
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.layout", layout, output, json.dumps(changes)],
                cwd=ROOT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for output, environment in zip(outputs, environments, strict=True)
        ]
        self._outputs = outputs

    def arrays(self) -> dict[str, np.ndarray]:
        for process in self._processes:
            output, _ = process.communicate(timeout=200)
            assert process.returncode == 0, output
        first, *others = [dict(np.load(path)) for path in self._outputs]
        for other in others:
            assert all(np.array_equal(first[name], other[name]) for name in first)
        return first


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
    """Largest relative norm of a difference over the tensors, and of key biases absolutely.

    The true gradient of a key bias is 0: what moves it is rounding.
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


@pytest.mark.parametrize(
    ("layouts", "dropout"),
    [
        (["one", "accumulated", "mirrored", "multiworker"], 0.0),
        (["accumulated", "mirrored-accumulated", "multiworker-accumulated"], 0.1),
    ],
)
def test_layouts_agree_after_twenty_steps(tmp_path, layouts, dropout):
    changes = {"dropout": dropout}
    # One after the other: each takes all cores to trace its graph.
    first, *others = [Run(tmp_path, layout, changes).arrays() for layout in layouts]
    assert first["norms"].max() > 0.5  # Clipping really took place.
    for other in others:
        relative, key_bias = differences(first, other)
        assert relative <= 1e-5 and key_bias <= 1e-6


def test_what_cannot_be_divided_is_refused():
    assert _microbatches(32, None, 1) == 1
    assert _microbatches(32, 8, 2) == 2
    with pytest.raises(UserError, match=r"batch_size: 33 .* 2 devices; set 32 or 34"):
        _microbatches(33, None, 2)
    with pytest.raises(UserError, match=r"microbatch_size: 5 should divide the 16 rows"):
        _microbatches(32, 5, 2)
