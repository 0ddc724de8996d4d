"""ModernBERT in transformers 5 on PyTorch: the same hidden states, logits and gradients."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.formats import read_checkpoint  # noqa: E402
from lib.checkpoints.huggingface import read_model, write_model  # noqa: E402
from lib.checkpoints.huggingface_names import names_of  # noqa: E402
from lib.evaluation.evaluator import Evaluator  # noqa: E402
from lib.model.losses import loss_sums  # noqa: E402
from lib.model.modernbert import encode, masked_lm_logits  # noqa: E402
from lib.model.modernbert_config import ModernBertConfig  # noqa: E402
from lib.vocab.export import write_tokenizer  # noqa: E402
from lib.vocab.loading import load_tokenizer  # noqa: E402
from lib.vocab.settings import SPECIAL_TOKENS  # noqa: E402
from tests.helpers.tiny_bert import random_weights  # noqa: E402

Arrays = dict[str, np.ndarray]
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "##s", "##ting", "dog", "ran", "."]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS]
# Layers 1 and 2 are local; sequences of more than 16 tokens are computed in bands.
TINY = ModernBertConfig(
    vocab_size=len(VOCABULARY),
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=24,
    local_attention=8,
    max_position_embeddings=512,
)
MINI = ModernBertConfig(
    vocab_size=2000,
    hidden_size=128,
    num_hidden_layers=5,
    num_attention_heads=4,
    intermediate_size=192,
    max_position_embeddings=512,
)
BASE = ModernBertConfig(
    vocab_size=50_368,
    hidden_size=768,
    num_hidden_layers=22,
    num_attention_heads=12,
    intermediate_size=1152,
)


def masked_lm(folder: Path, config: ModernBertConfig, weights: Arrays):
    """transformers' model, loaded from a directory written here, without any tensor amiss."""
    write_model(folder, config, weights, config.special_ids(0, 2, 3))
    model, report = transformers.ModernBertForMaskedLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values())
    return model.eval()


def theirs(model, ids: np.ndarray, mask: np.ndarray | None = None) -> list[np.ndarray]:
    """Hidden states after the final norm, and logits: [B, S, H] and [B, S, V]."""
    given = {} if mask is None else {"attention_mask": torch.tensor(mask).long()}
    with torch.no_grad():
        hidden = model.model(torch.tensor(ids).long(), **given).last_hidden_state
        return [hidden.numpy(), model.decoder(model.head(hidden)).numpy()]


def assert_close(ours: list, expected: list[np.ndarray], real: np.ndarray) -> None:
    """Within 1e-5 of the largest absolute value, at the positions of real tokens, bool [B, S]."""
    for found, reference in zip(ours, expected, strict=True):
        largest = np.abs(reference[real]).max()
        assert np.abs(np.asarray(found) - reference)[real].max() <= 1e-5 * largest


