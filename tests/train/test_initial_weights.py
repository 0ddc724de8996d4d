"""Initial weights: from scratch, and from models extended to another vocabulary and length."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lib.checkpoints.huggingface import write_model
from lib.model.bert import encode
from lib.model.bert_config import BertConfig
from lib.model.config import read_config
from lib.model.initialization import initial_values
from lib.model.losses import loss_sums
from lib.params import Pretrain, parse_params
from lib.run.errors import UserError
from lib.train.initial_weights import InitialModel, extended_positions, read_initial_model
from lib.train.new_token_embeddings import add_token_embeddings, needed_extension
from lib.vocab.directory import TokenizerFiles
from lib.vocab.export import write_tokenizer
from lib.vocab.extension import Extension, extend, no_extension, write_extension
from lib.vocab.loading import load_tokenizer
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from tests.helpers.tiny_bert import TINY, TINY_MODERN, random_batch, random_weights, tiny_model

TOKENS = [*SPECIAL_TOKENS, "[unused0]", "co", "##vid", "wu", "##han", "the", "lion"]
BASE = WordPieceTokenizer(TOKENS, True, True)
INIT = Path("models/base")


def files(tokens: list[str], lowercase: bool | None = True) -> TokenizerFiles:
    return TokenizerFiles(INIT / "vocab.txt", tokens, lowercase, lowercase)


def extended(size: int = 14):
    vocabulary, extension = extend(BASE, {"covid": 5, "wuhan": 4, "the": 9}, size, 1)
    return WordPieceTokenizer(vocabulary, True, True), extension


def test_a_model_with_the_base_vocabulary_needs_the_extension_and_an_extended_one_does_not():
    tokenizer, extension = extended()
    for size in (len(TOKENS), 14):
        tokenizer, extension = extended(size)
        assert needed_extension(len(TOKENS), files(TOKENS), tokenizer, extension, INIT) == extension
        assert needed_extension(len(TOKENS), None, tokenizer, extension, INIT) == extension
        own = tokenizer.vocabulary
        assert needed_extension(len(own), files(own, None), tokenizer, extension, INIT) is None
    same = no_extension(TOKENS)
    assert needed_extension(len(TOKENS), files(TOKENS), BASE, same, INIT) is None


@pytest.mark.parametrize(
    ("vocab_size", "theirs", "message"),
    [
        (12, files([*TOKENS[:-1], "tiger"]), "token 11 is 'tiger', not 'lion'"),
        (11, files(TOKENS[:-1]), "11 tokens, not 12"),
        (11, files(TOKENS), "vocabulary size of the model is 11, but its vocab.txt has 12 tokens"),
        (13, None, "vocabulary size is 13, but data/vocab has 12"),
        (
            12,
            files(TOKENS, lowercase=False),
            r"vocab\.lowercase: true, but the tokenizer of models/base has false",
        ),
    ],
)
def test_another_vocabulary_is_refused(vocab_size, theirs, message):
    with pytest.raises(UserError, match=message) as caught:
        needed_extension(vocab_size, theirs, BASE, no_extension(TOKENS), INIT)
    assert "\n" not in str(caught.value)


def test_new_tokens_hardly_change_predictions_of_old_ones():
    config = tiny_model("bert", 0.0)
    weights = random_weights(1, config, 0.2)
    tokens = [
        *SPECIAL_TOKENS,
        *(f"w{number}" for number in range(20)),
        *map("##{}".format, "abcde"),
    ]
    tokens += [f"v{number}" for number in range(50 - len(tokens))]
    base = WordPieceTokenizer(tokens, True, True)
    vocabulary, extension = extend(base, {"w1a": 9, "w2bc": 8, "w3de": 7}, 53, 1)
    assert len(extension.new_tokens) == 3
    grown, new = add_token_embeddings(config, weights, extension, 53)
    assert grown.vocab_size == len(vocabulary) == 53
    assert all(new[part.name].shape == part.shape for part in grown.parameter_table())
    batch = random_batch(3, sequences=8)
    before, after = loss_sums(weights, config, batch, True), loss_sums(new, grown, batch, True)
    # Three tokens more, of 53: the softmax gives them a part of the probability of the others.
    weight = float(before["masked_lm_weight"])
    difference = float(after["masked_lm_loss"] - before["masked_lm_loss"]) / weight
    assert 0 < difference < 2 * np.log(53 / 50)
    assert float(after["next_sentence_loss"]) == pytest.approx(float(before["next_sentence_loss"]))


POSITIONS = "bert/embeddings/position_embeddings"
WORDS = "bert/embeddings/word_embeddings"


@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 3))
def test_new_positions_repeat_learnt_ones(positions, length, size):
    config = replace(TINY, max_position_embeddings=positions)
    table = np.arange(positions * size, dtype=np.float32).reshape(positions, size)
    weights = {POSITIONS: table, "other": np.ones(2)}
    longer, new = extended_positions(config, weights, length)
    if length <= positions:
        assert longer is config and new is weights
        return
    assert longer == replace(config, max_position_embeddings=length)
    assert new["other"] is weights["other"] and new[POSITIONS].dtype == np.float32
    assert new[POSITIONS].tolist() == [
        table[position % positions].tolist() for position in range(length)
    ]
    assert weights[POSITIONS] is table and table[0, 0] == 0


def test_extended_positions_do_not_change_short_sequences():
    config, weights = TINY, random_weights(1)
    longer, new = extended_positions(config, weights, 60)
    assert all(new[part.name].shape == part.shape for part in longer.parameter_table())
    batch = random_batch(1)
    position_ids = tf.tile(tf.range(12)[None] % 5, [4, 1])
    for options in ({}, {"position_ids": position_ids}):
        before, after = (
            encode(each, sizes, {**batch, **options}).numpy()
            for each, sizes in ((weights, config), (new, longer))
        )
        assert before.tobytes() == after.tobytes()
    # In long sequences positions matter, except for the repetition.
    wide = tf.tile(batch["input_ids"], [1, 5])
    ones = {"input_mask": tf.ones_like(wide), "segment_ids": tf.zeros_like(wide)}
    hidden = encode(new, longer, {"input_ids": wide, **ones}).numpy()
    assert hidden.shape == (4, 60, 16) and np.isfinite(hidden).all()
    assert not np.allclose(hidden[:, 0], hidden[:, 12], atol=1e-3)
    np.testing.assert_allclose(hidden[:, 0], hidden[:, 48], atol=1e-5)


def google(**changes) -> dict:
    """Content of Google's bert_config.json."""
    ours = ("type_vocab_size", "initializer_range", "layer_norm_eps")
    return (
        {name: value for name, value in asdict(TINY).items() if name not in ours}
        | {"initializer_range": 0.03}
        | changes
    )


