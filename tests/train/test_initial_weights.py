"""Models to start from, beside the vocabulary that training uses."""

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
from lib.model.config import BertConfig, read_config
from lib.model.losses import loss_sums
from lib.model.parameters import initial_values, parameter_table
from lib.params import Pretrain, parse_params
from lib.run.errors import UserError
from lib.train.initial_weights import Start, read_start, stretched
from lib.train.new_token_embeddings import new_rows, with_new_rows
from lib.vocab.directory import TokenizerFiles
from lib.vocab.export import write_tokenizer
from lib.vocab.extension import Extension, extend, no_extension, write_extension
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer
from tests.helpers.tiny_bert import TINY, random_batch, random_weights

PIECES = [*SPECIAL_TOKENS, "[unused0]", "co", "##vid", "wu", "##han", "the", "lion"]
BASE = WordPieceTokenizer(PIECES, True, True)
INIT = Path("models/base")


def files(pieces: list[str], lowercase: bool | None = True) -> TokenizerFiles:
    return TokenizerFiles(INIT / "vocab.txt", pieces, lowercase, lowercase)


def extended(size: int = 14):
    vocabulary, extension = extend(BASE, {"covid": 5, "wuhan": 4, "the": 9}, size, 1)
    return WordPieceTokenizer(vocabulary, True, True), extension


def test_the_base_gets_new_rows_and_the_extended_model_none():
    tokenizer, extension = extended()
    for size in (len(PIECES), 14):
        tokenizer, extension = extended(size)
        assert new_rows(len(PIECES), files(PIECES), tokenizer, extension, INIT) == extension
        assert new_rows(len(PIECES), None, tokenizer, extension, INIT) == extension
        own = tokenizer.vocabulary
        assert new_rows(len(own), files(own, None), tokenizer, extension, INIT) is None
    same = no_extension(PIECES)
    assert new_rows(len(PIECES), files(PIECES), BASE, same, INIT) is None


@pytest.mark.parametrize(
    ("rows", "theirs", "message"),
    [
        (12, files([*PIECES[:-1], "tiger"]), "piece 11 is 'tiger', not 'lion'"),
        (11, files(PIECES[:-1]), "11 pieces, not 12"),
        (13, files(PIECES), "13 vocabulary rows, its vocab.txt 12"),
        (13, None, "has 13 vocabulary rows, data/vocab has 12"),
        (
            12,
            files(PIECES, lowercase=False),
            r"vocab\.lowercase: true, but the tokenizer of models/base has false",
        ),
    ],
)
def test_another_vocabulary_is_refused(rows, theirs, message):
    with pytest.raises(UserError, match=message) as caught:
        new_rows(rows, theirs, BASE, no_extension(PIECES), INIT)
    assert "\n" not in str(caught.value)


def test_what_the_model_says_of_old_pieces_hardly_changes():
    config = BertConfig(50, 16, 1, 2, 32, "gelu", 0, 0, 24)
    draw = np.random.default_rng(1)
    weights = {
        name: (array + draw.normal(0, 0.2, array.shape)).astype(np.float32)
        for name, array in initial_values(config, 1).items()
    }
    pieces = [
        *SPECIAL_TOKENS,
        *(f"w{number}" for number in range(20)),
        *map("##{}".format, "abcde"),
    ]
    pieces += [f"v{number}" for number in range(50 - len(pieces))]
    base = WordPieceTokenizer(pieces, True, True)
    vocabulary, extension = extend(base, {"w1a": 9, "w2bc": 8, "w3de": 7}, 53, 1)
    assert len(extension.new_tokens) == 3
    grown, new = with_new_rows(config, weights, extension, 53)
    assert grown.vocab_size == len(vocabulary) == 53
    assert all(new[part.name].shape == part.shape for part in parameter_table(grown))
    batch = random_batch(3, sequences=8)
    before, after = loss_sums(weights, config, batch, True), loss_sums(new, grown, batch, True)
    # Three rows more of 53: the softmax gives them a part of what it gave to the others.
    weight = float(before["masked_lm_weight"])
    difference = float(after["masked_lm_loss"] - before["masked_lm_loss"]) / weight
    assert 0 < difference < 2 * np.log(53 / 50)
    assert float(after["next_sentence_loss"]) == pytest.approx(float(before["next_sentence_loss"]))


POSITIONS = "bert/embeddings/position_embeddings"
WORDS = "bert/embeddings/word_embeddings"


