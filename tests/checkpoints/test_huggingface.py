"""Hugging Face directories: all file forms are read, and wrong ones are refused."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lib.checkpoints.formats import read_checkpoint
from lib.checkpoints.huggingface import read_model, write_model
from lib.checkpoints.huggingface_names import names_of
from lib.model.bert_config import BertConfig
from lib.model.initialization import initial_values
from lib.run.errors import UserError
from tests.helpers.checkpoints import same_bits
from tests.helpers.pickles import Attack, write_pytorch_file, write_zip
from tests.helpers.tiny_bert import TINY, TINY_MODERN, random_weights

WEIGHTS = random_weights(7)
MODERN_WEIGHTS = random_weights(7, TINY_MODERN)
Tensors = dict[str, np.ndarray]
WORDS = "bert.embeddings.word_embeddings.weight"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model directory as this project writes it."""
    write_model(tmp_path / "model", TINY, WEIGHTS, {"pad_token_id": 0})
    return tmp_path / "model"


@pytest.fixture
def modern(tmp_path) -> Path:
    """The directory of a ModernBERT."""
    write_model(tmp_path / "modern", TINY_MODERN, MODERN_WEIGHTS, TINY_MODERN.special_ids(0, 2, 3))
    return tmp_path / "modern"


def change(folder: Path, edit: Callable[[Tensors], Tensors]) -> None:
    """Rewrites the tensors, edited."""
    path = folder / "model.safetensors"
    tensors = edit(load_file(path))
    path.unlink()
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)


def configure(folder: Path, **changes: object) -> None:
    """Changes keys of config.json; "absent" removes one."""
    values = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in values.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(kept))


def refusal(folder: Path, allow_missing_heads: bool = False) -> str:
    """The one-line error of a directory that is refused."""
    with pytest.raises(UserError) as caught:
        read_checkpoint(folder, allow_missing_heads)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_table_has_each_parameter_once():
    table = names_of(TINY).stored_tensors(TINY)
    assert [*table] == [parameter.name for parameter in TINY.parameter_table()]
    assert len({each.name for each in table.values()}) == len(table)
    for parameter in TINY.parameter_table():
        each = table[parameter.name]
        numbers = np.arange(np.prod(parameter.shape), dtype=np.float32).reshape(parameter.shape)
        stored = each.from_parameter(numbers)
        assert stored.shape == each.shape
        assert np.array_equal(each.to_parameter(stored, parameter.shape), numbers)
        if parameter.name.endswith("kernel"):
            assert stored[-1, 0] == numbers[0, -1]


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 20)
)
@settings(max_examples=20)
def test_round_trip_of_any_size(tmp_path_factory, layers, heads, head_size, inner, vocab_size):
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=heads * head_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        hidden_act="gelu_new",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.25,
        max_position_embeddings=7,
        type_vocab_size=16,
    )
    weights = initial_values(config, vocab_size)
    folder = tmp_path_factory.mktemp("round")
    write_model(folder, config, weights, {"pad_token_id": 0})
    found, arrays = read_model(folder)
    assert found == config and same_bits(arrays, weights)
    checkpoint = read_checkpoint(folder, allow_missing_heads=True)
    assert (checkpoint.config, checkpoint.missing_heads, checkpoint.unused_tensors) == (
        config,
        (),
        (),
    )
    assert same_bits(checkpoint.weights, weights)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=20)
def test_round_trip_of_a_modernbert(tmp_path_factory, layers, every, heads, half):
    config = replace(
        TINY_MODERN,
        hidden_size=2 * heads * half,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        global_attn_every_n_layers=every,
        hidden_activation="gelu_new",
        global_rope_theta=5000.0,
        local_rope_theta=7.5,
        classifier_pooling="mean",
        mlp_dropout=0.1,
    )
    weights = initial_values(config, 1)
    folder = tmp_path_factory.mktemp("round")
    write_model(folder, config, weights, {})
    found, arrays = read_model(folder)
    assert found == config and same_bits(arrays, weights)
    # As transformers 5 reads it, and as transformers 4 does.
    for names in (
        ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"),
        ("rope_parameters", "layer_types"),
    ):
        write_model(folder, config, weights, {})
        configure(folder, **dict.fromkeys(names, "absent"))
        found = read_model(folder)[0]
        kinds = [found.is_global(number) for number in range(layers)]
        assert kinds == [config.is_global(number) for number in range(layers)]
        assert replace(found, global_attn_every_n_layers=every) == config


