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
from lib.checkpoints.reference_layers import erf
from lib.checkpoints.verification import reference_logits, verify
from lib.model.bert_config import BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.losses import head_logits
from lib.model.modernbert_config import ModernBertConfig
from lib.run.errors import UserError
from tests.helpers.tiny_bert import random_weights

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
# Its layers 1, 2 and 4 are local, computed in bands: the sequences have 18 tokens.
MODERN = ModernBertConfig(
    vocab_size=60,
    hidden_size=24,
    num_hidden_layers=5,
    num_attention_heads=3,
    intermediate_size=16,
    local_attention=6,
)
LOGITS = ("masked_lm_logits", "next_sentence_logits")
Arrays = dict[str, np.ndarray]


def random_batch(config: EncoderConfig, packed: bool) -> dict[str, np.ndarray]:
    """Four sequences of up to 18 tokens; if packed, three examples in each."""
    draw = np.random.default_rng(7)
    starts, length = np.array([0, 6, 11]) if packed else np.array([0]), 18
    ends = length - draw.integers(0, 4, 4)
    positions = np.arange(length)
    real = positions < ends[:, None]
    number = np.searchsorted(starts, positions, side="right")
    batch = {
        "input_ids": draw.integers(1, config.vocab_size, (4, length)) * real,
        "segment_ids": draw.integers(0, config.segments, (4, length)) * real,
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


def trainer_logits(config: EncoderConfig, weights: Arrays, batch: Arrays) -> Arrays:
    """The trainer's logits, in float32."""
    tensors = {name: tf.constant(values, tf.int32) for name, values in batch.items()}
    found = head_logits(weights, config, tensors, next_sentence=config.has_next_sentence)
    return {name: np.asarray(x) for name, x in zip(LOGITS, found, strict=True) if x is not None}


@given(st.floats(-8, 8))
def test_erf_equals_the_standard_librarys(value):
    assert float(erf(np.array([value]))[0]) == pytest.approx(math.erf(value), abs=1e-12)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        replace(SIZES, hidden_act="gelu"),
        replace(SIZES, hidden_act="gelu_new"),
        replace(SIZES, hidden_act="relu"),
        replace(SIZES, type_vocab_size=16, layer_norm_eps=1e-3, num_attention_heads=1),
        MODERN,
        replace(MODERN, hidden_activation="gelu_new", global_attn_every_n_layers=2),
        replace(MODERN, hidden_activation="relu", norm_eps=1e-3, num_attention_heads=1),
        replace(MODERN, local_attention=16, global_rope_theta=50.0, local_rope_theta=3.0),
    ],
    ids=lambda config: config.architecture,
)
def test_reference_logits_equal_the_trainers(tmp_path, config, packed):
    weights, batch = random_weights(1, config, 0.2), random_batch(config, packed)
    write_model(tmp_path, config, weights, {"pad_token_id": 0})
    expected = reference_logits(tmp_path, batch)
    found = trainer_logits(config, weights, batch)
    assert found.keys() == expected.keys()
    for name, reference in expected.items():
        assert found[name].shape == reference.shape
        np.testing.assert_allclose(found[name], reference, atol=2e-5 * np.abs(reference).max())


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, tuple[Path, Arrays, Arrays]]:
    """By architecture: a model directory, a batch, and the trainer's logits for it."""
    found = {}
    for config in (SIZES, MODERN):
        folder = tmp_path_factory.mktemp(config.architecture)
        weights, batch = random_weights(1, config, 0.2), random_batch(config, True)
        write_model(folder, config, weights, {"pad_token_id": 0})
        found[config.architecture] = folder, batch, trainer_logits(config, weights, batch)
    return found


@pytest.fixture(params=["bert", "modernbert"])
def written(request, models) -> tuple[Path, Arrays, Arrays]:
    """The files of each architecture in turn."""
    return models[request.param]


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
    scale = max(np.abs(each).max() for each in logits.values())
    assert 0 < verify(folder, batch, logits) < 1e-5 * scale


def test_damage_to_any_tensor_changes_the_logits(written, tmp_path):
    # In this process: a new process per tensor would take minutes.
    folder, batch, _ = written
    expected = reference_logits(folder, batch)
    for name, tensor in load_file(folder / "model.safetensors").items():
        found = reference_logits(changed(folder, tmp_path, {name: tensor[::-1]}), batch)
        worst = max(
            np.abs(found[head] - other).max() / max(1, np.abs(other).max())
            for head, other in expected.items()
        )
        # A key's bias adds the same number to all scores of a query: softmax does not change.
        assert (worst < 1e-9) if name.endswith("key.bias") else (worst > 1e-3), name