@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 3))
def test_new_positions_repeat_the_learnt_ones(positions, length, size):
    config = replace(TINY, max_position_embeddings=positions)
    table = np.arange(positions * size, dtype=np.float32).reshape(positions, size)
    weights = {POSITIONS: table, "other": np.ones(2)}
    longer, new = stretched(config, weights, length)
    if length <= positions:
        assert longer is config and new is weights
        return
    assert longer == replace(config, max_position_embeddings=length)
    assert new["other"] is weights["other"] and new[POSITIONS].dtype == np.float32
    assert new[POSITIONS].tolist() == [table[row % positions].tolist() for row in range(length)]
    assert weights[POSITIONS] is table and table[0, 0] == 0


def test_a_stretched_model_says_of_short_rows_what_it_said():
    config, weights = TINY, random_weights(1)
    longer, new = stretched(config, weights, 60)
    assert all(new[part.name].shape == part.shape for part in parameter_table(longer))
    batch = random_batch(1)
    ids, mask, segments = (batch[key] for key in ("input_ids", "input_mask", "segment_ids"))
    places = tf.tile(tf.range(12)[None] % 5, [4, 1])
    for options in ({}, {"position_ids": places}):
        before, after = (
            encode(each, sizes, ids, mask, segments, **options).numpy()
            for each, sizes in ((weights, config), (new, longer))
        )
        assert before.tobytes() == after.tobytes()
    # Of long rows it says something, and it sees where a token is but for the repetition.
    wide = tf.tile(ids, [1, 5])
    hidden = encode(new, longer, wide, tf.ones_like(wide), tf.zeros_like(wide)).numpy()
    assert hidden.shape == (4, 60, 16) and np.isfinite(hidden).all()
    assert not np.allclose(hidden[:, 0], hidden[:, 12], atol=1e-3)
    np.testing.assert_allclose(hidden[:, 0], hidden[:, 48], atol=1e-5)


def google(**changes) -> dict:
    """What stands in a bert_config.json of Google's."""
    names = list(asdict(TINY))[:9]
    return {name: asdict(TINY)[name] for name in names} | {"initializer_range": 0.03} | changes


@pytest.fixture
def vocab(tmp_path) -> Path:
    """The vocabulary's folder, of twelve pieces."""
    return write_vocabulary(tmp_path / "vocab", BASE, no_extension(PIECES))


def write_vocabulary(folder: Path, tokenizer: WordPieceTokenizer, extension: Extension) -> Path:
    folder.mkdir()
    write_tokenizer(folder, tokenizer.vocabulary, True, True, 24)
    write_extension(folder, extension)
    return folder


@pytest.fixture
def start(values, vocab):
    """`read_start` of a phase called main; takes init and, if it is not 24, the length."""
    values["pretrain"]["model"] |= {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 24,
    }
    values["phases"]["main"]["max_seq_length"] = 24

    def read(init: Path, length: int = 24, folder: Path = vocab) -> Start:
        tokenizer = WordPieceTokenizer.load(folder)
        pretrain: Pretrain = parse_params(values).pretrain
        return read_start(pretrain, "main", init, folder, tokenizer, length)

    return read