def test_names_of_a_modernbert():
    table = names_of(TINY_MODERN).stored_tensors(TINY_MODERN)
    assert [*table] == [parameter.name for parameter in TINY_MODERN.parameter_table()]
    names = {each.name: each.shape for each in table.values()}
    assert len(names) == len(table)
    assert names["model.layers.1.attn.Wqkv.weight"] == (48, 16)
    assert names["model.layers.3.mlp.Wi.weight"] == (48, 16)
    assert names["decoder.bias"] == (50,)
    assert "model.layers.0.attn_norm.weight" not in names
    kernel = np.arange(16 * 48, dtype=np.float32).reshape(16, 48)
    stored = table["layers/1/attn/Wqkv"].from_parameter(kernel)
    assert stored[-1, 0] == kernel[0, -1]


EMBEDDINGS = "model.embeddings.tok_embeddings.weight"


def only_decoder(tensors: Tensors) -> Tensors:
    rest = {name: array for name, array in tensors.items() if name != EMBEDDINGS}
    return rest | {"decoder.weight": tensors[EMBEDDINGS]}


def without_encoder_prefix(tensors: Tensors) -> Tensors:
    """As transformers saves a ModernBertModel, which has no heads."""
    names = {name: name.removeprefix("model.") for name in tensors if name.startswith("model.")}
    return {short: tensors[name] for name, short in names.items()}


def as_modern_classifier(tensors: Tensors) -> Tensors:
    rest = {name: array for name, array in tensors.items() if name != "decoder.bias"}
    return rest | {"classifier.weight": np.ones((3, 16), np.float32)}


@pytest.mark.parametrize(
    ("edit", "missing", "unused"),
    [
        (lambda x: x, (), ()),
        (lambda x: x | {"decoder.weight": x[EMBEDDINGS]}, (), ()),
        (only_decoder, (), ()),
        (lambda x: {f"model.{name}": array for name, array in x.items()}, (), ()),
        (lambda x: {f"module._orig_mod.{name}": array for name, array in x.items()}, (), ()),
        (without_encoder_prefix, ("prediction head", "MLM head"), ()),
        (
            lambda x: {f"model.{name}": a for name, a in without_encoder_prefix(x).items()},
            ("prediction head", "MLM head"),
            (),
        ),
        (as_modern_classifier, ("MLM head",), ("classifier.weight",)),
    ],
)
def test_forms_of_a_modernbert(modern, edit, missing, unused):
    change(modern, edit)
    if missing:
        message = refusal(modern)
        assert f"no {' and no '.join(missing)}, so this is not a ModernBERT for pret" in message
        assert "set pretrain.init_missing_heads: true" in message and "next_sent" not in message
    checkpoint = read_checkpoint(modern, allow_missing_heads=True)
    assert (checkpoint.missing_heads, checkpoint.unused_tensors) == (missing, unused)
    heads = ("head/", "decoder/") if len(missing) == 2 else ("decoder/",) if missing else ("none",)
    rest = {name: x for name, x in MODERN_WEIGHTS.items() if not name.startswith(heads)}
    assert same_bits(checkpoint.weights, rest)


