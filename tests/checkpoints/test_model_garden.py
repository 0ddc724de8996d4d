"""Model Garden TF2 checkpoints, written by the Model Garden's own code of 2020 and of 2025.

tests/fixtures/model_garden_common.py describes how they were made.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from lib.checkpoints import formats
from lib.checkpoints.model_garden_config import read_params
from lib.model.bert import encode, masked_lm_logits, next_sentence_logits
from lib.model.bert_config import BertConfig
from lib.model.initialization import initial_values
from lib.run.errors import UserError
from tests.helpers.checkpoints import MODEL_GARDEN, same_bits

# In the Model Garden, gelu is the tanh form.
CONFIG = BertConfig(
    vocab_size=40,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    hidden_act="gelu_new",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=16,
    type_vocab_size=3,
)
INPUTS = {"input_word_ids", "input_mask", "input_type_ids", "masked_lm_positions"}
HEADS = ("MLM head", "NSP head")


def linear_head(weights: dict, hidden: np.ndarray) -> np.ndarray:
    """MLM log probabilities as computed by the code of 2020: without an activation function."""
    head = "cls/predictions/transform"
    inner = hidden @ weights[f"{head}/dense/kernel"] + weights[f"{head}/dense/bias"]
    inner -= inner.mean(axis=-1, keepdims=True)
    inner /= np.sqrt((inner**2).mean(axis=-1, keepdims=True) + 1e-12)
    inner = inner * weights[f"{head}/LayerNorm/gamma"] + weights[f"{head}/LayerNorm/beta"]
    logits = inner @ weights["bert/embeddings/word_embeddings"].T
    return tf.nn.log_softmax(logits + weights["cls/predictions/output_bias"]).numpy()


def outputs(config: BertConfig, weights: dict, inputs: dict) -> dict[str, np.ndarray]:
    """Outputs of this project's model, under the Model Garden's names."""
    weights = {**initial_values(config, 1), **weights}
    theirs = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}
    batch = {
        name: np.array(inputs[theirs.get(name, name)], np.int32)
        for name in ("input_ids", "input_mask", "segment_ids")
    }
    hidden = encode(weights, config, batch)
    positions = np.array(inputs["masked_lm_positions"])
    first = hidden[:, :1]
    flat = tf.reshape(first, [-1, config.hidden_size])
    pooler = "bert/pooler/dense"
    pooled = tf.tanh(flat @ weights[f"{pooler}/kernel"] + weights[f"{pooler}/bias"])
    masked = tf.gather(hidden, positions, batch_dims=1)
    mlm_logits = masked_lm_logits(weights, config, masked)
    next_sentence = next_sentence_logits(weights, first)[:, 0]
    return {
        "sequence_output": hidden.numpy(),
        "pooled_output": pooled.numpy(),
        "mlm_logits": mlm_logits.numpy(),
        "mlm_log_probabilities": linear_head(weights, masked.numpy()),
        "next_sentence": next_sentence.numpy(),
        "next_sentence_log_probabilities": tf.nn.log_softmax(next_sentence).numpy(),
    }


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("keras_bert", HEADS),
        ("run_pretraining_2020", ()),
        ("run_classifier_2020", HEADS),
        ("encoder", HEADS),
        ("run_pretraining", ()),
        ("items", ("NSP head",)),
        ("train", ()),
    ],
)
def test_outputs_equal_the_model_gardens(name, missing):
    folder = MODEL_GARDEN / name
    assert formats.detect_format(folder) == "Model Garden TF2"
    read = formats.read_checkpoint(folder, allow_missing_heads=bool(missing))
    assert (read.config, read.missing_heads) == (CONFIG, missing)
    assert bool(formats.compatibility_notes(folder)) == (name == "run_pretraining_2020")
    expected = json.loads((folder / "expected.json").read_text())
    ours = outputs(read.config, read.weights, expected)
    real = np.array(expected["input_mask"], bool)
    for output in expected.keys() - INPUTS:
        difference = np.abs(ours[output] - np.array(expected[output]))
        assert (difference[real] if output == "sequence_output" else difference).max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("keras_bert", r"no MLM head and no NSP head, so this is not a BERT for pretraining"),
        ("items", r"no NSP head"),
        # A classifier with two classes: its head is not mistaken for an NSP head.
        ("run_classifier_2020", r"no NSP head.*; unexpected tensors: model/layer_with"),
    ],
)
def test_missing_heads_are_accepted_only_if_allowed(name, message):
    with pytest.raises(UserError, match=message):
        formats.read_checkpoint(MODEL_GARDEN / name)
    unused_tensors = formats.read_checkpoint(
        MODEL_GARDEN / name, allow_missing_heads=True
    ).unused_tensors
    assert len(unused_tensors) == (2 if name == "run_classifier_2020" else 0)


@pytest.fixture
def copy(tmp_path):
    """Copies a fixture, optionally with another config."""

    def make(name: str, **changes: object) -> Path:
        folder = tmp_path / name
        shutil.copytree(MODEL_GARDEN / name, folder)
        path = folder / "bert_config.json"
        if changes:
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return folder

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_hidden_layers": 1},
            r"not part of a BERT with 1 layers; use the config that belongs",
        ),
        ({"num_hidden_layers": 3}, r"a BERT with 3 layers"),
        ({"vocab_size": 48}, r"has shape \[40, 8\], but its config requires \[48, 8\]"),
        ({"max_position_embeddings": 512}, r"has shape \[16, 8\], .* requires \[512, 8\]"),
        ({"type_vocab_size": 16}, r"has shape \[3, 8\], but its config requires \[16, 8\]"),
        ({"num_attention_heads": 4}, r"has shape \[8, 2, 4\], but its config requires \[8, 4, 2\]"),
    ],
)
@pytest.mark.parametrize("name", ["items", "run_pretraining_2020"])
def test_config_of_another_model_is_refused(copy, name, changes, message):
    folder = copy(name, **changes)
    for allow_missing_heads in (True, False) if name != "items" else (True,):
        with pytest.raises(UserError, match=message) as caught:
            formats.read_checkpoint(folder, allow_missing_heads)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_objects_without_a_bert_are_refused(copy):
    folder = copy("items")
    for path in folder.glob("*.ckpt-1*"):
        path.unlink()
    objects = tf.train.Checkpoint(vision=tf.Module(), step=tf.Variable(1))
    objects.write(str(folder / "model.ckpt"))
    with pytest.raises(UserError, match=r"no BERT encoder among its objects \(step, vision\)"):
        formats.read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert_model.ckpt-1.data-00000-of-00001", "missing, but bert_model"),
        ("bert_config.json", "no bert_config.json for bert_model"),
    ],
)
def test_missing_files_are_named(copy, name, message):
    folder = copy("run_pretraining")
    (folder / name).unlink()
    with pytest.raises(UserError, match=message):
        formats.read_checkpoint(folder)


def encoder_params(**changes) -> dict:
    """task.model.encoder.bert in a params.yaml, with the keys of BertEncoderConfig."""
    return {
        "attention_dropout_rate": 0.1,
        "dropout_rate": 0.2,
        "embedding_size": 8,
        "hidden_activation": "gelu",
        "hidden_size": 8,
        "initializer_range": 0.02,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "norm_first": False,
        "num_attention_heads": 2,
        "num_layers": 2,
        "type_vocab_size": 3,
        "vocab_size": 40,
    } | changes


@pytest.mark.parametrize("kind", ["bert", "bert_v2"])
def test_config_is_read_from_params_yaml(copy, kind):
    folder = copy("run_pretraining")
    values = {"task": {"model": {"encoder": {"type": kind, kind: encoder_params()}}}}
    text = yaml.dump(values) + "runtime: !!python/tuple [1, 2]\nother: !!python/object:a.B {}\n"
    (folder / "params.yaml").write_text(text)
    # A bert_config.json takes precedence.
    before = formats.read_checkpoint(folder)
    assert before.config == CONFIG
    (folder / "bert_config.json").unlink()
    read = formats.read_checkpoint(folder)
    assert read.config == replace(CONFIG, hidden_dropout_prob=0.2)
    assert same_bits(read.weights, before.weights)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"type": "albert", "albert": {}}, "encoder.type should be bert or bert_v2. Received: alb"),
        (
            {"type": "bert", "bert": encoder_params(norm_first=True)},
            "norm_first: true is not BERT's",
        ),
        ({"type": "bert", "bert": encoder_params(embedding_size=4)}, "embedding_size should be"),
        (
            {"type": "bert", "bert": encoder_params(hidden_activation="relu")},
            "mlm_activation should be equal to hidden_activation",
        ),
        (
            {"type": "bert", "bert": {"vocab_size": 7, "hidden_activation": "gelu"}},
            "no `hidden_size`; not the config of a BERT",
        ),
        ({}, "no task.model.encoder in it; put a bert_config.json in the same folder"),
        (None, "no task.model.encoder"),
    ],
)
def test_params_yaml_of_other_models_is_refused(tmp_path, encoder, message):
    path = tmp_path / "params.yaml"
    values = {"task": {"model": {"encoder": encoder, "mlm_activation": "gelu"}}}
    path.write_text(yaml.dump(values))
    with pytest.raises(UserError, match=f"^{path}: {message}"):
        read_params(path)
    path.write_text("task: [")
    with pytest.raises(UserError, match=r"no task.model.encoder"):
        read_params(path)
