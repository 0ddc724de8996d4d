"""Verification of an exported model: its logits are compared with the trainer's.

python -m lib.checkpoints.verification MODEL BATCH.npz

A new process reads the directory with a reference implementation of BERT that shares no model code
with the trainer or the writer: NumPy in double precision, Hugging Face's tensor names, and each
example of a packed sequence on its own, as users of the model will feed it. So no attention mask or
padding can be wrong in the same way on both sides.
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
# Largest allowed difference, relative to the largest logit (or to 1, if all are smaller). Float32
# rounding amounts to 3e-6 in models of 12 and 24 layers, the wrong form of GELU to 2e-4.
_LIMIT = 1e-4
# Their names in the batch file, which the errors use too.
_LOGITS = ("masked_lm_logits", "next_sentence_logits")

TensorReader = Callable[[str], np.ndarray]
"""Reads a tensor by its Hugging Face name, as float64."""

# erf and its derivative at the points of a grid; beyond 6, erf is 1 in double precision.
_STEP, _END = 1 / 512, 6.0
_GRID = np.arange(0, _END + _STEP, _STEP)
_ERF = np.array([math.erf(point) for point in _GRID])
_SLOPE = 2 / math.sqrt(math.pi) * np.exp(-(_GRID**2))


def erf(values: np.ndarray) -> np.ndarray:
    """The error function, accurate to 1e-12: a Taylor series around the nearest grid point.

    NumPy has none, and `math.erf` takes one number at a time.
    """
    magnitudes = np.minimum(np.abs(values), _END)
    # NaN gets an arbitrary grid point and stays NaN.
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
    directory: Path, batch: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the model in `directory`, computed in float64 by the reference forward pass.

    B sequences of S tokens, with P masked positions and K examples each (K is 1 unless packed);
    vocabulary size V.

    Args:
        directory: with `config.json` and `model.safetensors`.
        batch: integer arrays `input_ids`, `segment_ids` [B, S]; `masked_lm_positions` [B, P]; and
            `input_mask` [B, S], or for packed sequences `example_ids` [B, S] and `cls_positions`
            [B, K].

    Returns:
        float64 arrays [B, P, V] and [B, K, 2]: MLM and NSP logits. NaN where a position is padding,
        which belongs to no example.

    Raises:
        UserError: a file is missing or damaged, or a tensor of a BERT for pretraining is missing.
    """
    config = read_object(directory / "config.json")
    path = directory / "model.safetensors"
    try:
        with safe_open(path, "np") as file:
            return _logits(config, lambda name: file.get_tensor(name).astype(np.float64), batch)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {directory} is not a model directory") from None
    except SafetensorError as failure:
        raise UserError(f"{path}: cannot be read ({failure}); train the model again") from None
    except (KeyError, ValueError, IndexError) as failure:
        raise UserError(f"{path}: does not match its config.json ({failure!r})") from None