FULL, SLIDING = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3, "layer_types": "absent"}, "layers.3.* not part of a ModernBERT"),
        ({"num_hidden_layers": 5, "layer_types": "absent"}, "a ModernBERT with 5 layers are miss"),
        ({"num_hidden_layers": 5}, "layer_types should be full_attention for every n-th layer"),
        ({"layer_types": [SLIDING, FULL, FULL, FULL]}, "layer_types should be"),
        ({"layer_types": [FULL, FULL, SLIDING, FULL]}, "layer_types should be"),
        ({"layer_types": "full"}, "layer_types should be"),
        ({"layer_types": [FULL, SLIDING, [], {}]}, "layer_types should be"),
        ({"rope_parameters": {FULL: {"rope_type": "yarn"}}}, "rope_parameters should be an obj"),
        ({"rope_parameters": {"rope_theta": 10000.0}}, "rope_parameters should be an object for"),
        ({"rope_parameters": {SLIDING: {"rope_theta": "1e4"}}}, "rope_parameters should be an"),
        ({"rope_parameters": [1]}, r"rope_parameters should be .* Received: \[1\]"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling should be null"),
        ({"rope_parameters": "absent", "local_rope_theta": None}, "local_rope_theta should be a n"),
        ({"rope_parameters": "absent", "global_rope_theta": 0}, "global_rope_theta should be a nu"),
        ({"layer_types": "absent", "global_attn_every_n_layers": 0}, "n_layers should be a whole"),
        ({"local_attention": 7}, "local_attention should be an even number"),
        ({"local_attention": 10**9}, "local_attention should be at most 1,048,576"),
        ({"hidden_size": 18, "num_attention_heads": 6}, "hidden_size should be an even number per"),
        ({"hidden_activation": "silu"}, "hidden_activation should be gelu, gelu_new or relu"),
        ({"classifier_activation": "relu"}, "classifier_activation should be that of the layers"),
        ({"hidden_activation": "relu"}, "classifier_activation should be that of the layers"),
        ({"classifier_pooling": "max"}, "classifier_pooling should be cls or mean"),
        ({"norm_bias": True}, "norm_bias should be false. Received: True"),
        ({"attention_bias": True}, "attention_bias should be false"),
        ({"mlp_bias": True}, "mlp_bias should be false"),
        ({"classifier_bias": True}, "classifier_bias should be false"),
        ({"decoder_bias": False}, "decoder_bias should be true"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings should be true"),
        ({"norm_eps": "1e-5"}, "norm_eps should be a number between 0 and 1"),
        ({"mlp_dropout": 1}, "mlp_dropout should be a number from 0 to below 1"),
        ({"intermediate_size": "absent"}, "no `intermediate_size`; not the config of a ModernBERT"),
        ({"intermediate_size": 32}, r"Wi.* has shape \[48, 16\].* requires \[64, 16\]"),
        ({"model_type": "bert"}, "; not the config of a BERT|should be|are missing"),
    ],
)
def test_configs_that_are_no_supported_modernbert_are_refused(modern, changes, message):
    configure(modern, **changes)
    with pytest.raises(UserError, match=message) as caught:
        read_checkpoint(modern)
    assert str(caught.value).isprintable() and str(modern) in str(caught.value)


def test_an_untied_modernbert_is_refused(modern):
    change(modern, lambda x: x | {"decoder.weight": x[EMBEDDINGS] + 1})
    assert f"decoder.weight differs from {EMBEDDINGS}; models whose output layer" in refusal(modern)


def test_the_architecture_is_that_of_the_class_where_no_model_type_is_stated(modern):
    configure(modern, model_type="absent")
    assert read_model(modern)[0] == TINY_MODERN


def with_old_names(tensors: Tensors) -> Tensors:
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, name in old.items():
        tensors = {key.replace(new, name): array for key, array in tensors.items()}
    return tensors


def with_copies(tensors: Tensors) -> Tensors:
    return tensors | {
        "cls.predictions.decoder.weight": tensors[WORDS],
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
    }


def only_second_names(tensors: Tensors) -> Tensors:
    both = with_copies(tensors)
    return {key: both[key] for key in both if key not in (WORDS, "cls.predictions.bias")}


def with_position_ids(tensors: Tensors) -> Tensors:
    return tensors | {"bert.embeddings.position_ids": np.arange(24)[None]}


@pytest.mark.parametrize(
    "edit", [with_old_names, with_copies, only_second_names, with_position_ids, lambda x: x]
)
@pytest.mark.parametrize("allow_missing_heads", [False, True])
def test_names_of_old_and_new_versions(folder, edit, allow_missing_heads):
    change(folder, edit)
    configure(folder, tie_word_embeddings=False)
    checkpoint = read_checkpoint(folder, allow_missing_heads)
    assert same_bits(checkpoint.weights, WEIGHTS)
    assert (checkpoint.missing_heads, checkpoint.unused_tensors) == ((), ())


