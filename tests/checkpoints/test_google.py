"""Google TF1 checkpoints, compared with what TF1's own Saver writes and TF1's own code reads."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.checkpoints import formats, google
from lib.checkpoints.tensor_bundle import TensorBundle, find_prefix, write_bundle
from lib.model.bert_config import BertConfig
from lib.run.errors import UserError
from tests.helpers.checkpoints import (
    GOOGLE_CONFIG,
    google_config_values,
    same_bits,
    save_tf1,
    with_training_state,
)
from tests.helpers.tiny_bert import TINY, random_weights


@pytest.mark.parametrize("slots", [(), ("adam_m", "adam_v"), ("LAMB", "LAMB_1", "vr", "vc")])
def test_checkpoints_saved_by_tf1_are_read_without_training_state(tmp_path, slots):
    weights = random_weights(1)
    save_tf1(tmp_path, with_training_state(weights, *slots))
    read = formats.read_checkpoint(tmp_path)
    assert read.config == GOOGLE_CONFIG and same_bits(read.weights, weights)
    assert read.missing_heads == read.unused_tensors == ()
    assert formats.detect_format(tmp_path) == "Google TF1"
    by_name = formats.read_checkpoint(tmp_path / "bert_model.ckpt")
    assert same_bits(by_name.weights, weights)


def test_names_of_graph_outputs_and_half_precision_are_read(tmp_path):
    weights = random_weights(1)
    google.write_model(tmp_path, GOOGLE_CONFIG, weights)
    halves = {f"{name}:0": array.astype(np.float16) for name, array in weights.items()}
    write_bundle(tmp_path / "bert_model.ckpt", halves)
    read = formats.read_checkpoint(tmp_path).weights
    rounded = {name: array.astype(np.float16).astype(np.float32) for name, array in weights.items()}
    assert same_bits(read, rounded)


def test_written_checkpoint_initialises_a_tf1_graph(tmp_path):
    weights = random_weights(2)
    google.write_model(tmp_path, GOOGLE_CONFIG, weights)
    assert {path.name for path in tmp_path.iterdir()} == {
        "bert_config.json",
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
    }
    prefix = str(tmp_path / "bert_model.ckpt")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.get_variable(name, array.shape) for name, array in weights.items()
        }
        tf.compat.v1.train.init_from_checkpoint(prefix, {name: name for name in weights})
        session.run(tf.compat.v1.global_variables_initializer())
        assert same_bits(session.run(variables), weights)
    assert dict(tf.train.list_variables(prefix)) == {
        parameter.name: list(parameter.shape) for parameter in GOOGLE_CONFIG.parameter_table()
    }


def test_equal_models_are_written_as_equal_files(tmp_path):
    weights = random_weights(2)
    google.write_model(tmp_path / "one", GOOGLE_CONFIG, weights)
    google.write_model(tmp_path / "two", GOOGLE_CONFIG, dict(reversed(weights.items())))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


@settings(max_examples=15)
@given(
    st.builds(
        lambda heads, size, **rest: BertConfig(
            hidden_size=heads * size, num_attention_heads=heads, **rest
        ),
        heads=st.integers(1, 3),
        size=st.integers(1, 4),
        vocab_size=st.integers(1, 9),
        num_hidden_layers=st.integers(1, 2),
        intermediate_size=st.integers(1, 5),
        hidden_act=st.sampled_from(["gelu", "gelu_new", "relu"]),
        hidden_dropout_prob=st.sampled_from([0.0, 0.1]),
        attention_probs_dropout_prob=st.sampled_from([0.0, 0.3]),
        max_position_embeddings=st.integers(1, 6),
        type_vocab_size=st.sampled_from([1, 2, 16]),
        initializer_range=st.sampled_from([0.02, 0.05]),
        layer_norm_eps=st.sampled_from([1e-12, 1e-5]),
    ),
    st.integers(0, 2**32 - 1),
)
def test_round_trip_keeps_config_and_every_bit(tmp_path_factory, config, seed):
    folder = tmp_path_factory.mktemp("model")
    draw = np.random.default_rng(seed)
    # All bit patterns of finite numbers: denormals, -0. NaN and infinity are refused.
    weights = {}
    for parameter in config.parameter_table():
        bits = draw.integers(0, 2**32, parameter.shape, np.uint32)
        exponent = np.uint32(0x7F800000)
        bits[bits & exponent == exponent] ^= np.uint32(0x00800000)
        weights[parameter.name] = bits.view(np.float32)
    google.write_model(folder, config, weights)
    read = formats.read_checkpoint(folder)
    assert read.config == config and same_bits(read.weights, weights)
    shutil.rmtree(folder)


def test_config_is_written_as_googles(tmp_path):
    tanh, erf, relu = (replace(TINY, hidden_act=form) for form in ("gelu_new", "gelu", "relu"))
    for config, name, form in ((tanh, "gelu", None), (erf, "gelu", "erf"), (relu, "relu", None)):
        google.write_model(tmp_path, config, random_weights(1))
        values = json.loads((tmp_path / "bert_config.json").read_text())
        assert (values["hidden_act"], values.get("gelu_form")) == (name, form)
        # The keys of Google's BertConfig.__init__.
        assert values.keys() - {"gelu_form"} == google_config_values().keys() - {"directionality"}
        assert len(google.compatibility_notes(config)) == (form == "erf")
    other = replace(tanh, layer_norm_eps=1e-5)
    google.write_model(tmp_path, other, random_weights(1))
    assert formats.read_checkpoint(tmp_path).config == other
    assert "layer_norm_eps 1e-05" in google.compatibility_notes(other)[0]


def test_type_vocab_size_defaults_to_16(tmp_path):
    weights = random_weights(1)
    name = "bert/embeddings/token_type_embeddings"
    sixteen = np.arange(16 * TINY.hidden_size, dtype=np.float32).reshape(16, -1)
    save_tf1(tmp_path, weights | {name: sixteen})
    values = google_config_values()
    del values["type_vocab_size"]
    (tmp_path / "bert_config.json").write_text(json.dumps(values))
    read = formats.read_checkpoint(tmp_path)
    assert read.config.type_vocab_size == 16
    assert np.array_equal(read.weights[name], sixteen)


def test_missing_heads_are_accepted_only_if_allowed(tmp_path):
    weights = {name: array for name, array in random_weights(1).items() if name[:4] != "cls/"}
    fine_tuned = {"output_weights": np.ones((3, 16), np.float32), "output_bias": np.float32([1, 2])}
    save_tf1(tmp_path, with_training_state(weights | fine_tuned, "adam_m", "adam_v"))
    message = r"no MLM head and no NSP head.*; unexpected tensors: output_bias, output_weights; set"
    with pytest.raises(UserError, match=message):
        formats.read_checkpoint(tmp_path)
    read = formats.read_checkpoint(tmp_path, allow_missing_heads=True)
    assert same_bits(read.weights, weights)
    assert read.missing_heads == ("MLM head", "NSP head")
    assert read.unused_tensors == ("output_bias", "output_weights")


def test_state_file_selects_one_of_several_checkpoints(tmp_path):
    old, new = random_weights(1), random_weights(2)
    save_tf1(tmp_path, old, "model.ckpt-20")
    save_tf1(tmp_path, new, "model.ckpt-100")
    state = tmp_path / "checkpoint"
    assert "model.ckpt-100" in state.read_text()
    assert same_bits(formats.read_checkpoint(tmp_path).weights, new)
    for name in ("model.ckpt-20", "model.ckpt-20.index"):
        assert same_bits(formats.read_checkpoint(tmp_path / name).weights, old)
    # Of a path from elsewhere only the name counts; no other folder is read.
    for path in ("gs://bucket/run/model.ckpt-20", "../elsewhere/model.ckpt-20"):
        state.write_text(f'model_checkpoint_path: "{path}"\n')
        assert same_bits(formats.read_checkpoint(tmp_path).weights, old)
    for text in ('model_checkpoint_path: "model.ckpt-50"\n', "", "\0"):
        state.write_text(text)
        message = r"several checkpoints: model.ckpt-20, model.ckpt-100; name one of them"
        with pytest.raises(UserError, match=message):
            formats.read_checkpoint(tmp_path)
    state.unlink()
    with pytest.raises(UserError, match="several checkpoints"):
        formats.detect_format(tmp_path)


def test_checkpoint_with_several_data_files(tmp_path):
    weights = random_weights(3)
    google.write_model(tmp_path, GOOGLE_CONFIG, weights)
    for path in tmp_path.glob("*.ckpt.*"):
        path.unlink()
    half = len(weights) // 2
    parts = [dict([*weights.items()][:half]), dict([*weights.items()][half:])]
    for number, part in enumerate(parts):
        tf.raw_ops.SaveV2(
            prefix=str(tmp_path / f"part-{number}"),
            tensor_names=[*part],
            shape_and_slices=[""] * len(part),
            tensors=[*part.values()],
        )
    prefix = str(tmp_path / "bert_model.ckpt")
    names = [str(tmp_path / f"part-{number}") for number in (0, 1)]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=names, destination_prefix=prefix)
    assert (tmp_path / "bert_model.ckpt.data-00001-of-00002").exists()
    assert same_bits(formats.read_checkpoint(tmp_path).weights, weights)
    (tmp_path / "bert_model.ckpt.data-00001-of-00002").unlink()
    with pytest.raises(
        UserError, match=r"data-00001-of-00002: missing, but bert_model.ckpt.index is"
    ):
        formats.read_checkpoint(tmp_path)


DATA, INDEX = "bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_config(folder: Path, **changes) -> None:
    (folder / "bert_config.json").write_text(json.dumps(google_config_values() | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "bert_config.json").unlink(),
            "no bert_config.json for bert_model.ckpt.index",
        ),
        (lambda f: (f / DATA).unlink(), f"{DATA}: missing, but {INDEX} is there"),
        (lambda f: cut(f / DATA), rf"{DATA}: cut off, it has [0-9,]+ of [0-9,]+ bytes; copy"),
        (lambda f: flip(f / DATA), rf"{DATA}: damaged \(.* does not have its checksum\); copy"),
        (lambda f: cut(f / INDEX), rf"{INDEX}: damaged"),
        (lambda f: (f / INDEX).write_bytes(b""), rf"{INDEX}: damaged"),
        (lambda f: (f / INDEX).unlink(), r"no model found; it should have model.safetensors"),
        (
            lambda f: change_config(f, num_hidden_layers=3),
            r"tensors \(bert/encoder/layer_2/attention/self/query/kernel, .* and 13 more\) of a "
            r"BERT with 3 layers are missing",
        ),
        (
            lambda f: change_config(f, num_hidden_layers=1),
            r"tensors \(bert/encoder/layer_1/attention/output/LayerNorm/beta, .* and 13 more\) "
            r"that are not part of a BERT with 1 layers; use the config that belongs to these",
        ),
        (
            lambda f: change_config(f, vocab_size=56),
            r"word_embeddings has shape \[50, 16\], but its config requires \[56, 16\]",
        ),
        (lambda f: change_config(f, type_vocab_size=16), r"token_type_embeddings has shape \[2, 1"),
    ],
)
@pytest.mark.parametrize("allow_missing_heads", [False, True])
def test_damaged_checkpoints_are_refused_in_one_line(
    tmp_path, damage, message, allow_missing_heads
):
    google.write_model(tmp_path, GOOGLE_CONFIG, random_weights(1))
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        formats.read_checkpoint(tmp_path, allow_missing_heads)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_failed_write_keeps_the_old_model(tmp_path, monkeypatch):
    weights = random_weights(1)
    google.write_model(tmp_path, GOOGLE_CONFIG, weights)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(**_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.raw_ops, "SaveV2", full)
    with pytest.raises(UserError, match=r"cannot be written.*is the disk full"):
        google.write_model(tmp_path, GOOGLE_CONFIG, random_weights(2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_paths_without_a_model(tmp_path):
    with pytest.raises(UserError, match=r"nothing: no such folder, and no nothing\.index"):
        formats.read_checkpoint(tmp_path / "nothing")
    with pytest.raises(UserError, match="no model found"):
        formats.detect_format(tmp_path)
    with pytest.raises(UserError, match="no checkpoint in it"):
        find_prefix(tmp_path)
    (tmp_path / "x.ckpt.index").mkdir()
    with pytest.raises(UserError, match="no model found"):
        formats.read_checkpoint(tmp_path)
    with pytest.raises(UserError, match=r"config: not a checkpoint; name the folder of a model"):
        (tmp_path / "config").touch()
        formats.read_checkpoint(tmp_path / "config")


def test_bundles_of_any_tensors_are_read_as_tensorflow_reads_them(tmp_path):
    """Many tensors, so that the index has several blocks, and names with common beginnings."""
    draw = np.random.default_rng(3)
    tensors = {
        f"{'scope/' * int(draw.integers(0, 9))}tensor_{number}": draw.normal(
            size=draw.integers(0, 4, int(draw.integers(0, 4)))
        ).astype(draw.choice(["f4", "f2"]))
        for number in range(1500)
    }
    write_bundle(tmp_path / "x.ckpt", tensors)
    bundle = TensorBundle(tmp_path / "x.ckpt")
    reader = tf.train.load_checkpoint(str(tmp_path / "x.ckpt"))
    assert bundle.shapes == {
        name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()
    }
    for name in tensors:
        expected = np.asarray(reader.get_tensor(name), np.float32)
        assert bundle.read(name).tobytes() == expected.tobytes(), name


def test_every_flipped_bit_of_an_index_is_noticed_or_without_effect(tmp_path):
    weights = random_weights(1)
    google.write_model(tmp_path, GOOGLE_CONFIG, weights)
    path = tmp_path / INDEX
    whole = path.read_bytes()
    draw = np.random.default_rng(4)
    refused = 0
    for bit in draw.choice(8 * len(whole), 150, replace=False).tolist():
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            assert same_bits(formats.read_checkpoint(tmp_path).weights, weights)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{path}: damaged (")
    assert refused > 120


def test_weights_that_are_not_finite_are_refused(tmp_path):
    weights = random_weights(1)
    google.write_model(tmp_path, GOOGLE_CONFIG, weights)
    for value in (np.nan, np.inf, -np.inf):
        name = "bert/encoder/layer_1/output/dense/kernel"
        changed = weights[name].copy()
        changed[3, 2] = value
        write_bundle(tmp_path / "bert_model.ckpt", weights | {name: changed})
        with pytest.raises(UserError, match=rf"{name} has 1 values of 512 that are NaN or inf"):
            formats.read_checkpoint(tmp_path)