QUERY = "bert.encoder.layer.1.attention.self.query.weight"
KEY = "bert.encoder.layer.1.attention.self.key.weight"
GATED = "model.layers.2.mlp.Wi.weight"
# Architecture, changes of tensors, changes of the config.
DAMAGE = {
    "transposed": ("bert", lambda x: {QUERY: x[QUERY].T}, {}),
    "exchanged": ("bert", lambda x: {QUERY: x[KEY], KEY: x[QUERY]}, {}),
    "activation": ("bert", lambda x: {}, {"hidden_act": "gelu_new"}),
    "nan": ("bert", lambda x: {KEY: np.full_like(x[KEY], np.nan)}, {}),
    "gate for input": ("modernbert", lambda x: {GATED: np.roll(x[GATED], 16, 0)}, {}),
    "activation of the head": ("modernbert", lambda x: {}, {"classifier_activation": "gelu_new"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_model_with_other_logits_is_refused(models, tmp_path, damage):
    architecture, edit, config = DAMAGE[damage]
    folder, batch, logits = models[architecture]
    changes = edit(load_file(folder / "model.safetensors"))
    with pytest.raises(
        UserError, match="differs from the trained one: its masked lm logits differ by"
    ):
        verify(changed(folder, tmp_path, changes, **config), batch, logits)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_activation": "gelu_new"},
        {"local_attention": 4},
        {"layer_types": ["full_attention", "full_attention", "sliding_attention"] * 2},
        {"norm_eps": 1e-2},
    ],
)
def test_a_modernbert_with_another_config_has_other_logits(models, tmp_path, changes):
    folder, batch, logits = models["modernbert"]
    found = reference_logits(changed(folder, tmp_path, {}, **changes), batch)[LOGITS[0]]
    assert np.abs(found - logits[LOGITS[0]]).max() > 2e-4 * np.abs(found).max()


def test_a_model_without_one_of_the_heads_is_refused(models, capfd):
    folder, batch, logits = models["bert"]
    with pytest.raises(UserError, match="the written model cannot be read"):
        verify(folder, batch, {LOGITS[0]: logits[LOGITS[0]]})
    assert "the trained model has logits" in capfd.readouterr().err


def test_unreadable_model_is_reported_by_the_process(written, tmp_path, capfd):
    folder, batch, logits = written
    path = changed(folder, tmp_path, {}) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="the written model cannot be read"):
        verify(tmp_path, batch, logits)
    printed = capfd.readouterr().err
    assert printed.startswith(f"verification: error: {path}: ") and printed.count("\n") == 1


def test_number_of_sequences_is_limited(written):
    _, batch, logits = written
    many = {name: np.repeat(values, 3, axis=0) for name, values in batch.items()}
    with pytest.raises(ValueError, match="at most 8 sequences"):
        verify(Path("nowhere"), many, logits)


def test_reference_does_not_import_tensorflow(written):
    code = "import sys, lib.checkpoints.verification; sys.exit('tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_reference_logits_equal_those_of_transformers(tmp_path, architecture, activation):
    import torch
    import transformers

    config = replace(SIZES, hidden_act=activation)
    if architecture == "modernbert":
        config = replace(MODERN, hidden_activation=activation)
    write_model(tmp_path, config, random_weights(1, config, 0.2), {"pad_token_id": 0})
    batch = random_batch(config, packed=False)
    names = {"input_ids": "input_ids", "attention_mask": "input_mask"}
    if config.has_next_sentence:
        names["token_type_ids"] = "segment_ids"
    model = getattr(transformers, config.huggingface_class).from_pretrained(tmp_path)
    model = model.double().eval()
    with torch.no_grad():
        theirs = model(**{key: torch.tensor(batch[name]).long() for key, name in names.items()})
    found = reference_logits(tmp_path, batch)
    mlm_logits = theirs.prediction_logits if config.has_next_sentence else theirs.logits
    positions = batch["masked_lm_positions"][..., None]
    expected = np.take_along_axis(mlm_logits.numpy(), positions, axis=1)
    # transformers computes rotations in float32, whatever the type of the weights.
    limit = 1e-11 if config.has_next_sentence else 1e-5
    np.testing.assert_allclose(found["masked_lm_logits"], expected, atol=limit)
    if config.has_next_sentence:
        nsp_logits = found["next_sentence_logits"][:, 0]
        np.testing.assert_allclose(nsp_logits, theirs.seq_relationship_logits.numpy(), atol=limit)