@pytest.fixture
def vocab(tmp_path) -> Path:
    """The folder of a vocabulary of twelve tokens."""
    return write_vocabulary(tmp_path / "vocab", BASE, no_extension(TOKENS))


def write_vocabulary(folder: Path, tokenizer: WordPieceTokenizer, extension: Extension) -> Path:
    folder.mkdir()
    write_tokenizer(folder, tokenizer.vocabulary, True, True, 24)
    write_extension(folder, extension)
    return folder


@pytest.fixture
def initial_model(values, vocab):
    """`read_initial_model` for a phase called main; takes init and, if it is not 24, the length."""
    values["pretrain"]["model"] |= {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 24,
    }
    values["phases"]["main"]["max_seq_length"] = 24

    def read(
        init: Path, length: int = 24, folder: Path = vocab, next_sentence: bool = True
    ) -> InitialModel:
        tokenizer = load_tokenizer(folder)
        pretrain: Pretrain = parse_params(values).pretrain
        segments = 2 if next_sentence else 1
        return read_initial_model(
            pretrain, "main", init, folder, tokenizer, length, next_sentence, segments
        )

    return read


def write_json(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def equal(ones: dict, others: dict) -> bool:
    return ones.keys() == others.keys() and all(
        np.array_equal(ones[name], others[name]) for name in ones
    )


def test_from_scratch_with_the_sizes_of_params(initial_model, vocab, values):
    found = initial_model(vocab.parent / "." / "vocab")
    assert found.from_scratch and found.notes == ()
    assert found.config == BertConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=24,
    )
    seed = values["pretrain"]["seed"]
    assert equal(found.weights, initial_values(found.config, seed))
    expected = initial_values(found.config, seed, initialization="neighbors")
    assert not equal(found.weights, expected)
    values["pretrain"]["initialization"] = "neighbors"
    assert equal(initial_model(vocab).weights, expected)


def test_from_scratch_with_the_sizes_of_googles_file(initial_model, tmp_path, values):
    found = initial_model(write_json(tmp_path / "bert_config.json", google()))
    # Google's gelu is the tanh form; type_vocab_size is 16 by default.
    assert found.config == replace(
        TINY, vocab_size=12, hidden_act="gelu_new", type_vocab_size=16, initializer_range=0.03
    )
    assert found.from_scratch
    assert equal(found.weights, initial_values(found.config, values["pretrain"]["seed"]))
    assert any("the vocabulary size is 12, as in the vocabulary, not 50" in x for x in found.notes)
    same = google(vocab_size=12, type_vocab_size=2, hidden_act="relu")
    found = initial_model(write_json(tmp_path / "bert_config.json", same))
    assert (found.config.type_vocab_size, found.config.hidden_act) == (2, "relu")
    assert not any("vocabulary size" in note for note in found.notes)
    assert all("\n" not in note for note in found.notes)