def write_json(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def equal(ones: dict, others: dict) -> bool:
    return ones.keys() == others.keys() and all(
        np.array_equal(ones[name], others[name]) for name in ones
    )


def test_from_scratch_with_the_sizes_of_params(start, vocab, values):
    found = start(vocab.parent / "." / "vocab")
    assert found.from_scratch and found.notes == ()
    assert found.config == BertConfig(12, 16, 1, 2, 24, "gelu", 0.0, 0.0, 24)
    assert equal(found.weights, initial_values(found.config, values["pretrain"]["seed"]))


def test_from_scratch_with_the_sizes_of_googles_file(start, tmp_path, values):
    found = start(write_json(tmp_path / "bert_config.json", google()))
    # Google's gelu is the tanh form, and its code has 16 segments if the file does not say.
    assert found.config == replace(
        TINY, vocab_size=12, hidden_act="gelu_new", type_vocab_size=16, initializer_range=0.03
    )
    assert found.from_scratch
    assert equal(found.weights, initial_values(found.config, values["pretrain"]["seed"]))
    assert any("the 12 rows of the vocabulary, not the vocab_size 50" in x for x in found.notes)
    same = google(vocab_size=12, type_vocab_size=2, hidden_act="relu")
    found = start(write_json(tmp_path / "bert_config.json", same))
    assert (found.config.type_vocab_size, found.config.hidden_act) == (2, "relu")
    assert not any("vocab_size" in note for note in found.notes)
    assert all("\n" not in note for note in found.notes)


def test_from_scratch_with_the_sizes_of_hugging_faces_file(start, tmp_path):
    for marker in ({"model_type": "bert"}, {"architectures": ["BertForMaskedLM"]}):
        found = start(write_json(tmp_path / "config.json", google() | marker))
        assert (found.config.type_vocab_size, found.config.hidden_act) == (2, "gelu")
        assert found.from_scratch


def test_a_models_folder(start, tmp_path, vocab):
    config = replace(TINY, vocab_size=12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    found = start(tmp_path / "model")
    assert (found.config, found.from_scratch) == (config, False)
    assert found.notes == (f"starts from {tmp_path / 'model'} (Hugging Face)",)
    assert equal(found.weights, weights)
    # Its own config file gives its sizes, but not its weights.
    fresh = start(tmp_path / "model/config.json")
    assert fresh.config == config and fresh.from_scratch
    assert not equal(fresh.weights, weights)


def test_a_model_gets_new_positions_and_new_rows(start, tmp_path):
    config = replace(TINY, vocab_size=12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    tokenizer, extension = extended()
    folder = write_vocabulary(tmp_path / "extended", tokenizer, extension)
    found = start(tmp_path / "model", 30, folder)
    assert found.config == replace(config, vocab_size=13, max_position_embeddings=30)
    assert all(
        found.weights[part.name].shape == part.shape for part in parameter_table(found.config)
    )
    assert np.array_equal(found.weights[POSITIONS][24:], weights[POSITIONS][:6])
    _, words, positions = found.notes
    assert "2 new words" in words
    assert "has 24 positions" in positions and "up to 30" in positions


def test_a_model_with_rows_to_spare(start, tmp_path):
    # Twelve pieces in sixteen rows: a multiple of eight.
    config = replace(TINY, vocab_size=16)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    write_tokenizer(tmp_path / "model", PIECES, True, True, 24)
    found = start(tmp_path / "model")
    assert found.config == config and equal(found.weights, weights)
    assert any("4 rows of the model are beyond the vocabulary" in note for note in found.notes)
    # New words take unused rows, and then those.
    tokenizer, extension = extended()
    folder = write_vocabulary(tmp_path / "extended", tokenizer, extension)
    found = start(tmp_path / "model", folder=folder)
    assert found.config == config
    for token in extension.new_tokens:
        mean = weights[WORDS][list(token.base_ids)].mean(axis=0)
        np.testing.assert_allclose(found.weights[WORDS][token.id], mean, rtol=1e-6)
    untouched = sorted(set(range(16)) - {token.id for token in extension.new_tokens})
    assert np.array_equal(found.weights[WORDS][untouched], weights[WORDS][untouched])


def test_new_heads_when_they_are_asked_for(start, tmp_path, values):
    config = replace(TINY, vocab_size=12)
    weights = initial_values(config, 5)
    write_model(tmp_path / "model", config, weights, {})
    path = tmp_path / "model/model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if not name.startswith("cls.seq")}
    save_file(kept | {"classifier.weight": np.ones((3, 16), np.float32)}, path)
    with pytest.raises(
        UserError, match=r"no NSP head.*classifier\.weight.*init_missing_heads: true"
    ):
        start(tmp_path / "model")
    values["pretrain"]["init_missing_heads"] = True
    found = start(tmp_path / "model")
    head = {name for name in weights if name.startswith("cls/seq")}
    assert equal(
        {n: v for n, v in found.weights.items() if n not in head},
        {n: v for n, v in weights.items() if n not in head},
    )
    fresh = initial_values(config, values["pretrain"]["seed"])
    assert all(np.array_equal(found.weights[name], fresh[name]) for name in head)
    assert any("classifier.weight: no part of a BERT, left out" in note for note in found.notes)
    assert any("has no NSP head" in note for note in found.notes)


def test_what_cannot_be_started_from(start, tmp_path, vocab):
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(b'{"vocab_size": \xff')
    sizes = write_json(tmp_path / "bert_config.json", google())
    nothing = tmp_path / "nothing"
    cases = [
        (nothing, 24, rf"phases\.main\.init: {nothing} is not there; name {vocab}"),
        (empty, 24, "empty: no model found"),
        (damaged, 24, r"damaged\.json: not valid JSON"),
        (write_json(tmp_path / "list.json", [1]), 24, "list.json: should be a JSON object"),
        (vocab, 25, r"phases\.main\.max_seq_length: 25 .* raise pretrain\.model\.max_position"),
        (sizes, 25, rf"phases\.main\.max_seq_length: 25 .* max_position_embeddings in {sizes}"),
    ]
    for init, length, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            start(init, length)
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
        ({"model_type": "roberta"}, "model_type should be bert. Received: 'roberta'"),
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