def _logits(
    config: Mapping[str, Any], tensor: TensorReader, batch: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """See `reference_logits`."""
    bert = _ReferenceBert(config, tensor)
    # 0 is padding; the positions with the same number are one example. [B, S]
    numbers = batch["example_ids" if "example_ids" in batch else "input_mask"]
    masked_positions = batch["masked_lm_positions"]
    cls_positions = batch.get("cls_positions", np.zeros((len(numbers), 1), np.int64))
    # (sequence, positions of one of its examples)
    examples = [
        (sequence, np.flatnonzero(numbers[sequence] == number))
        for sequence in range(len(numbers))
        for number in np.unique(numbers[sequence])
        if number > 0
    ]
    hidden = bert.encode(
        [
            (batch["input_ids"][sequence, positions], batch["segment_ids"][sequence, positions])
            for sequence, positions in examples
        ]
    )
    # Hidden states of all token positions, NaN for padding. [B, S, H]
    states = np.full((*numbers.shape, hidden[0].shape[1]), np.nan)
    for (sequence, positions), values in zip(examples, hidden, strict=True):
        states[sequence, positions] = values

    def at(positions: np.ndarray) -> np.ndarray:
        # [B, S, H], [B, P] -> [B, P, H]
        return np.take_along_axis(states, positions[..., None].astype(np.intp), axis=1)

    return bert.mlm_logits(at(masked_positions)), bert.nsp_logits(at(cls_positions))


class _ReferenceBert:
    """BERT as in the paper (Devlin et al., 2019), with one layer in memory at a time.

    Shapes: L tokens of an example, H hidden size, N attention heads, D = H / N, V vocabulary size.
    """

    def __init__(self, config: Mapping[str, Any], tensor: TensorReader) -> None:
        self._config, self._tensor = config, tensor
        self._activation = _ACTIVATIONS[config["hidden_act"]]
        self._heads = config["num_attention_heads"]
        self._epsilon = config.get("layer_norm_eps", 1e-12)

    def encode(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """Last hidden states [L, H] of each example, given as (token ids [L], segment ids [L])."""
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

    def mlm_logits(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H] -> [..., V]"""
        scope = "cls.predictions"
        states = self._activation(self._dense(f"{scope}.transform.dense")(hidden))
        states = self._norm(f"{scope}.transform.LayerNorm")(states)
        table = self._tensor("bert.embeddings.word_embeddings.weight")
        # [..., H] x [H, V] -> [..., V]
        return states @ table.T + self._tensor(f"{scope}.bias")

    def nsp_logits(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H], the states of [CLS] -> [..., 2]"""
        pooled = np.tanh(self._dense("bert.pooler.dense")(hidden))
        return self._dense("cls.seq_relationship")(pooled)

    @staticmethod
    def _each(
        function: Callable[[np.ndarray], np.ndarray], arrays: list[np.ndarray]
    ) -> list[np.ndarray]:
        return [function(array) for array in arrays]

    def _dense(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        weight, bias = self._tensor(f"{scope}.weight"), self._tensor(f"{scope}.bias")
        # weight is [outputs, inputs].
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
            # [L, H] -> [L, N, D] -> [N, L, D]
            queries, keys, values = (
                part(hidden).reshape(shape).swapaxes(0, 1) for part in (query, key, value)
            )
            # [N, L, D] x [N, D, L] -> [N, L, L]
            scores = queries @ keys.swapaxes(1, 2) / math.sqrt(shape[2])
            probabilities = np.exp(scores - scores.max(-1, keepdims=True))
            probabilities /= probabilities.sum(-1, keepdims=True)
            # [N, L, D] -> [L, N, D] -> [L, H]
            context = (probabilities @ values).swapaxes(0, 1).reshape(length, size)
            return norm(hidden + output(context))

        return attention

    def _feed_forward(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        inner = self._dense(f"{scope}.intermediate.dense")
        outer, norm = self._dense(f"{scope}.output.dense"), self._norm(f"{scope}.output.LayerNorm")
        return lambda hidden: norm(hidden + outer(self._activation(inner(hidden))))


def verify(
    directory: Path,
    batch: Mapping[str, np.ndarray],
    masked_lm_logits: np.ndarray,
    next_sentence_logits: np.ndarray,
) -> float:
    """Compares an exported model's logits with those of the trained model.

    Args:
        directory, batch: see `reference_logits`; at most 8 sequences, none of padding alone.
        masked_lm_logits: float32 [B, P, V], from the trainer's own weights, computed in float32 on
            a CPU (accelerators may round more).
        next_sentence_logits: float32 [B, K, 2], computed in the same way.

    Returns:
        The largest absolute difference between a logit of the trainer and of the reference.

    Raises:
        UserError: the difference is larger than rounding, or the directory cannot be read.
    """
    if len(batch["input_ids"]) > MAX_SEQUENCES:
        raise ValueError(f"at most {MAX_SEQUENCES} sequences; the reference is exact, not fast")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "batch.npz")
        logits = dict(zip(_LOGITS, (masked_lm_logits, next_sentence_logits), strict=True))
        np.savez(path, allow_pickle=False, **{**batch, **logits})
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
            f"{directory}: the written model cannot be read (see the line above); run the stage "
            "again"
        )
    found = json.loads(process.stdout)
    for name, (difference, largest) in found.items():
        # Negated, so that NaN fails too.
        if not difference <= _LIMIT * max(1.0, largest):
            raise UserError(
                f"{directory}: the written model differs from the trained one: its "
                f"{name.replace('_', ' ')} differ by up to {difference:.3g} (the largest is "
                f"{largest:.3g}); run the stage again, and do not use the model if this error stays"
            )
    return max(float(difference) for difference, _ in found.values())


def main(directory: str, batch: str) -> None:
    """Prints as JSON, for both heads, the largest difference and the largest reference logit."""
    exit_with_parent(signal.SIGKILL)
    with np.load(batch) as file:
        arrays = dict(file)
    trained = {name: arrays.pop(name) for name in _LOGITS}
    try:
        references = reference_logits(Path(directory), arrays)
    except UserError as error:
        sys.exit(f"verification: error: {error}")
    found = {}
    for (name, logits), reference in zip(trained.items(), references, strict=True):
        if logits.shape != reference.shape:
            sys.exit(
                f"verification: error: {name} have shape {logits.shape}, the reference has "
                f"{reference.shape}"
            )
        found[name] = [float(np.abs(each).max()) for each in (logits - reference, reference)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