def test_from_scratch_with_the_sizes_of_hugging_faces_file(initial_model, tmp_path):
    for marker in ({"model_type": "bert"}, {"architectures": ["BertForMaskedLM"]}):
        found = initial_model(write_json(tmp_path / "config.json", google() | marker))
        assert (found.config.type_vocab_size, found.config.hidden_act) == (2, "gelu")
        assert found.from_scratch


def test_the_folder_of_a_model(initial_model, tmp_path, vocab):
    config = replace(TINY, vocab_size=12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    found = initial_model(tmp_path / "model")
    assert (found.config, found.from_scratch) == (config, False)
    assert found.notes == (f"starts from {tmp_path / 'model'} (Hugging Face)",)
    assert equal(found.weights, weights)
    # With its config file, only its sizes are used.
    fresh = initial_model(tmp_path / "model/config.json")
    assert fresh.config == config and fresh.from_scratch
    assert not equal(fresh.weights, weights)


def test_a_model_gets_new_positions_and_token_embeddings(initial_model, tmp_path):
    config = replace(TINY, vocab_size=12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    tokenizer, extension = extended()
    folder = write_vocabulary(tmp_path / "extended", tokenizer, extension)
    found = initial_model(tmp_path / "model", 30, folder)
    assert found.config == replace(config, vocab_size=13, max_position_embeddings=30)
    assert all(
        found.weights[part.name].shape == part.shape for part in found.config.parameter_table()
    )
    assert np.array_equal(found.weights[POSITIONS][24:], weights[POSITIONS][:6])
    _, positions, tokens = found.notes
    assert "2 new tokens" in tokens
    assert "positions are extended to 30" in positions


def test_a_modernbert_is_extended(initial_model, tmp_path):
    config = replace(TINY_MODERN, vocab_size=12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    same = initial_model(tmp_path / "model", next_sentence=False)
    assert same.config == config and equal(same.weights, weights)
    tokenizer, extension = extended()
    folder = write_vocabulary(tmp_path / "extended", tokenizer, extension)
    found = initial_model(tmp_path / "model", 30, folder, next_sentence=False)
    assert found.config == replace(config, vocab_size=13, max_position_embeddings=30)
    assert found.weights.keys() == weights.keys()
    words, bias = "embeddings/tok_embeddings", "decoder/bias"
    for token in extension.new_tokens:
        mean = weights[words][list(token.base_ids)].mean(axis=0)
        np.testing.assert_allclose(found.weights[words][token.id], mean, rtol=1e-6)
        assert found.weights[bias][token.id] == pytest.approx(token.log_fraction)
    kept = [*range(5), *range(6, 12)]
    for name, array in weights.items():
        old = kept if name in (words, bias) else slice(None)
        assert np.array_equal(found.weights[name][old], array[old]), name
    _, positions, tokens = found.notes
    assert "2 new tokens" in tokens
    assert positions.endswith("inputs of at most 24 tokens; its sequences will have 30")
    for init in (tmp_path / "model", tmp_path / "model/config.json"):
        with pytest.raises(UserError, match="a ModernBERT has no segments and no NSP head"):
            initial_model(init)


def test_from_scratch_with_the_sizes_of_a_modernberts_file(initial_model, tmp_path):
    write_model(tmp_path / "model", TINY_MODERN, initial_values(TINY_MODERN, 5), {})
    found = initial_model(tmp_path / "model/config.json", next_sentence=False)
    assert found.from_scratch and found.config == replace(TINY_MODERN, vocab_size=12)
    assert found.weights.keys() == {each.name for each in found.config.parameter_table()}


@pytest.mark.parametrize("spare", [4, 1, 1001])
def test_a_model_with_spare_embeddings(initial_model, tmp_path, spare):
    # Twelve tokens, and some more embeddings. Published models have up to a thousand of them.
    config = replace(TINY, vocab_size=spare + 12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    write_tokenizer(tmp_path / "model", TOKENS, True, True, 24)
    found = initial_model(tmp_path / "model")
    assert found.config == config and equal(found.weights, weights)
    assert any(
        f"{spare} embeddings of the model are beyond the vocabulary" in note for note in found.notes
    )
    # New tokens take [unused] entries first, then spare ones.
    tokenizer, extension = extended()
    folder = write_vocabulary(tmp_path / "extended", tokenizer, extension)
    found = initial_model(tmp_path / "model", folder=folder)
    assert found.config == config
    assert len(extension.new_tokens) == 2
    for token in extension.new_tokens:
        mean = weights[WORDS][list(token.base_ids)].mean(axis=0)
        np.testing.assert_allclose(found.weights[WORDS][token.id], mean, rtol=1e-6)
    untouched = sorted(set(range(spare + 12)) - {token.id for token in extension.new_tokens})
    assert np.array_equal(found.weights[WORDS][untouched], weights[WORDS][untouched])


def test_missing_heads_are_initialised_on_request(initial_model, tmp_path, values):
    config = replace(TINY, vocab_size=12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    path = tmp_path / "model/model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if not name.startswith("cls.seq")}
    save_file(kept | {"classifier.weight": np.ones((3, 16), np.float32)}, path)
    with pytest.raises(
        UserError, match=r"no NSP head.*classifier\.weight.*init_missing_heads: true"
    ):
        initial_model(tmp_path / "model")
    values["pretrain"]["init_missing_heads"] = True
    found = initial_model(tmp_path / "model")
    head = {name for name in weights if name.startswith("cls/seq")}
    assert equal(
        {n: v for n, v in found.weights.items() if n not in head},
        {n: v for n, v in weights.items() if n not in head},
    )
    fresh = initial_values(config, values["pretrain"]["seed"])
    assert all(np.array_equal(found.weights[name], fresh[name]) for name in head)
    assert any("not part of a BERT, ignored: classifier.weight" in note for note in found.notes)
    assert any("random initial weights for NSP head" in note for note in found.notes)


def test_unusable_initial_models_are_refused(initial_model, tmp_path, vocab):
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(b'{"vocab_size": \xff')
    sizes = write_json(tmp_path / "bert_config.json", google())
    nothing = tmp_path / "nothing"
    cases = [
        (nothing, 24, rf"phases\.main\.init: {nothing} does not exist; name {vocab}"),
        (empty, 24, "empty: no model found"),
        (damaged, 24, r"damaged\.json: not valid JSON"),
        (write_json(tmp_path / "list.json", [1]), 24, "list.json: should be a JSON object"),
        (vocab, 25, r"phases\.main\.max_seq_length: 25 .* raise pretrain\.model\.max_position"),
        (sizes, 25, rf"phases\.main\.max_seq_length: 25 .* max_position_embeddings in {sizes}"),
    ]
    for init, length, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            initial_model(init, length)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 17}, "hidden_size should be a multiple of num_attention_heads 2"),
        ({"hidden_act": "swish"}, "hidden_act should be gelu, gelu_new or relu. Received: 'swish'"),
        ({"hidden_act": None}, "hidden_act should be"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob should be a number from 0 to below 1"),
        ({"hidden_dropout_prob": -0.1}, "hidden_dropout_prob should be"),
        ({"attention_probs_dropout_prob": "0.1"}, "attention_probs_dropout_prob should be"),
        ({"attention_probs_dropout_prob": True}, "attention_probs_dropout_prob should be"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob should be"),
        ({"num_hidden_layers": 0}, "num_hidden_layers should be a whole number above 0"),
        ({"num_attention_heads": 0}, "num_attention_heads should be a whole number above 0"),
        ({"intermediate_size": 32.0}, "intermediate_size should be a whole number above 0"),
        ({"vocab_size": "50"}, "vocab_size should be a whole number above 0. Received: '50'"),
        ({"type_vocab_size": None}, "type_vocab_size should be"),
        ({"initializer_range": 0}, "initializer_range should be a number between 0 and 1"),
        ({"model_type": "roberta"}, "model_type should be bert or modernbert. Received: 'roberta'"),
        (
            {"model_type": "bert", "position_embedding_type": "relative_key"},
            "position_embedding_type should be absolute",
        ),
    ],
)
def test_impossible_configs_are_refused(tmp_path, changes, message):
    path = write_json(tmp_path / "bert_config.json", google(**changes))
    with pytest.raises(UserError, match=f"^{path}: {message}") as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(google().keys() - {"initializer_range"}))
def test_a_missing_size_is_named(tmp_path, name):
    path = write_json(tmp_path / "c.json", {k: v for k, v in google().items() if k != name})
    with pytest.raises(UserError, match=f"no `{name}`; not the config of a BERT"):
        read_config(path)
