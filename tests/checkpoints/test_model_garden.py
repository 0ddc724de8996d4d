"""The Model Garden's TF2 checkpoints, as its own code of 2020 and of 2025 wrote them.

tests/fixtures/model_garden_common.py says how they were made.
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
from lib.model.config import BertConfig
from lib.model.parameters import initial_values
from lib.run.errors import UserError
from tests.checkpoints.test_google_checkpoints import equal

FIXTURES = Path(__file__).parents[1] / "fixtures/model_garden"
# gelu is the tanh form there.
CONFIG = BertConfig(40, 8, 2, 2, 12, "gelu_new", 0.1, 0.1, 16, 3)
INPUTS = {"input_word_ids", "input_mask", "input_type_ids", "masked_lm_positions"}
HEADS = ("MLM head", "NSP head")


def linear_head(weights: dict, hidden: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, computed as in 2020: without an activation."""
    head = "cls/predictions/transform"
    inner = hidden @ weights[f"{head}/dense/kernel"] + weights[f"{head}/dense/bias"]
    inner -= inner.mean(axis=-1, keepdims=True)
    inner /= np.sqrt((inner**2).mean(axis=-1, keepdims=True) + 1e-12)
    inner = inner * weights[f"{head}/LayerNorm/gamma"] + weights[f"{head}/LayerNorm/beta"]
    logits = inner @ weights["bert/embeddings/word_embeddings"].T
    return tf.nn.log_softmax(logits + weights["cls/predictions/output_bias"]).numpy()


def outputs(config: BertConfig, weights: dict, inputs: dict) -> dict[str, np.ndarray]:
    """What our model computes, under the Model Garden's names."""
    weights = {**initial_values(config, 1), **weights}
    ids, mask, types = (
        np.array(inputs[name], np.int32)
        for name in ("input_word_ids", "input_mask", "input_type_ids")
    )
    hidden = encode(weights, config, ids, mask, types)
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
def test_outputs_equal_those_of_the_model_garden(name, missing):
    folder = FIXTURES / name
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
        ("keras_bert", r"has no MLM head and no NSP head: this is not a BERT for pretraining"),
        ("items", r"has no NSP head"),
        # Two classes, but of something else: its head is not taken for one of sentence pairs.
        ("run_classifier_2020", r"no NSP head.*beside what it should have it has model/layer_with"),
    ],
)
def test_missing_heads_only_if_asked_for(name, message):
    with pytest.raises(UserError, match=message):
        formats.read_checkpoint(FIXTURES / name)
    unused_tensors = formats.read_checkpoint(
        FIXTURES / name, allow_missing_heads=True
    ).unused_tensors
    assert len(unused_tensors) == (2 if name == "run_classifier_2020" else 0)


@pytest.fixture
def copy(tmp_path):
    """Copies a fixture, perhaps with another config."""

    def make(name: str, **changes: object) -> Path:
        folder = tmp_path / name
        shutil.copytree(FIXTURES / name, folder)
        path = folder / "bert_config.json"
        if changes:
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return folder

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 1}, r"no part of a BERT with 1 layers; does its config belong to"),
        ({"num_hidden_layers": 3}, r"a (BERT|model) with 3 layers"),
        ({"vocab_size": 48}, r"has shape \[40, 8\], but its config asks for \[48, 8\]"),
        ({"max_position_embeddings": 512}, r"has shape \[16, 8\], .* asks for \[512, 8\]"),
        ({"type_vocab_size": 16}, r"has shape \[3, 8\], but its config asks for \[16, 8\]"),
        ({"num_attention_heads": 4}, r"has shape \[8, 2, 4\], but its config asks for \[8, 4, 2\]"),
    ],
)
@pytest.mark.parametrize("name", ["items", "run_pretraining_2020"])
def test_a_config_of_another_model(copy, name, changes, message):
    folder = copy(name, **changes)
    for allow_missing_heads in (True, False) if name != "items" else (True,):
        with pytest.raises(UserError, match=message) as caught:
            formats.read_checkpoint(folder, allow_missing_heads)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_objects_that_are_no_bert(copy):
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
        ("bert_model.ckpt-1.data-00000-of-00001", "missing beside bert_model"),
        ("bert_config.json", "no bert_config.json beside bert_model"),
    ],
)
def test_missing_files_are_named(copy, name, message):
    folder = copy("run_pretraining")
    (folder / name).unlink()
    with pytest.raises(UserError, match=message):
        formats.read_checkpoint(folder)


def encoder_params(**changes) -> dict:
    """task.model.encoder.bert of a params.yaml, as BertEncoderConfig has it."""
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
def test_the_config_of_a_run(copy, kind):
    folder = copy("run_pretraining")
    values = {"task": {"model": {"encoder": {"type": kind, kind: encoder_params()}}}}
    text = yaml.dump(values) + "runtime: !!python/tuple [1, 2]\nother: !!python/object:a.B {}\n"
    (folder / "params.yaml").write_text(text)
    # A config beside it goes first.
    before = formats.read_checkpoint(folder)
    assert before.config == CONFIG
    (folder / "bert_config.json").unlink()
    read = formats.read_checkpoint(folder)
    assert read.config == replace(CONFIG, hidden_dropout_prob=0.2)
    assert equal(read.weights, before.weights)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"type": "albert", "albert": {}}, "encoder.type should be bert or bert_v2. Received: alb"),
        ({"type": "bert", "bert": encoder_params(norm_first=True)}, "norm_first: true is no BERT"),
        ({"type": "bert", "bert": encoder_params(embedding_size=4)}, "embedding_size should be"),
        (
            {"type": "bert", "bert": encoder_params(hidden_activation="relu")},
            "mlm_activation should be hidden_activation",
        ),
        (
            {"type": "bert", "bert": {"vocab_size": 7, "hidden_activation": "gelu"}},
            "no `hidden_size`; not the config of a BERT",
        ),
        ({}, "says nothing of task.model.encoder; put a bert_config.json beside it"),
        (None, "says nothing of task.model.encoder"),
    ],
)
def test_runs_of_other_models(tmp_path, encoder, message):
    path = tmp_path / "params.yaml"
    values = {"task": {"model": {"encoder": encoder, "mlm_activation": "gelu"}}}
    path.write_text(yaml.dump(values))
    with pytest.raises(UserError, match=f"^{path}: {message}"):
        read_params(path)
    path.write_text("task: [")
    with pytest.raises(UserError, match=r"says nothing of task.model.encoder"):
        read_params(path)
