"""Model conversion: written files, notes and refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.checkpoints import google, huggingface
from lib.checkpoints.conversion import convert_model
from lib.checkpoints.formats import detect_format, read_checkpoint
from lib.model.bert import encode, masked_lm_logits
from lib.model.initialization import initial_values
from lib.run.errors import UserError
from lib.vocab.directory import read_directory
from lib.vocab.export import write_tokenizer
from tests.helpers.checkpoints import (
    GOOGLE_CONFIG,
    MODEL_GARDEN,
    VOCABULARY,
    same_bits,
    save_tf1,
)
from tests.helpers.tiny_bert import TINY, TINY_MODERN, random_batch, random_weights

PAD_ID = {"pad_token_id": 0}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hugging_face(tmp_path):
    """Writes a Hugging Face directory, as pretrain does."""

    def write(config=TINY, lowercase=True, strip_accents=True) -> Path:
        folder = tmp_path / "hf"
        folder.mkdir()
        huggingface.write_model(folder, config, random_weights(1), PAD_ID)
        write_tokenizer(folder, VOCABULARY, lowercase, strip_accents, 24)
        return folder

    return write


@pytest.fixture
def tf1(tmp_path):
    """A Google TF1 folder: config, checkpoint and vocab.txt, which do not state the case."""
    folder = save_tf1(tmp_path / "google", random_weights(1))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    return folder


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_round_trip_gives_the_same_files(tmp_path, hugging_face, hidden_act, lowercase):
    config = replace(TINY, hidden_act=hidden_act, layer_norm_eps=1e-6)
    source = hugging_face(config, lowercase, lowercase)
    exported, back = tmp_path / "exported", tmp_path / "back"
    notes = convert_model(source, exported, "google")
    assert any("erf form of GELU" in note for note in notes) == (hidden_act == "gelu")
    assert any(f"--do_lower_case={lowercase}" in note for note in notes)
    assert {path.name for path in exported.iterdir()} == {
        "bert_config.json",
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
        "vocab.txt",
        "tokenizer_config.json",
    }
    convert_model(exported, back, "huggingface")
    assert files_of(back) == files_of(source)


def test_a_modernbert_has_one_format(tmp_path):
    source, weights = tmp_path / "hf", random_weights(1, TINY_MODERN)
    source.mkdir()
    ids = TINY_MODERN.special_ids(0, 2, 3)
    huggingface.write_model(source, TINY_MODERN, weights, ids)
    write_tokenizer(source, VOCABULARY, True, True, 24, segments=False)
    convert_model(source, tmp_path / "again", "huggingface")
    assert files_of(tmp_path / "again") == files_of(source)
    convert_model(source, tmp_path / "bare", "huggingface", without_tokenizer=True)
    assert (tmp_path / "bare/config.json").read_bytes() == (source / "config.json").read_bytes()
    with pytest.raises(UserError, match="hf: a ModernBERT, which Google's code does not have; con"):
        convert_model(source, tmp_path / "tf1", "google")
    assert not (tmp_path / "tf1").exists() and not [*tmp_path.glob(".*")]


def test_target_inside_the_source_is_refused(tf1):
    before = files_of(tf1)
    with pytest.raises(UserError, match=r"sub: is inside .*google; name a folder elsewhere"):
        convert_model(tf1, tf1 / "sub", "google")
    assert files_of(tf1) == before


def test_first_of_two_concurrent_conversions_wins(tmp_path, tf1, monkeypatch):
    target, write = tmp_path / "target", google.write_model

    def while_another_finishes(*arguments):
        write(*arguments)
        target.mkdir()
        (target / "theirs").write_text("whole")

    monkeypatch.setattr(google, "write_model", while_another_finishes)
    with pytest.raises(UserError, match="target: another process has written it meanwhile"):
        convert_model(tf1, target, "google")
    assert [path.name for path in target.iterdir()] == ["theirs"]
    assert not [*tmp_path.glob(".*")]


def test_case_of_google_models_must_be_given(tmp_path, tf1):
    target = tmp_path / "target"
    with pytest.raises(UserError, match=r"no tokenizer_config.json.*give --lowercase yes"):
        convert_model(tf1, target, "huggingface")
    assert not target.exists() and not [*tmp_path.glob(".*")]
    for number, (lowercase, strip, expected) in enumerate(
        [(True, None, True), (False, None, False), (True, False, False)]
    ):
        target = tmp_path / str(number)
        convert_model(tf1, target, "huggingface", lowercase, strip)
        files = read_directory(target)
        assert (files.lowercase, files.strip_accents) == (lowercase, expected)
        assert files.vocabulary == VOCABULARY
        assert read_checkpoint(target).config == GOOGLE_CONFIG
        assert same_bits(read_checkpoint(target).weights, random_weights(1))


def test_note_about_a_tokenizer_that_google_lacks(tmp_path, hugging_face):
    source = hugging_face(TINY, True, False)
    notes = convert_model(source, tmp_path / "target", "google", lowercase=True)
    assert any("this model's keeps them: their token ids differ" in note for note in notes)


def test_options_that_contradict_the_source_are_refused(tmp_path, hugging_face):
    source = hugging_face()
    convert_model(source, tmp_path / "same", "huggingface", lowercase=True)
    for options, message in (
        ({"lowercase": False}, f"--lowercase no: {source} states yes"),
        ({"lowercase": True, "strip_accents": False}, f"--strip-accents no: {source} states yes"),
    ):
        with pytest.raises(UserError, match=message):
            convert_model(source, tmp_path / "target", "google", **options)


def test_embeddings_beyond_the_vocabulary_are_kept(tmp_path, tf1):
    shorter = VOCABULARY[:43]
    (tf1 / "vocab.txt").write_text("".join(f"{token}\n" for token in shorter))
    notes = convert_model(tf1, tmp_path / "target", "huggingface", True)
    assert any(
        "kept 7 word embeddings beyond the 43 entries of the vocabulary" in note for note in notes
    )
    assert read_checkpoint(tmp_path / "target").config.vocab_size == 50
    assert read_directory(tmp_path / "target").vocabulary == shorter
    (tf1 / "vocab.txt").write_text("".join(f"{token}\n" for token in [*VOCABULARY, "more"]))
    with pytest.raises(
        UserError, match=r"vocab.txt: 51 entries, but the model has 50 word embeddings"
    ):
        convert_model(tf1, tmp_path / "other", "huggingface", True)


def test_source_without_a_vocabulary(tmp_path, tf1):
    (tf1 / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"no vocab.txt.*or give --without-tokenizer"):
        convert_model(tf1, tmp_path / "target", "huggingface", True)
    convert_model(tf1, tmp_path / "target", "huggingface", without_tokenizer=True)
    assert {*files_of(tmp_path / "target")} == {"config.json", "model.safetensors"}
    (tf1 / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"vocab.txt: the vocabulary lacks .* \[PAD\]"):
        convert_model(tf1, tmp_path / "other", "huggingface", True)


def test_missing_heads_are_initialised_only_if_allowed(tmp_path, tf1):
    weights = {name: array for name, array in random_weights(1).items() if name[:4] != "cls/"}
    save_tf1(tf1, weights | {"output_bias": np.ones(3, np.float32)})
    with pytest.raises(
        UserError, match=r"no MLM head and no NSP head.*; give --init-missing-heads"
    ):
        convert_model(tf1, tmp_path / "target", "google")
    notes = convert_model(tf1, tmp_path / "target", "google", init_missing_heads=True)
    assert "initialised randomly (seed 1): MLM head, NSP head" in notes
    assert "ignored, not part of a BERT for pretraining: output_bias" in notes
    heads = {
        name: array for name, array in initial_values(GOOGLE_CONFIG, 1).items() if "cls/" in name
    }
    assert same_bits(read_checkpoint(tmp_path / "target").weights, weights | heads)
    save_tf1(tf1, random_weights(1) | {"output_bias": np.ones(3, np.float32)})
    with pytest.raises(
        UserError, match=r"\(output_bias\) that are not part of a BERT with 2 layers"
    ):
        convert_model(tf1, tmp_path / "other", "google")


def test_existing_target_is_not_touched(tmp_path, tf1):
    target = tmp_path / "target"
    target.mkdir()
    (target / "thesis.txt").write_text("draft")
    before = files_of(tf1)
    for used in (target, tf1, tf1 / "vocab.txt"):
        with pytest.raises(UserError, match="already exists; name a new or an empty folder"):
            convert_model(tf1, used, "huggingface", True)
    assert files_of(target) == {"thesis.txt": b"draft"} and files_of(tf1) == before
    (target / "thesis.txt").unlink()
    convert_model(tf1, target, "huggingface", True)
    assert detect_format(target) == "Hugging Face"


def test_model_that_reads_back_differently_is_discarded(tmp_path, tf1, monkeypatch):
    def write(folder, config, weights, special_ids):
        name = "bert/pooler/dense/bias"
        huggingface_write(folder, config, weights | {name: -weights[name]}, special_ids)

    huggingface_write = huggingface.write_model
    monkeypatch.setattr(huggingface, "write_model", write)
    with pytest.raises(
        UserError, match=r"target: the written model differs from its source .*pooler/dense"
    ):
        convert_model(tf1, tmp_path / "target", "huggingface", True)
    assert not (tmp_path / "target").exists()


def test_forms_of_gelu_differ_by_about_the_stated_amount():
    """With activations as large as in a trained model, whose logits are several units."""
    batch = random_batch(1)
    weights = {name: 4 * array for name, array in random_weights(1).items()}
    logits = []
    for form in ("gelu", "gelu_new"):
        config = replace(TINY, hidden_act=form)
        hidden = encode(weights, config, batch)
        logits.append(masked_lm_logits(weights, config, hidden).numpy())
    assert 1e-4 < np.abs(logits[0] - logits[1]).max() < 1e-1


@pytest.mark.parametrize("to", ["google", "huggingface"])
def test_model_garden_checkpoints_are_converted(tmp_path, to):
    for name, noted in (("run_pretraining", False), ("run_pretraining_2020", True)):
        source, target = MODEL_GARDEN / name, tmp_path / name
        notes = convert_model(source, target, to, without_tokenizer=True)
        assert notes[0] == f"{source}: Model Garden TF2"
        assert any("no activation function" in note for note in notes) == noted
        read = read_checkpoint(source)
        assert read_checkpoint(target).config == read.config
        assert same_bits(read_checkpoint(target).weights, read.weights)
