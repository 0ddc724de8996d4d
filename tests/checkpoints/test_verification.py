"""Verification of exported models: a reference forward pass against the trainer's logits."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lib.checkpoints.huggingface import write_model
from lib.checkpoints.verification import erf, reference_logits, verify
from lib.model.bert import encode, masked_lm_logits, next_sentence_logits
from lib.model.bert_config import BertConfig
from lib.model.initialization import initial_values
from lib.run.errors import UserError

SIZES = BertConfig(
    vocab_size=60,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    hidden_act="gelu",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=20,
)


def random_weights(config: BertConfig, seed: int = 1) -> dict[str, np.ndarray]:
    """Random weights with nonzero biases and gammas other than 1, so that every tensor matters."""
    draw = np.random.default_rng(seed)
    return {
        name: (array + draw.normal(0, 0.2, array.shape)).astype(np.float32)
        for name, array in initial_values(config, seed).items()
    }


def random_batch(config: BertConfig, packed: bool) -> dict[str, np.ndarray]:
    """Four sequences of up to 18 tokens; if packed, three examples in each."""
    draw = np.random.default_rng(7)
    starts, length = np.array([0, 6, 11]) if packed else np.array([0]), 18
    ends = length - draw.integers(0, 4, 4)
    positions = np.arange(length)
    real = positions < ends[:, None]
    number = np.searchsorted(starts, positions, side="right")
    batch = {
        "input_ids": draw.integers(1, config.vocab_size, (4, length)) * real,
        "segment_ids": draw.integers(0, config.type_vocab_size, (4, length)) * real,
        "masked_lm_positions": draw.integers(0, ends[:, None], (4, 5)),
    }
    if not packed:
        return {**batch, "input_mask": real.astype(np.uint8)}
    return {
        **batch,
        "example_ids": (number * real).astype(np.uint8),
        "position_ids": (positions - starts[number - 1]) * real,
        "cls_positions": np.tile(starts, (4, 1)),
    }


def trainer_logits(
    config: BertConfig, weights: dict[str, np.ndarray], batch: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The trainer's logits, in float32."""
    tensors = {name: tf.constant(values, tf.int32) for name, values in batch.items()}
    hidden = encode(
        weights,
        config,
        tensors["input_ids"],
        tensors["example_ids" if "example_ids" in batch else "input_mask"],
        tensors["segment_ids"],
        position_ids=tensors.get("position_ids"),
    )
    first = tensors.get("cls_positions", tf.zeros([len(batch["input_ids"]), 1], tf.int32))
    masked, cls = (
        tf.gather(hidden, positions, batch_dims=1)
        for positions in (tensors["masked_lm_positions"], first)
    )
    return (
        masked_lm_logits(weights, config, masked).numpy(),
        next_sentence_logits(weights, cls).numpy(),
    )


@given(st.floats(-8, 8))
def test_erf_equals_the_standard_librarys(value):
    assert float(erf(np.array([value]))[0]) == pytest.approx(math.erf(value), abs=1e-12)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu"},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
        {"type_vocab_size": 16, "layer_norm_eps": 1e-3, "num_attention_heads": 1},
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_reference_logits_equal_the_trainers(tmp_path, changes, packed):
    config = replace(SIZES, **changes)
    weights, batch = random_weights(config), random_batch(config, packed)
    write_model(tmp_path, config, weights, {"pad_token_id": 0})
    expected = reference_logits(tmp_path, batch)
    for found, reference in zip(trainer_logits(config, weights, batch), expected, strict=True):
        assert found.shape == reference.shape
        np.testing.assert_allclose(found, reference, atol=2e-5 * np.abs(reference).max())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict, tuple[np.ndarray, np.ndarray]]:
    """A model directory, a batch, and the trainer's logits for it."""
    folder = tmp_path_factory.mktemp("written")
    weights, batch = random_weights(SIZES), random_batch(SIZES, True)
    write_model(folder, SIZES, weights, {"pad_token_id": 0})
    return folder, batch, trainer_logits(SIZES, weights, batch)