def as_bert_model(tensors: Tensors) -> Tensors:
    """As transformers saves a BertModel, which has no heads."""
    return {
        key.removeprefix("bert."): array
        for key, array in with_position_ids(tensors).items()
        if key.startswith("bert.")
    }


def as_masked_lm(tensors: Tensors) -> Tensors:
    return {key: x for key, x in tensors.items() if "pooler" not in key and "seq" not in key}


def as_classifier(tensors: Tensors) -> Tensors:
    encoder = {key: array for key, array in tensors.items() if key.startswith("bert.")}
    return encoder | {
        "classifier.weight": np.ones((3, 16), np.float32),
        "classifier.bias": np.ones(3, np.float32),
    }


@pytest.mark.parametrize(
    ("edit", "missing", "prefixes", "unused_tensors"),
    [
        (as_bert_model, ("MLM head", "NSP head"), ("cls/",), ()),
        (as_masked_lm, ("NSP head", "pooler"), ("cls/seq", "bert/pooler"), ()),
        (
            as_classifier,
            ("MLM head", "NSP head"),
            ("cls/",),
            ("classifier.bias", "classifier.weight"),
        ),
    ],
)
def test_models_without_heads_are_read_only_if_allowed(
    folder, edit, missing, prefixes, unused_tensors
):
    change(folder, edit)
    message = refusal(folder)
    assert all(head in message for head in missing)
    assert "so this is not a BERT for pretraining" in message
    assert "set pretrain.init_missing_heads: true" in message
    assert all(name in message for name in unused_tensors)
    checkpoint = read_checkpoint(folder, allow_missing_heads=True)
    assert (checkpoint.missing_heads, checkpoint.unused_tensors) == (missing, unused_tensors)
    rest = {name: array for name, array in WEIGHTS.items() if not name.startswith(prefixes)}
    assert same_bits(checkpoint.weights, rest)


