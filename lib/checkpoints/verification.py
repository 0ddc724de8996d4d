"""Whether a model directory, as written, computes what was trained.

python -m lib.checkpoints.verification MODEL ROWS.npz

The directory is read again in a new process, by a forward pass that shares nothing with the code
that it checks: NumPy in double precision, Hugging Face's names, and every example of a packed row
by itself, as those who use the model will give it, so that there is no mask to be wrong.
"""

import json
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.stage import exit_with_parent

MAX_SEQUENCES = 8
# Largest difference allowed, as a share of the largest logit (or of 1, if all are smaller). The
# rounding of float32 comes to 3e-6 in models of 12 and 24 layers, the wrong form of gelu to 2e-4.
_LIMIT = 1e-4
# What they are called in the file of rows.
_LOGITS = ("masked_lm_logits", "next_sentence_logits")

Tensor = Callable[[str], np.ndarray]
"""Gives a tensor of the model by Hugging Face's name, as float64."""

# erf and its derivative at the points of a grid; beyond 6 it is 1 to the last bit.
_STEP, _END = 1 / 512, 6.0
_GRID = np.arange(0, _END + _STEP, _STEP)
_ERF = np.array([math.erf(point) for point in _GRID])
_SLOPE = 2 / math.sqrt(math.pi) * np.exp(-(_GRID**2))