def changed(folder: Path, target: Path, changes: dict[str, np.ndarray], **config: object) -> Path:
    """A copy of a model directory with other tensors or another config."""
    values = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **config}))
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    kept = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_verification_passes_for_the_trained_model(written):
    folder, batch, logits = written
    scale = max(np.abs(each).max() for each in logits)
    assert 0 < verify(folder, batch, *logits) < 1e-5 * scale


def test_damage_to_any_tensor_changes_the_logits(written, tmp_path):
    # In this process: a new process per tensor would take minutes.
    folder, batch, _ = written
    expected = reference_logits(folder, batch)
    for name, tensor in load_file(folder / "model.safetensors").items():
        found = reference_logits(changed(folder, tmp_path, {name: tensor[::-1]}), batch)
        worst = max(
            np.abs(one - other).max() / max(1, np.abs(other).max())
            for one, other in zip(found, expected, strict=True)
        )
        # A key's bias adds the same number to all scores of a query: softmax does not change.
        assert (worst < 1e-9) if name.endswith("key.bias") else (worst > 1e-3), name


@pytest.mark.parametrize("damage", ["transposed", "exchanged", "activation", "nan"])
def test_model_with_other_logits_is_refused(written, tmp_path, damage):
    folder, batch, logits = written
    tensors = load_file(folder / "model.safetensors")
    layer = "bert.encoder.layer.1.attention.self"
    query, key = f"{layer}.query.weight", f"{layer}.key.weight"
    changes, config = {
        "transposed": ({query: tensors[query].T}, {}),
        "exchanged": ({query: tensors[key], key: tensors[query]}, {}),
        "activation": ({}, {"hidden_act": "gelu_new"}),
        "nan": ({key: np.full_like(tensors[key], np.nan)}, {}),
    }[damage]
    with pytest.raises(
        UserError, match="differs from the trained one: its masked lm logits differ by"
    ):
        verify(changed(folder, tmp_path, changes, **config), batch, *logits)


def test_unreadable_model_is_reported_by_the_process(written, tmp_path, capfd):
    folder, batch, logits = written
    path = changed(folder, tmp_path, {}) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="the written model cannot be read"):
        verify(tmp_path, batch, *logits)
    printed = capfd.readouterr().err
    assert printed.startswith(f"verification: error: {path}: ") and printed.count("\n") == 1


def test_number_of_sequences_is_limited(written):
    _, batch, logits = written
    many = {name: np.repeat(values, 3, axis=0) for name, values in batch.items()}
    with pytest.raises(ValueError, match="at most 8 sequences"):
        verify(Path("nowhere"), many, *logits)


def test_reference_does_not_import_tensorflow(written):
    code = "import sys, lib.checkpoints.verification; sys.exit('tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_reference_logits_equal_those_of_transformers(tmp_path, activation):
    import torch
    from transformers import BertForPreTraining

    config = replace(SIZES, hidden_act=activation)
    write_model(tmp_path, config, random_weights(config), {"pad_token_id": 0})
    batch = random_batch(config, packed=False)
    inputs = zip(
        ("input_ids", "token_type_ids", "attention_mask"),
        (batch["input_ids"], batch["segment_ids"], batch["input_mask"]),
        strict=True,
    )
    model = BertForPreTraining.from_pretrained(tmp_path).double().eval()
    with torch.no_grad():
        theirs = model(**{name: torch.tensor(ids.astype(np.int64)) for name, ids in inputs})
    masked_lm, next_sentence = reference_logits(tmp_path, batch)
    positions = batch["masked_lm_positions"][..., None]
    expected = np.take_along_axis(theirs.prediction_logits.numpy(), positions, axis=1)
    np.testing.assert_allclose(masked_lm, expected, atol=1e-11)
    found = next_sentence[:, 0]
    np.testing.assert_allclose(found, theirs.seq_relationship_logits.numpy(), atol=1e-11)