def handmade(tensors: Tensors, kind: str, raw: Callable[[np.ndarray], bytes]) -> bytes:
    """A safetensors file by its specification: length of the header, header, values."""
    header, parts, at = {}, [], 0
    for name, array in tensors.items():
        parts.append(raw(array))
        offsets = [at, at + len(parts[-1])]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        at = offsets[1]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def truncated_to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Float32 values whose lower 16 bits are 0."""
    return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def upper_half(array: np.ndarray) -> bytes:
    return (array.view(np.uint32) >> 16).astype("<u2").tobytes()


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        ("F32", lambda x: x.astype("<f4").tobytes(), lambda x: x),
        ("F16", lambda x: x.astype("<f2").tobytes(), lambda x: x.astype(np.float16)),
        ("BF16", upper_half, truncated_to_bfloat16),
    ],
)
def test_dtypes_that_float32_represents(folder, kind, raw, expected):
    path = folder / "model.safetensors"
    data = handmade(load_file(path), kind, raw)
    path.unlink()
    path.write_bytes(data)
    _, weights = read_model(folder)
    assert same_bits(weights, {name: expected(array) for name, array in WEIGHTS.items()})


def test_other_dtypes_are_refused(folder):
    change(folder, lambda tensors: tensors | {WORDS: tensors[WORDS].astype(np.float64)})
    assert f"{WORDS} has dtype float64; save the model in float32, float16" in refusal(folder)
    change(folder, lambda tensors: tensors | {WORDS: tensors[WORDS].astype(np.int8)})
    assert f"{WORDS} has dtype int8" in refusal(folder)


def split(folder: Path, name: str, save: Callable[[Tensors, Path], object]) -> None:
    """Distributes the tensors over three files and writes their index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, suffix = name.split(".")
    files = [f"{stem}-0000{number}-of-00003.{suffix}" for number in (1, 2, 3)]
    weight_map = {key: files[number % 3] for number, key in enumerate(tensors)}
    for file in files:
        save({key: tensors[key] for key in tensors if weight_map[key] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{name}.index.json").write_text(json.dumps(index))


def as_pytorch_file(folder: Path, zipped: bool = True) -> None:
    """Moves the tensors to one pytorch_model.bin."""
    write_pytorch_file(
        folder / "pytorch_model.bin", load_file(folder / "model.safetensors"), zipped
    )
    (folder / "model.safetensors").unlink()


FORMS: dict[str, Callable[[Path], object]] = {
    "shards": lambda folder: split(folder, "model.safetensors", save_file),
    "PyTorch": as_pytorch_file,
    "legacy PyTorch": lambda folder: as_pytorch_file(folder, zipped=False),
    "PyTorch shards": lambda folder: split(
        folder, "pytorch_model.bin", lambda tensors, path: write_pytorch_file(path, tensors)
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_file_forms_are_read(folder, form):
    FORMS[form](folder)
    assert not (folder / "model.safetensors").exists()
    config, weights = read_model(folder)
    assert config == TINY and same_bits(weights, WEIGHTS)


def test_safetensors_and_whole_files_are_preferred(folder):
    other = {name: array + 1 for name, array in load_file(folder / "model.safetensors").items()}
    write_pytorch_file(folder / "pytorch_model.bin", other)
    (folder / "model.safetensors.index.json").write_text("{}")
    assert same_bits(read_model(folder)[1], WEIGHTS)
    (folder / "model.safetensors.index.json").unlink()
    split(folder, "model.safetensors", save_file)
    assert same_bits(read_model(folder)[1], WEIGHTS)


def test_directory_without_a_model(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty: no model found" in refusal(empty)
    with pytest.raises(
        UserError, match=r"empty/config.json: no such file, and no bert_config.json"
    ):
        read_model(empty)
    (folder / "model.safetensors").unlink()
    message = refusal(folder)
    for name in ("model.safetensors", "pytorch_model.bin"):
        assert f"{name}," in message or f"{name} " in message
    with pytest.raises(UserError, match=r"none of model.safetensors, .*pytorch_model.bin.index.j"):
        read_model(folder)


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_truncated_file_is_refused(tmp_path_factory, part):
    folder = tmp_path_factory.mktemp("cut")
    write_model(folder, TINY, WEIGHTS, {})
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: int(part * len(data))])
    assert refusal(folder).startswith(f"{path}: damaged (")


LAYER = "bert.encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_hidden_layers": 3},
            r"\(bert.encoder.layer.2.*\) of a BERT with 3 layers are missing",
        ),
        ({"num_hidden_layers": 1}, r"layer.1.* not part of a BERT with 1 layers; use the config"),
        ({"hidden_size": 32}, r"has shape \[50, 16\], but its config requires \[50, 32\]"),
        ({"vocab_size": 56}, r"word_embeddings.weight has shape \[50, 16\].* requires \[56, 16\]"),
        (
            {"intermediate_size": 8},
            r"intermediate.dense.* has shape \[32, 16\].* requires \[8, 16\]",
        ),
        ({"max_position_embeddings": "absent"}, r"shape \[24, 16\].* requires \[512, 16\]"),
        ({"model_type": "roberta"}, "model_type should be bert or modernbert. Received: 'roberta'"),
        ({"is_decoder": True}, "is_decoder should be false. Received: True"),
        ({"num_attention_heads": "absent"}, "no `num_attention_heads`; not the config of a BERT"),
    ],
)
@pytest.mark.parametrize("allow_missing_heads", [False, True])
def test_config_of_another_model_is_refused(folder, changes, message, allow_missing_heads):
    configure(folder, **changes)
    with pytest.raises(UserError, match=message):
        read_checkpoint(folder, allow_missing_heads)