@pytest.mark.parametrize(
    ("config", "deviation"),
    [
        (TINY, 0.1),
        pytest.param(
            replace(TINY, hidden_activation="gelu_new", global_attn_every_n_layers=2),
            0.1,
            marks=pytest.mark.slow,
        ),
        (MINI, 0.05),
        pytest.param(BASE, 0.01, marks=pytest.mark.slow),
    ],
    ids=["tiny", "tiny, tanh", "mini", "base"],
)
def test_hidden_states_and_logits_equal_those_of_transformers(tmp_path, config, deviation):
    weights = random_weights(1, config, deviation)
    model = masked_lm(tmp_path, config, weights)
    draw = np.random.default_rng(1)

    def ours(ids: np.ndarray, examples: np.ndarray, positions: np.ndarray | None = None) -> list:
        batch = {"input_ids": tf.constant(ids), "example_ids": tf.constant(examples)}
        if positions is not None:
            batch["position_ids"] = tf.constant(positions)
        hidden = encode(weights, config, batch)
        return [hidden, masked_lm_logits(weights, config, hidden)]

    # A full and a padded sequence, shorter than two windows and longer: in bands.
    for length in (16, 512):
        mask = (np.arange(length) < np.array([[length], [length // 3]])).astype(np.int32)
        ids = draw.integers(5, config.vocab_size, (2, length)).astype(np.int32) * mask
        found, real = ours(ids, mask), mask > 0
        assert_close(found, theirs(model, ids, mask), real)
        # Without an attention mask, too.
        assert_close([each[:1] for each in found], theirs(model, ids[:1]), real[:1])
    # Each example of a packed sequence, alone.
    lengths = [200, 3, 150, 100, 40]
    ids = draw.integers(5, config.vocab_size, (1, 512)).astype(np.int32)
    numbers = np.repeat([1, 2, 3, 4, 5, 0], [*lengths, 512 - sum(lengths)])[None].astype(np.int32)
    positions = np.concatenate([*map(np.arange, lengths), np.zeros(512 - sum(lengths))])
    packed = ours(ids, numbers, positions[None].astype(np.int32))
    for number in range(1, 6):
        own = numbers[0] == number
        alone = theirs(model, ids[:, own])
        assert_close([np.asarray(x)[:, own] for x in packed], alone, np.ones((1, sum(own)), bool))


PARAMETERS = {
    "embeddings/tok_embeddings": "model.embeddings.tok_embeddings.weight",
    "layers/0/attn/Wqkv": "model.layers.0.attn.Wqkv.weight",
    "layers/1/mlp/Wi": "model.layers.1.mlp.Wi.weight",
    "layers/2/attn/Wo": "model.layers.2.attn.Wo.weight",
    "layers/3/mlp_norm": "model.layers.3.mlp_norm.weight",
    "head/dense": "head.dense.weight",
    "decoder/bias": "decoder.bias",
}


@pytest.mark.parametrize("length", [16, 48])
def test_gradients_equal_pytorchs(tmp_path, length):
    """Of the masked tokens' loss, with the positions that the trainer gathers."""
    weights = random_weights(1, TINY)
    model = masked_lm(tmp_path, TINY, weights)
    draw = np.random.default_rng(2)
    mask = (np.arange(length) < np.array([[length], [length - 6], [9]])).astype(np.int32)
    ids = draw.integers(5, TINY.vocab_size, (3, length)).astype(np.int32) * mask
    positions = np.array([[1, 4, 7], [0, 3, 8], [2, 5, 6]], np.int32)
    labels = draw.integers(0, TINY.vocab_size, (3, 3)).astype(np.int32)
    batch = {
        "input_ids": ids,
        "input_mask": mask,
        "segment_ids": np.zeros_like(ids),
        "masked_lm_positions": positions,
        "masked_lm_ids": labels,
        "masked_lm_weights": np.ones((3, 3), np.float32),
        "example_weights": np.ones(3, np.float32),
    }
    variables = {name: tf.Variable(array) for name, array in weights.items()}
    with tf.GradientTape() as tape:
        tensors = {name: tf.constant(array) for name, array in batch.items()}
        loss = loss_sums(variables, TINY, tensors, next_sentence=False)["masked_lm_loss"] / 9
    found = tape.gradient(loss, [variables[name] for name in PARAMETERS])
    their_labels = np.full(ids.shape, -100)
    np.put_along_axis(their_labels, positions, labels, axis=1)
    inputs = [torch.tensor(array).long() for array in (ids, mask, their_labels)]
    output = model(inputs[0], attention_mask=inputs[1], labels=inputs[2])
    output.loss.backward()
    assert float(loss) == pytest.approx(output.loss.item(), rel=1e-5)
    parameters = dict(model.named_parameters())
    table = names_of(TINY).stored_tensors(TINY)
    for (name, other), gradient in zip(PARAMETERS.items(), found, strict=True):
        expected = parameters[other].grad.numpy()
        difference = np.abs(table[name].from_parameter(gradient.numpy()) - expected).max()
        assert difference <= 1e-4 * np.abs(expected).max(), name


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> tuple[Path, Arrays]:
    """A complete model directory, as pretrain writes it."""
    folder, weights = tmp_path_factory.mktemp("model"), random_weights(1, TINY, 0.3)
    write_model(folder, TINY, weights, TINY.special_ids(0, 2, 3))
    write_tokenizer(folder, VOCABULARY, True, True, 512, segments=False)
    return folder, weights


def test_the_tokenizer_gives_our_ids_and_what_the_model_takes(directory):
    folder, _ = directory
    theirs, ours = (
        transformers.AutoTokenizer.from_pretrained(folder),
        load_tokenizer(folder),
    )
    for text in ("A dog ran. The cats", "the [MASK] sat", "xyz", ""):
        encoded = theirs(text)
        assert [*encoded] == ["input_ids", "attention_mask"]
        assert encoded["input_ids"] == [ours.cls_id, *ours.encode(text), ours.sep_id]
    pair = theirs("a dog", "the cat", padding="max_length", max_length=9, truncation=True)
    assert [*pair] == ["input_ids", "attention_mask"]
    assert pair["input_ids"] == theirs.convert_tokens_to_ids(
        ["[CLS]", "a", "dog", "[SEP]", "the", "cat", "[SEP]", "[PAD]", "[PAD]"]
    )
    assert theirs.model_max_length == 512


def test_fill_mask_gives_our_probabilities(directory):
    folder, weights = directory
    fill = transformers.pipeline("fill-mask", model=str(folder))
    guesses = fill("The cat [MASK] on a mat.", top_k=5)
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode("The cat [MASK] on a mat.")
    sequence = [tokenizer.cls_id, *ids, tokenizer.sep_id]
    position = sequence.index(tokenizer.mask_id)
    best = Evaluator(TINY, weights).top_tokens(sequence, position, 5, TINY.vocab_size, length=24)
    assert [guess["token"] for guess in guesses] == [index for index, _ in best]
    for guess, (_, probability) in zip(guesses, best, strict=True):
        assert guess["score"] == pytest.approx(probability, abs=1e-5)


NEW = {"classifier.weight", "classifier.bias"}
UNUSED = {"head.dense.weight", "head.norm.weight", "decoder.bias"}


@pytest.mark.parametrize(
    ("name", "missing", "unexpected"),
    [
        ("AutoModelForMaskedLM", set(), set()),
        ("AutoModel", set(), UNUSED),
        ("AutoModelForSequenceClassification", NEW, {"decoder.bias"}),
        ("AutoModelForTokenClassification", NEW, {"decoder.bias"}),
    ],
)
def test_models_load_and_save_the_same_bits(directory, tmp_path, name, missing, unexpected):
    folder, weights = directory
    model, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__.startswith("ModernBert")
    assert set(report["missing_keys"]) == missing
    assert set(report["unexpected_keys"]) == unexpected
    assert not report["mismatched_keys"] and not report["error_msgs"]
    ids = {"cls": 2, "bos": 2, "sep": 3, "eos": 3, "pad": 0}
    assert all(getattr(model.config, f"{key}_token_id") == number for key, number in ids.items())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(["a dog ran.", "the cat"], padding=True, return_tensors="pt")
    output = model(**encoded)
    assert np.isfinite(output[0].detach().numpy()).all()
    # What transformers saves is the same model.
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).vocabulary == VOCABULARY
    found = read_checkpoint(tmp_path, allow_missing_heads=True)
    assert found.config == TINY
    expected = {
        parameter.name: weights[parameter.name]
        for parameter in TINY.parameter_table()
        if parameter.part not in found.missing_heads
    }
    assert found.weights.keys() == expected.keys()
    assert all(found.weights[key].tobytes() == array.tobytes() for key, array in expected.items())
    assert set(found.unused_tensors) == missing


HEADS = {
    "ModernBertForMaskedLM": (),
    "ModernBertModel": ("prediction head", "MLM head"),
    "ModernBertForSequenceClassification": ("MLM head",),
    "ModernBertForTokenClassification": ("MLM head",),
}


def transformers_model(name: str):
    """A model of transformers' own with random weights, as its own code initialises them."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 24,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "local_attention": 8,
        "max_position_embeddings": 64,
        "classifier_pooling": "mean",
        **TINY.special_ids(0, 2, 3),
    }
    return getattr(transformers, name)(transformers.ModernBertConfig(**sizes)).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["safetensors", "zip", "wrapped", "shards"])
@pytest.mark.parametrize("name", HEADS)
def test_models_of_transformers_are_read_bit_for_bit(tmp_path, name, form, dtype):
    model = transformers_model(name).to(dtype)
    state = model.state_dict()
    model.config.save_pretrained(tmp_path)
    if form in ("zip", "wrapped"):
        prefix = "module._orig_mod." if form == "wrapped" else ""
        wrapped = {prefix + key: tensor for key, tensor in state.items()}
        torch.save(wrapped, tmp_path / "pytorch_model.bin")
    else:
        model.save_pretrained(tmp_path, max_shard_size="9KB" if form == "shards" else "5GB")
    found = read_checkpoint(tmp_path, allow_missing_heads=True)
    assert found.missing_heads == HEADS[name]
    assert (found.config.classifier_pooling, found.config.local_attention) == ("mean", 8)
    classifier = sorted(NEW) if "Classification" in name else []
    assert [*found.unused_tensors] == classifier
    table = names_of(found.config).stored_tensors(found.config)
    bare = "model." if name == "ModernBertModel" else ""
    for parameter, array in found.weights.items():
        expected = state[table[parameter].name.removeprefix(bare)].float().numpy()
        assert table[parameter].from_parameter(array).tobytes() == expected.tobytes(), parameter
    parts = {each.name: each.part for each in found.config.parameter_table()}
    assert {parts[name] for name in parts} - {parts[name] for name in found.weights} == set(
        found.missing_heads
    )


@pytest.mark.parametrize("version", [4, 5])
def test_a_directory_of_transformers_has_its_logits(tmp_path, version):
    """transformers 4 wrote the same weights with another config; global layers are every second."""
    torch.manual_seed(1)
    kinds = ["full_attention", "sliding_attention"] * 2
    model = transformers_model("ModernBertForMaskedLM")
    own = model.config.to_dict() | {
        "layer_types": kinds,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": theta}
            for kind, theta in zip(kinds[:2], (5000.0, 300.0), strict=True)
        },
    }
    model = transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(**own)).eval()
    model.save_pretrained(tmp_path)
    if version == 4:
        values = json.loads((tmp_path / "config.json").read_text())
        del values["layer_types"], values["rope_parameters"]
        values |= {
            "global_attn_every_n_layers": 2,
            "global_rope_theta": 5000.0,
            "local_rope_theta": 300.0,
            "transformers_version": "4.48.0",
        }
        (tmp_path / "config.json").write_text(json.dumps(values))
    config, weights = read_model(tmp_path)
    assert config.global_attn_every_n_layers == 2
    assert math.isclose(config.global_rope_theta, 5000) and math.isclose(
        config.local_rope_theta, 300
    )
    ids = np.random.default_rng(3).integers(5, 24, (2, 60)).astype(np.int32)
    batch = {"input_ids": tf.constant(ids), "input_mask": tf.ones_like(ids)}
    hidden = encode(weights, config, batch)
    logits = masked_lm_logits(weights, config, hidden)
    assert_close([hidden, logits], theirs(model, ids), np.ones(ids.shape, bool))
    # In both forms, what is written here is read there as the same.
    write_model(tmp_path / "again", config, weights, config.special_ids(0, 2, 3))
    again = transformers.ModernBertConfig.from_pretrained(tmp_path / "again")
    assert again.layer_types == kinds and again.rope_parameters == own["rope_parameters"]
