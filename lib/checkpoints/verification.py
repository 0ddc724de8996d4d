"""Verification of an exported model: its logits are compared with the trainer's.

python -m lib.checkpoints.verification MODEL BATCH.npz

A new process reads the directory with a reference implementation of its architecture that shares
no model code with the trainer or the writer: NumPy in double precision, Hugging Face's names of
tensors and sizes, and each example of a packed sequence on its own, as users of the model will feed
it. So no attention mask or padding can be wrong in the same way on both sides.
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from lib.checkpoints.reference_bert import ReferenceBert
from lib.checkpoints.reference_modernbert import ReferenceModernBert
from lib.run.code_digest import ROOT
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.stage import exit_with_parent

MAX_SEQUENCES = 8
# Largest allowed difference, relative to the largest logit (or to 1, if all are smaller). Float32
# rounding amounts to 3e-6 in models of 12 and 24 layers, the wrong form of GELU to 2e-4.
_LIMIT = 1e-4
# Tensors in memory at a time: the 16 of a layer, and some embeddings.
_MAX_TENSORS = 20
# By `model_type` in config.json.
_REFERENCES: dict[str, type[ReferenceBert] | type[ReferenceModernBert]] = {
    "bert": ReferenceBert,
    "modernbert": ReferenceModernBert,
}
# Names of logits in the batch file, which the errors use too.
MASKED_LM, NEXT_SENTENCE = "masked_lm_logits", "next_sentence_logits"


def reference_logits(directory: Path, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits of the model in `directory`, computed in float64 by the reference forward pass.

    B sequences of S tokens, with P masked positions and K examples each (K is 1 unless packed);
    vocabulary size V.

    Args:
        directory: with `config.json` and `model.safetensors`.
        batch: integer arrays `input_ids`, `segment_ids` [B, S]; `masked_lm_positions` [B, P]; and
            `input_mask` [B, S], or for packed sequences `example_ids` [B, S] and `cls_positions`
            [B, K].

    Returns:
        float64 arrays: `masked_lm_logits` [B, P, V] and, of architectures with an NSP head,
        `next_sentence_logits` [B, K, 2]. NaN where a position is padding, which belongs to no
        example.

    Raises:
        UserError: a file is missing or damaged, or a tensor of a model for pretraining is missing.
    """
    config = read_object(directory / "config.json")
    path = directory / "model.safetensors"
    try:
        with safe_open(path, "np") as file:

            @lru_cache(_MAX_TENSORS)
            def tensor(name: str) -> np.ndarray:
                return file.get_tensor(name).astype(np.float64)

            return _logits(_REFERENCES[config["model_type"]](config, tensor), batch)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {directory} is not a model directory") from None
    except SafetensorError as failure:
        raise UserError(f"{path}: cannot be read ({failure}); train the model again") from None
    except (KeyError, ValueError, IndexError) as failure:
        raise UserError(f"{path}: does not match its config.json ({failure!r})") from None


def _logits(
    model: ReferenceBert | ReferenceModernBert, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """See `reference_logits`."""
    # 0 is padding; the positions with the same number are one example. [B, S]
    numbers = batch["example_ids" if "example_ids" in batch else "input_mask"]
    cls_positions = batch.get("cls_positions", np.zeros((len(numbers), 1), np.int64))
    # (sequence, positions of one of its examples)
    examples = [
        (sequence, np.flatnonzero(numbers[sequence] == number))
        for sequence in range(len(numbers))
        for number in np.unique(numbers[sequence])
        if number > 0
    ]
    hidden = model.encode(
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

    logits = {MASKED_LM: model.mlm_logits(at(batch["masked_lm_positions"]))}
    if isinstance(model, ReferenceBert):
        logits[NEXT_SENTENCE] = model.nsp_logits(at(cls_positions))
    return logits


def verify(
    directory: Path, batch: Mapping[str, np.ndarray], logits: Mapping[str, np.ndarray]
) -> float:
    """Compares an exported model's logits with those of the trained model.

    Args:
        directory, batch: see `reference_logits`; at most 8 sequences, none of padding alone.
        logits: as `reference_logits` returns them, but float32, from the trainer's own weights,
            computed in float32 on a CPU (accelerators may round more).

    Returns:
        The largest absolute difference between a logit of the trainer and of the reference.

    Raises:
        UserError: the difference is larger than rounding, or the directory cannot be read.
    """
    if len(batch["input_ids"]) > MAX_SEQUENCES:
        raise ValueError(f"at most {MAX_SEQUENCES} sequences; the reference is exact, not fast")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "batch.npz")
        np.savez(path, allow_pickle=False, **{**batch, **logits})
        command = [sys.executable, "-m", "lib.checkpoints.verification"]
        process = subprocess.run(
            [*command, directory.resolve(), path], cwd=ROOT, stdout=subprocess.PIPE, text=True
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
    """Prints as JSON, for each head, the largest difference and the largest reference logit."""
    exit_with_parent(signal.SIGKILL)
    with np.load(batch) as file:
        arrays = dict(file)
    trained = {name: arrays.pop(name) for name in (MASKED_LM, NEXT_SENTENCE) if name in arrays}
    try:
        references = reference_logits(Path(directory), arrays)
    except UserError as error:
        sys.exit(f"verification: error: {error}")
    shapes = [{name: each.shape for name, each in all_.items()} for all_ in (trained, references)]
    if shapes[0] != shapes[1]:
        sys.exit(
            f"verification: error: the trained model has logits {shapes[0]}, the written one "
            f"{shapes[1]}"
        )
    found = {
        name: [float(np.abs(each).max()) for each in (trained[name] - reference, reference)]
        for name, reference in references.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
