"""The Model Garden's TF2 checkpoints: those that its own code wrote, and what may be wrong.

tests/fixtures/make_model_garden.py made the former. The layout of 2020, whose code no longer runs,
is built here as its sources name the attributes.
"""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from lib.interop import checkpoints, model_garden
from lib.interop.model_garden_params import read_params
from lib.model.bert import encode, masked_lm_logits, next_sentence_logits
from lib.model.config import BertConfig
from lib.model.parameters import initial_values
from lib.run.errors import UserError
from tests.test_google_checkpoints import equal
from tests.test_model import TINY, random_weights

FIXTURES = Path(__file__).parent / "fixtures/model_garden"
GARDENS = replace(TINY, hidden_act="gelu_new")
HEADS = ("MLM head", "NSP head")


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
    return {
        "sequence_output": hidden.numpy(),
        "pooled_output": pooled.numpy(),
        "mlm_logits": masked_lm_logits(
            weights, config, tf.gather(hidden, positions, batch_dims=1)
        ).numpy(),
        "next_sentence": next_sentence_logits(weights, first).numpy()[:, 0],
    }


@pytest.mark.parametrize(
    ("name", "missing"),
    [("keras_bert", HEADS), ("run_pretraining", ()), ("items", ("NSP head",)), ("train", ())],
)
def test_outputs_equal_those_of_the_model_garden(name, missing):
    folder = FIXTURES / name
    assert checkpoints.format_of(folder) == "Model Garden TF2"
    read = checkpoints.read_checkpoint(folder, without_heads=bool(missing))
    assert read.missing == missing and read.left_out == ()
    assert read.config.hidden_act == "gelu_new"
    expected = json.loads((folder / "expected.json").read_text())
    ours = outputs(read.config, read.weights, expected)
    compared = ours.keys() & expected.keys()
    assert len(compared) >= 2
    real = np.array(expected["input_mask"], bool)
    for output in compared:
        theirs = np.array(expected[output])
        difference = np.abs(ours[output] - theirs)
        assert (difference[real] if output == "sequence_output" else difference).max() <= 1e-5


@pytest.mark.parametrize("name", ["keras_bert", "items"])
def test_missing_heads_only_if_asked_for(name):
    with pytest.raises(UserError, match=r"has no .*NSP head: this is not a BERT for pretraining"):
        checkpoints.read_checkpoint(FIXTURES / name)


def put(root: tf.Module, path: str, value: object) -> None:
    """Sets an attribute of an attribute of …, making modules on the way."""
    *parents, last = path.split("/")
    for name in parents:
        if not hasattr(root, name):
            setattr(root, name, tf.Module())
        root = getattr(root, name)
    setattr(root, last, value)