def test_config_keys_default_to_those_of_transformers(folder):
    for name in ("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob"):
        configure(folder, **{name: "absent"})
    for name in ("initializer_range", "layer_norm_eps", "type_vocab_size"):
        configure(folder, **{name: "absent"})
    found, _ = read_model(folder)
    assert found == replace(TINY, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    assert asdict(found)["hidden_act"] == "gelu"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda x: x | {WORDS: x[WORDS][:-1]},
            r"word_emb.* has shape \[49, 16\].* requires \[50, 16\]",
        ),
        (lambda x: x | {LAYER: x[LAYER].T}, r"has shape \[32, 16\].* requires \[16, 32\]"),
        (lambda x: x | {WORDS: x[WORDS].ravel()}, r"has shape \[800\]"),
        (
            lambda x: {key: array for key, array in x.items() if key != LAYER},
            rf"tensors \({LAYER}\) of a BERT with 2 layers are missing",
        ),
        (
            lambda x: {key: array for key, array in x.items() if "transform.dense" not in key},
            r"tensors \(cls.predictions.transform.dense.weight, cls.*bias\) of a",
        ),
        (
            lambda x: x | {"cls.predictions.decoder.weight": x[WORDS] + 1},
            r"decoder.weight differs from .*word_embeddings.weight; .*not tied.* not supported",
        ),
        (
            lambda x: x | {"cls.predictions.decoder.weight": x[WORDS][:-1]},
            "decoder.weight differs from",
        ),
        (
            lambda x: x | {"cls.predictions.decoder.bias": x["cls.predictions.bias"] + 1},
            "decoder.bias differs from cls.predictions.bias",
        ),
        (
            lambda x: x | {"bert.embeddings.LayerNorm.gamma": np.ones(16, np.float32)},
            "bert.embeddings.LayerNorm.* and bert.embeddings.LayerNorm.* two names of the same",
        ),
        (
            lambda x: x | {"bert.encoder.layer.0.crossattention.self.key.weight": x[LAYER]},
            r"crossattention.self.key.weight\) that are not part of a BERT with 2 layers",
        ),
        (
            lambda x: {key.replace("bert.", "roberta."): array for key, array in x.items()},
            "are missing; unexpected tensors: roberta.*and 36 more",
        ),
    ],
)
@pytest.mark.parametrize("allow_missing_heads", [False, True])
def test_wrong_tensors_are_refused(folder, edit, message, allow_missing_heads):
    change(folder, edit)
    with pytest.raises(UserError, match=message) as caught:
        read_checkpoint(folder, allow_missing_heads)
    assert str(caught.value).startswith(f"{folder / 'model.safetensors'}: ")
    assert str(caught.value).isprintable()


def test_unexpected_tensors_are_ignored_only_if_heads_may_be_missing(folder):
    change(folder, lambda tensors: tensors | {"qa_outputs.we\night": np.ones(3, np.float32)})
    assert "(qa_outputs.we?ight) that are not part of a BERT with 2 layers" in refusal(folder)
    checkpoint = read_checkpoint(folder, allow_missing_heads=True)
    assert same_bits(checkpoint.weights, WEIGHTS)
    assert checkpoint.unused_tensors == ("qa_outputs.we\night",)


POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4665a576e2a4f8a4f4a5d2b0d4b9e6f4a6a1b8ac7b2d3f5c1c2d3e4f5a6b7c8d\nsize 440473133\n"
)


@pytest.mark.parametrize("form", ["whole", *FORMS])
def test_git_lfs_pointer_is_refused(folder, form):
    if form != "whole":
        FORMS[form](folder)
    path = min(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    path.unlink()
    path.write_text(POINTER)
    message = refusal(folder)
    assert message.startswith(f"{path}: a Git LFS pointer") and "git lfs pull" in message


def test_pickle_with_code_is_refused_and_not_run(tmp_path, folder):
    marker = tmp_path / "made"
    (folder / "model.safetensors").unlink()
    payload = pickle.dumps({WORDS: Attack(os.mkdir, str(marker))})
    write_zip(folder / "pytorch_model.bin", payload, {})
    message = refusal(folder)
    assert message.startswith(f"{folder / 'pytorch_model.bin'}: loading it would use ")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "weight_map should give for each tensor the name of a file in the same folder"),
        ({"weight_map": [1]}, "weight_map should"),
        ({"weight_map": {"a": "../model.safetensors"}}, "weight_map should"),
        ({"weight_map": {"a": "/etc/passwd"}}, "weight_map should"),
        ({"weight_map": {"a": ""}}, "weight_map should"),
        ({"weight_map": {"a": 3}}, "weight_map should"),
        (
            {"weight_map": {"a": "model-2.safetensors"}},
            "model-2.safetensors: no such file, but model.safetensors.index.json names it",
        ),
        (
            {"weight_map": {WORDS: "model-1.safetensors", "b": "model-1.safetensors"}},
            "model-1.safetensors: no tensor b, although model.safetensors.index.json says so",
        ),
        ([], "should be a JSON object"),
    ],
)
def test_wrong_index_is_refused(folder, index, message):
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert message in refusal(folder)
