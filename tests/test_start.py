"""Models to start from, beside the vocabulary that training uses."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.interop.huggingface import read_model, write_model
from lib.model.bert import encode
from lib.model.config import BertConfig, read_config
from lib.model.losses import loss_sums
from lib.model.parameters import initial_values, parameter_table
from lib.params import Pretrain, parse_params
from lib.run.errors import UserError
from lib.train.new_rows import new_rows, with_new_rows
from lib.train.start import Start, read_start, stretched
from lib.vocab.directory import TokenizerFiles
from lib.vocab.export import write_tokenizer
from lib.vocab.extension import Extension, extend, no_extension, write_extension
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer
from tests.test_model import TINY, random_batch, random_weights

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
    assert len(extension.rows) == 3
    grown, new = with_new_rows(config, weights, extension, 53)
    assert grown.vocab_size == len(vocabulary) == 53
    assert all(new[part.name].shape == part.shape for part in parameter_table(grown))
    batch = random_batch(3, rows=8)
    before, after = loss_sums(weights, config, batch, True), loss_sums(new, grown, batch, True)
    # Three rows more of 53: the softmax gives them a part of what it gave to the others.
    weight = float(before["masked_lm_weight"])
    difference = float(after["masked_lm_loss"] - before["masked_lm_loss"]) / weight
    assert 0 < difference < 2 * np.log(53 / 50)
    assert float(after["next_sentence_loss"]) == pytest.approx(float(before["next_sentence_loss"]))