def model_of_2020(weights: dict[str, np.ndarray], config: BertConfig = GARDENS) -> tf.Module:
    """The functional model of the spring of 2020: COVID-Twitter-BERT's `run_pretrain.py` saves it.

    networks/transformer_encoder.py, networks/masked_lm.py, networks/classification.py and
    layers/{transformer,attention,dense_einsum}.py of that time: numbers everywhere but in layers.
    """
    heads, size = config.num_attention_heads, config.head_size
    layers = config.num_hidden_layers
    model = tf.Module()
    embeddings = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    places = {
        f"bert/embeddings/{name}": f"0/{number}/embeddings"
        for number, name in enumerate(embeddings)
    }
    places |= {f"bert/embeddings/LayerNorm/{leaf}": f"0/3/{leaf}" for leaf in ("gamma", "beta")}
    for layer in range(layers):
        for ours, theirs in {
            "attention/self/query": "_attention_layer/_query_dense",
            "attention/self/key": "_attention_layer/_key_dense",
            "attention/self/value": "_attention_layer/_value_dense",
            "attention/output/dense": "_attention_output_dense",
            "intermediate/dense": "_intermediate_dense",
            "output/dense": "_output_dense",
        }.items():
            for leaf in ("kernel", "bias"):
                places[f"bert/encoder/layer_{layer}/{ours}/{leaf}"] = (
                    f"0/{4 + layer}/{theirs}/{leaf}"
                )
        for ours, theirs in {
            "attention/output/LayerNorm": "_attention_layer_norm",
            "output/LayerNorm": "_output_layer_norm",
        }.items():
            for leaf in ("gamma", "beta"):
                places[f"bert/encoder/layer_{layer}/{ours}/{leaf}"] = (
                    f"0/{4 + layer}/{theirs}/{leaf}"
                )
    for leaf in ("kernel", "bias"):
        places[f"bert/pooler/dense/{leaf}"] = f"0/{4 + layers}/{leaf}"
        places[f"cls/predictions/transform/dense/{leaf}"] = f"1/0/{leaf}"
    for leaf in ("gamma", "beta"):
        places[f"cls/predictions/transform/LayerNorm/{leaf}"] = f"1/1/{leaf}"
    places["cls/predictions/output_bias"] = "1/2/bias"
    places["cls/seq_relationship/output_weights"] = "2/0/kernel"
    places["cls/seq_relationship/output_bias"] = "2/0/bias"
    for name, array in weights.items():
        if "/attention/self/" in name:
            array = array.reshape(*array.shape[:-1], heads, size)
        elif name.endswith("attention/output/dense/kernel"):
            array = array.reshape(heads, size, -1)
        elif name.endswith("output_weights"):
            array = array.T
        path = "/".join(
            f"layer_with_weights-{part}" if part.isdigit() else part
            for part in places[name].split("/")
        )
        put(model, path, tf.Variable(array))
    return model


def save(folder: Path, config: BertConfig = GARDENS, **items: object) -> Path:
    """Writes a checkpoint of objects, and a config beside it."""
    folder.mkdir(exist_ok=True)
    values = {**asdict(config), "hidden_act": "gelu"}
    (folder / "bert_config.json").write_text(json.dumps(values))
    tf.train.Checkpoint(**items).write(str(folder / "bert_model.ckpt"))
    return folder


def pretraining_model(weights: dict[str, np.ndarray]) -> tf.Module:
    """The loss around the model: one level more."""
    outer = tf.Module()
    setattr(outer, "layer_with_weights-0", model_of_2020(weights))
    return outer


def optimizer() -> tf.Module:
    module = tf.Module()
    module.iter, module.learning_rate = tf.Variable(3), tf.Variable(0.1)
    module._variables = [tf.Variable(np.ones((3, 3), np.float32))]
    return module


@pytest.mark.parametrize("seed", [1, 2])
def test_the_layout_of_2020(tmp_path, seed):
    weights = random_weights(seed)
    save(tmp_path, model=pretraining_model(weights), optimizer=optimizer())
    read = checkpoints.read_checkpoint(tmp_path)
    assert read.config == GARDENS and equal(read.weights, weights)
    assert read.missing == read.left_out == ()


def test_its_encoder_alone_under_any_name(tmp_path):
    weights = {name: array for name, array in random_weights(1).items() if "cls/" not in name}
    encoder = getattr(model_of_2020(weights), "layer_with_weights-0")
    for name in ("model", "encoder", "bert"):
        save(tmp_path, **{name: encoder})
        read = checkpoints.read_checkpoint(tmp_path, without_heads=True)
        assert equal(read.weights, weights) and read.missing == HEADS


