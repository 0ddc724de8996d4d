"""Bootstrap intervals over documents."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.held_out import HeldOut
from lib.evaluation.metrics import METRICS, TokenCountCode
from lib.evaluation.sums import DocumentSums, ModelSums
from lib.evaluation.unigram import Unigram
from lib.params import Evaluate, Records
from tests.helpers.held_out import LARGE, SEED, read_documents, write_shard

NSP_LOSS = [METRICS["nsp_loss"]]


def test_95_percent_intervals_contain_the_true_value_in_95_percent_of_test_sets():
    """200 test sets of 300 documents of different sizes and difficulties."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 40, 20_000)
    means = draw.gamma(4, 1, 20_000)
    truth = (sizes * means).sum() / sizes.sum()
    covered = 0
    for number in range(200):
        chosen = draw.integers(0, len(sizes), 300)
        sums = DocumentSums(NSP_LOSS)
        loss = sizes[chosen] * means[chosen]
        sums.add(np.arange(300), {"pairs": sizes[chosen], "loss": loss})
        low, high = sums.intervals(number, 200)["nsp_loss"]
        covered += low <= truth <= high
        assert low < sums.metrics()["nsp_loss"] < high
    assert 0.90 <= covered / 200 <= 0.99


def test_intervals_are_reproducible_and_narrow_with_more_documents():
    def width(documents: int) -> float:
        draw = np.random.default_rng(1)
        sums = DocumentSums(NSP_LOSS)
        values = draw.random(documents)
        sums.add(np.arange(documents), {"pairs": np.ones(documents), "loss": values})
        found = sums.intervals(SEED)
        assert found == sums.intervals(SEED)
        low, high = found["nsp_loss"]
        # In standard errors of a mean.
        return (high - low) / (values.std() / math.sqrt(documents))

    assert width(100) == pytest.approx(2 * 1.96, rel=0.1)
    assert width(1600) == pytest.approx(2 * 1.96, rel=0.1)


def test_the_example_of_the_docstring():
    sums = DocumentSums([METRICS["bits_per_character"]])
    sums.add(
        np.arange(3), {"bits": np.array([300, 50, 110]), "characters": np.array([100, 25, 40])}
    )
    assert sums.metrics()["bits_per_character"] == pytest.approx(2.788, abs=5e-4)


def test_the_interval_of_perplexity_is_that_of_the_loss():
    sums = DocumentSums([METRICS["mlm_loss"], METRICS["mlm_perplexity"]])
    losses = np.random.default_rng(0).random(50)
    sums.add(np.arange(50), {"loss": losses, "tokens": np.ones(50)})
    found = sums.intervals(SEED)
    assert found["mlm_perplexity"] == pytest.approx([math.exp(x) for x in found["mlm_loss"]])


def test_a_single_document_has_no_interval():
    sums = DocumentSums(NSP_LOSS)
    sums.add(np.array([0, 0]), {"loss": np.ones(2), "pairs": np.ones(2)})
    assert sums.intervals(SEED) == {} and sums.metrics() == {"nsp_loss": 1.0}


def test_the_table_has_the_totals_of_documents_in_which_something_was_evaluated():
    mlm, nsp = DocumentSums([METRICS["bits_per_character"]]), DocumentSums(NSP_LOSS)
    mlm.add(np.array([0, 2, 2]), {"bits": np.array([3.0, 4.0, 5.0]), "characters": np.ones(3)})
    nsp.add(np.array([4]), {"loss": np.array([0.5]), "pairs": np.ones(1)})
    sums = ModelSums(mlm, nsp)
    assert sums.documents() == 5
    table = sums.table(list("abcdefg"))
    assert table["document"].tolist() == ["a", "c", "e"]
    assert table["mlm.bits"].tolist() == [3.0, 9.0, 0.0]
    assert table["nsp.pairs"].tolist() == [0.0, 0.0, 1.0]
    assert ModelSums(DocumentSums(NSP_LOSS)).documents() == 0


def test_a_line_of_the_table_is_of_the_document_that_its_digest_names(shards, tmp_path):
    """Of a predictor without context, a document's totals do not depend on the other documents."""

    def table(paths: list[Path]) -> pd.DataFrame:
        records = Records(next_sentence=False)
        code = TokenCountCode(np.array([3, 2, 1]))
        held_out = HeldOut(paths, LARGE, Evaluate(masked_lm_prob=0.3), records, code)
        unigram = Unigram(np.arange(len(LARGE.vocabulary)) + 1)
        (mlm,), _ = held_out.evaluate_mlm([unigram.predict_mlm], 32)
        sums = ModelSums(mlm)
        return sums.table(held_out.digests(sums.documents())).set_index("document")

    together = table(shards)
    texts = read_documents(shards)
    for number in (3, 40, 70, 119):
        text = "\n".join(texts[number])
        alone = table([write_shard(tmp_path, [text])])
        (digest,) = alone.index
        assert digest == hashlib.blake2b(f"{text}\n".encode(), digest_size=16).hexdigest()
        assert together.loc[digest].to_dict() == pytest.approx(alone.loc[digest].to_dict())
