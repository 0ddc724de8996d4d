"""Losses by token frequency, token type, position and length."""

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.breakdowns import Breakdowns
from lib.evaluation.metrics import MLM_METRICS, TokenScores
from lib.evaluation.sequences import MaskedWordSequences
from lib.evaluation.sums import DocumentSums
from tests.helpers.held_out import PROBABILITY, SEED, SMALL, all_batches, word_scores


def test_breakdowns_add_up_to_the_metrics(shards):
    counts = np.arange(len(SMALL.vocabulary)) ** 2
    breakdowns, sums = Breakdowns(counts, 64), DocumentSums(MLM_METRICS)
    draw = np.random.default_rng(0)
    tokens = []
    for batch in all_batches(MaskedWordSequences(SMALL, 64, PROBABILITY, SEED), shards):
        losses = draw.random(batch.labels.shape)
        scores = TokenScores(losses, np.where(losses < 0.2, 0, 1), np.ones(losses.shape, int))
        breakdowns.update(batch, scores)
        sums.update(batch.documents, word_scores(batch, scores))
        for row, column in np.argwhere(batch.words >= 0):
            word = batch.words[row, column]
            is_first = column == 0 or batch.words[row, column - 1] != word
            several = "first wordpiece" if is_first else "later wordpiece"
            tokens.append(
                {
                    "type": "whole word" if (batch.words == word).sum() == 1 else several,
                    "digits": len(str(counts[batch.labels[row, column]]).lstrip("0")),
                    "position": batch.positions[row, column],
                    "length": -(-batch.lengths[row] // 4) * 4,
                    "loss": losses[row, column],
                }
            )
    tables, expected = breakdowns.tables(), pd.DataFrame(tokens)
    for name in ("by_frequency", "by_position", "by_length", "by_token_type"):
        table = tables[name]
        assert table["tokens"].sum() == sums.by_name["tokens"].sum()
        for column, total in (("mlm_loss", "loss"), ("mlm_accuracy", "top_1")):
            by_bin = table["tokens"] * table[column]
            assert by_bin.sum() == pytest.approx(sums.by_name[total].sum())
    for name, column, key in (
        ("by_token_type", "token_type", "type"),
        ("by_position", "position", "position"),
        ("by_length", "length", "length"),
    ):
        means = expected.groupby(key)["loss"].mean()
        found = tables[name].set_index(column)["mlm_loss"]
        assert found.to_dict() == pytest.approx(means.to_dict())
    by_digits = expected.groupby("digits")["loss"].mean()
    assert tables["by_frequency"]["mlm_loss"].tolist() == pytest.approx(by_digits.tolist())
    names = tables["by_frequency"]["times_in_training"].tolist()
    assert names[-1] == "10000-99999" and "10-99" in names