def erf(values: np.ndarray) -> np.ndarray:
    """The error function, to 1e-12: Taylor's series from the nearest point of a grid.

    NumPy has none, and `math.erf` takes one number at a time.
    """
    magnitudes = np.minimum(np.abs(values), _END)
    # NaN starts anywhere and stays NaN.
    nearest = np.rint(np.nan_to_num(magnitudes) / _STEP).astype(np.intp)
    start = _GRID[nearest]
    beyond = magnitudes - start
    series = 1 - start * beyond + (2 * start**2 - 1) * beyond**2 / 3
    return np.copysign(_ERF[nearest] + _SLOPE[nearest] * beyond * series, values)


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def reference_logits(
    directory: Path, rows: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What the model in `directory` says of some rows, computed slowly and exactly.

    B rows, S tokens and P predictions a row, K examples a row (1 unless packed), V vocabulary.

    Args:
        directory: with `config.json` and `model.safetensors`.
        rows: integers `input_ids`, `segment_ids` [B, S]; `masked_lm_positions` [B, P]; and
            `input_mask` [B, S], or for packed rows `example_ids` [B, S] and `cls_positions` [B, K].

    Returns:
        float64 arrays [B, P, V] and [B, K, 2]: MLM and NSP logits. NaN where a position is one of
        padding, which belongs to no example.

    Raises:
        UserError: a file is missing or damaged, or a tensor of a BERT for pretraining is missing.
    """
    config = read_object(directory / "config.json")
    path = directory / "model.safetensors"
    try:
        with safe_open(path, "np") as file:
            return _logits(config, lambda name: file.get_tensor(name).astype(np.float64), rows)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {directory} is not a model directory") from None
    except SafetensorError as failure:
        raise UserError(f"{path}: cannot be read ({failure}); train the model again") from None
    except (KeyError, ValueError, IndexError) as failure:
        raise UserError(f"{path}: does not fit its config.json ({failure!r})") from None


def _logits(
    config: Mapping[str, Any], tensor: Tensor, rows: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    bert = _Bert(config, tensor)
    numbers = rows["example_ids" if "example_ids" in rows else "input_mask"]
    predictions = rows["masked_lm_positions"]
    firsts = rows.get("cls_positions", np.zeros((len(numbers), 1), np.int64))
    examples = [
        (row, np.flatnonzero(numbers[row] == number))
        for row in range(len(numbers))
        for number in np.unique(numbers[row])
        if number > 0
    ]
    hidden = bert.encode(
        [
            (rows["input_ids"][row, columns], rows["segment_ids"][row, columns])
            for row, columns in examples
        ]
    )
    # Every cell of the rows; NaN in the padding.
    cells = np.full((*numbers.shape, hidden[0].shape[1]), np.nan)
    for (row, columns), states in zip(examples, hidden, strict=True):
        cells[row, columns] = states

    def at(columns: np.ndarray) -> np.ndarray:
        return np.take_along_axis(cells, columns[..., None].astype(np.intp), axis=1)

    return bert.masked_lm(at(predictions)), bert.next_sentence(at(firsts))


class _Bert:
    """Devlin et al. (2019), written down from the paper; one layer in memory at a time."""

    def __init__(self, config: Mapping[str, Any], tensor: Tensor) -> None:
        self._config, self._tensor = config, tensor
        self._activation = _ACTIVATIONS[config["hidden_act"]]
        self._heads = config["num_attention_heads"]
        self._epsilon = config.get("layer_norm_eps", 1e-12)

    def encode(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """(token ids [L], segments [L]) of each example -> its last hidden states [L, H]."""
        embeddings = "bert.embeddings"
        words, segments, positions = (
            self._tensor(f"{embeddings}.{kind}_embeddings.weight")
            for kind in ("word", "token_type", "position")
        )
        hidden = [words[ids] + segments[types] + positions[: len(ids)] for ids, types in examples]
        hidden = self._each(self._norm(f"{embeddings}.LayerNorm"), hidden)
        for number in range(self._config["num_hidden_layers"]):
            layer = f"bert.encoder.layer.{number}"
            attended = self._each(self._attention(f"{layer}.attention"), hidden)
            hidden = self._each(self._feed_forward(layer), attended)
        return hidden

    def masked_lm(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H] -> [..., V]."""
        scope = "cls.predictions"
        states = self._activation(self._dense(f"{scope}.transform.dense")(hidden))
        states = self._norm(f"{scope}.transform.LayerNorm")(states)
        table = self._tensor("bert.embeddings.word_embeddings.weight")
        return states @ table.T + self._tensor(f"{scope}.bias")

    def next_sentence(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H] of [CLS] -> [..., 2]."""
        pooled = np.tanh(self._dense("bert.pooler.dense")(hidden))
        return self._dense("cls.seq_relationship")(pooled)

    @staticmethod
    def _each(
        function: Callable[[np.ndarray], np.ndarray], arrays: list[np.ndarray]
    ) -> list[np.ndarray]:
        return [function(array) for array in arrays]

    def _dense(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        weight, bias = self._tensor(f"{scope}.weight"), self._tensor(f"{scope}.bias")
        return lambda values: values @ weight.T + bias

    def _norm(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        weight, bias = self._tensor(f"{scope}.weight"), self._tensor(f"{scope}.bias")

        def norm(values: np.ndarray) -> np.ndarray:
            mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
            return (values - mean) / np.sqrt(variance + self._epsilon) * weight + bias

        return norm

    def _attention(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        query, key, value = (
            self._dense(f"{scope}.self.{part}") for part in ("query", "key", "value")
        )
        output, norm = self._dense(f"{scope}.output.dense"), self._norm(f"{scope}.output.LayerNorm")

        def attention(hidden: np.ndarray) -> np.ndarray:
            length, size = hidden.shape
            shape = length, self._heads, size // self._heads
            queries, keys, values = (
                part(hidden).reshape(shape).swapaxes(0, 1) for part in (query, key, value)
            )
            scores = queries @ keys.swapaxes(1, 2) / math.sqrt(shape[2])
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            context = (shares @ values).swapaxes(0, 1).reshape(length, size)
            return norm(hidden + output(context))

        return attention

    def _feed_forward(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        inner = self._dense(f"{scope}.intermediate.dense")
        outer, norm = self._dense(f"{scope}.output.dense"), self._norm(f"{scope}.output.LayerNorm")
        return lambda hidden: norm(hidden + outer(self._activation(inner(hidden))))


def verify(
    directory: Path,
    rows: Mapping[str, np.ndarray],
    masked_lm_logits: np.ndarray,
    next_sentence_logits: np.ndarray,
) -> float:
    """Compares a written model with the one that was trained.

    Args:
        directory, rows: see `reference_logits`; at most 8 real rows, none of padding alone.
        masked_lm_logits: float32 [B, P, V], of the trainer's own weights, computed in float32 on
            a CPU (accelerators may round more).
        next_sentence_logits: float32 [B, K, 2], likewise.

    Returns:
        The largest absolute difference between a logit of theirs and of the reference.

    Raises:
        UserError: the difference is more than rounding, or the directory cannot be read.
    """
    if len(rows["input_ids"]) > MAX_SEQUENCES:
        raise ValueError(f"at most {MAX_SEQUENCES} rows; this pass is exact, not fast")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npz")
        logits = dict(zip(_LOGITS, (masked_lm_logits, next_sentence_logits), strict=True))
        np.savez(path, allow_pickle=False, **{**rows, **logits})
        process = subprocess.run(
            [
                sys.executable,
                "-m",
                "lib.checkpoints.verification",
                str(directory.resolve()),
                str(path),
            ],
            cwd=Path(__file__).resolve().parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
    if process.returncode:
        raise UserError(
            f"{directory}: cannot be read again as it was written; the lines above say why"
        )
    found = json.loads(process.stdout)
    for name, (difference, largest) in found.items():
        # NaN is not small enough either.
        if not difference <= _LIMIT * max(1.0, largest):
            raise UserError(
                f"{directory}: the written model does not compute what was trained: its "
                f"{name.replace('_', ' ')} differ by {difference:.3g} where the largest is "
                f"{largest:.3g}; run the stage again, and do not use a model for which that stays"
            )
    return max(float(difference) for difference, _ in found.values())


def main(directory: str, rows: str) -> None:
    """Prints as JSON of both kinds of logits the largest difference, and the largest of them."""
    exit_with_parent(signal.SIGKILL)
    with np.load(rows) as file:
        arrays = dict(file)
    trained = {name: arrays.pop(name) for name in _LOGITS}
    try:
        references = reference_logits(Path(directory), arrays)
    except UserError as error:
        sys.exit(f"verification: error: {error}")
    found = {}
    for (name, logits), reference in zip(trained.items(), references, strict=True):
        if logits.shape != reference.shape:
            sys.exit(f"verification: error: {name} {logits.shape} should be {reference.shape}")
        found[name] = [float(np.abs(each).max()) for each in (logits - reference, reference)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