def test_a_classifier_of_two_classes_is_no_head_for_sentence_pairs(tmp_path):
    everything = random_weights(1)
    weights = {name: array for name, array in everything.items() if "predictions" not in name}
    model = model_of_2020(weights)
    # A classifier's model has its head in the place of the MLM head.
    setattr(model, "layer_with_weights-1", getattr(model, "layer_with_weights-2"))
    delattr(model, "layer_with_weights-2")
    save(tmp_path, model=model)
    with pytest.raises(UserError, match=r"no MLM head and no NSP head.*layer_with_weights-1"):
        checkpoints.read_checkpoint(tmp_path)
    read = checkpoints.read_checkpoint(tmp_path, without_heads=True)
    assert read.missing == HEADS and len(read.left_out) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 1}, r"no part of a BERT with 1 layers; does its config belong to"),
        ({"num_hidden_layers": 3}, r"no part of a BERT with 3 layers; does its config belong to"),
        ({"vocab_size": 48}, r"has shape \[50, 16\], but its config asks for \[48, 16\]"),
        ({"max_position_embeddings": 512}, r"has shape \[24, 16\], .* asks for \[512, 16\]"),
        ({"type_vocab_size": 16}, r"has shape \[2, 16\], but its config asks for \[16, 16\]"),
        ({"num_attention_heads": 4}, r"has shape \[.*\], but its config asks for \[.*4, 4.*\]"),
    ],
)
@pytest.mark.parametrize("without_heads", [False, True])
def test_a_config_of_another_model(tmp_path, changes, message, without_heads):
    save(tmp_path, replace(GARDENS, **changes), model=pretraining_model(random_weights(1)))
    with pytest.raises(UserError, match=message) as caught:
        checkpoints.read_checkpoint(tmp_path, without_heads)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_objects_that_are_no_bert(tmp_path):
    save(tmp_path, vision=optimizer(), step=tf.Variable(1))
    with pytest.raises(UserError, match=r"no BERT encoder among its objects \(step, vision\)"):
        checkpoints.read_checkpoint(tmp_path)


def test_damaged_files_are_named(tmp_path):
    folder = tmp_path / "copy"
    for name, message in (
        ("bert_model.ckpt-1.data-00000-of-00001", "missing beside bert_model.ckpt-1.index"),
        ("bert_config.json", "no bert_config.json"),
    ):
        shutil.copytree(FIXTURES / "items", folder)
        (folder / name).unlink()
        with pytest.raises(UserError, match=message):
            model_garden.read_checkpoint(folder, without_heads=True)
        shutil.rmtree(folder)


def encoder_params(**changes) -> dict:
    """task.model.encoder.bert of a params.yaml, as BertEncoderConfig has it."""
    return {
        "attention_dropout_rate": 0.1,
        "dropout_rate": 0.2,
        "embedding_size": 16,
        "hidden_activation": "gelu",
        "hidden_size": 16,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "max_position_embeddings": 24,
        "norm_first": False,
        "num_attention_heads": 2,
        "num_layers": 2,
        "type_vocab_size": 2,
        "vocab_size": 50,
    } | changes


@pytest.mark.parametrize("kind", ["bert", "bert_v2"])
def test_the_config_of_a_run(tmp_path, kind):
    save(tmp_path, model=pretraining_model(random_weights(1)))
    values = {"task": {"model": {"encoder": {"type": kind, kind: encoder_params()}}}}
    text = yaml.dump(values) + "runtime: !!python/tuple [1, 2]\nother: !!python/object:a.B {}\n"
    (tmp_path / "params.yaml").write_text(text)
    # A config beside it goes first.
    assert checkpoints.read_checkpoint(tmp_path).config == GARDENS
    (tmp_path / "bert_config.json").unlink()
    read = checkpoints.read_checkpoint(tmp_path)
    assert read.config == replace(GARDENS, hidden_dropout_prob=0.2)
    assert equal(read.weights, random_weights(1))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"type": "albert", "albert": {}}, "encoder.type should be bert or bert_v2. Received: alb"),
        ({"type": "bert", "bert": encoder_params(norm_first=True)}, "norm_first: true is no BERT"),
        ({"type": "bert", "bert": encoder_params(embedding_size=8)}, "embedding_size should be"),
        (
            {"type": "bert", "bert": encoder_params(hidden_activation="relu")},
            "mlm_activation should be hidden_activation",
        ),
        ({"type": "bert", "bert": {"vocab_size": 7}}, "no `hidden_size`; not the config of a BERT"),
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
