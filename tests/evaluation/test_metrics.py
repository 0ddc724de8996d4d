"""The table of metrics, and how metrics are read back from metrics.json."""

import math

import numpy as np
import pytest

from lib.evaluation.metrics import (
    INITIAL,
    METRICS,
    MLM_METRICS,
    NSP_METRICS,
    TOP_TOKEN,
    UNIGRAM,
    TokenScores,
    headlines,
    results_in,
)
from lib.evaluation.sequences import MaskedWordSequences
from lib.evaluation.sums import DocumentSums
from lib.evaluation.unigram import Unigram
from tests.conftest import ROOT
from tests.helpers.held_out import (
    LARGE,
    PROBABILITY,
    SEED,
    SMALL,
    all_batches,
    make_tokenizer,
    word_scores,
    write_shard,
)


def scores(losses: np.ndarray, correct: np.ndarray) -> TokenScores:
    """With the label first where `correct` is 1, and tenth elsewhere."""
    return TokenScores(losses, np.where(correct == 1, 0, 9), np.ones(losses.shape, int))


def test_tied_tokens_share_the_places_of_the_top_k():
    tokens = TokenScores(np.zeros(4), np.array([0, 3, 4, 5]), np.array([1, 4, 2, 1]))
    assert tokens.in_top(5).tolist() == [1, 0.5, 0.5, 0]
    assert tokens.in_top(1).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("length", [12, 64])
def test_bits_per_character_do_not_depend_on_the_vocabulary(shards, length):
    """For a model that pays three bits for every character, however words are split."""
    losses = []
    for tokenizer in (LARGE, SMALL):
        sizes = np.array([len(token.removeprefix("##")) for token in tokenizer.vocabulary])
        sums = DocumentSums(MLM_METRICS)
        for batch in all_batches(MaskedWordSequences(tokenizer, length, PROBABILITY, SEED), shards):
            cost = 3 * math.log(2) * sizes[batch.labels]
            sums.update(batch.documents, word_scores(batch, scores(cost, np.zeros(cost.shape))))
        metrics = sums.metrics()
        assert metrics["bits_per_character"] == pytest.approx(3)
        losses.append(metrics["mlm_loss"])
    # A token of the large vocabulary costs more: perplexities cannot be compared here.
    assert losses[0] > 1.05 * losses[1]


def test_an_unknown_word_costs_its_spelling_and_is_never_correct(tmp_path):
    path = write_shard(tmp_path, ["中a é"])
    (batch,) = all_batches(MaskedWordSequences(SMALL, 16, 0.999999, SEED), [path])
    shape = batch.labels.shape
    predictions = scores(np.full(shape, math.log(2)), np.ones(shape))
    sums = DocumentSums(MLM_METRICS)
    sums.update(batch.documents, word_scores(batch, predictions))
    # One bit for each of three tokens, and the spelling.
    assert sums.by_name["bits"].sum() == pytest.approx(3 + 56)
    assert (sums.by_name["characters"].sum(), sums.by_name["correct_words"].sum()) == (3, 1)
    assert sums.metrics()["unknown_character_fraction"] == pytest.approx(2 / 3)


def test_a_word_is_correct_only_if_all_its_tokens_are(shards):
    (batch, *_) = all_batches(MaskedWordSequences(SMALL, 64, PROBABILITY, SEED), shards)
    draw = np.random.default_rng(0)
    correct = (draw.random(batch.labels.shape) < 0.7).astype(float)
    sums = DocumentSums(MLM_METRICS)
    sums.update(batch.documents, word_scores(batch, scores(correct, correct)))
    words = sum(all(correct[batch.words == number]) for number in range(len(batch.documents)))
    assert sums.by_name["correct_words"].sum() == words
    assert sums.by_name["tokens"].sum() == (batch.words >= 0).sum()
    for document in np.unique(batch.documents):
        characters = batch.characters[batch.documents == document].sum()
        assert sums.by_name["characters"][document] == characters


def test_the_unigram_baseline_in_closed_form(tmp_path):
    tokenizer = make_tokenizer("bridge")
    counts = np.zeros(len(tokenizer.vocabulary), int)
    counts[tokenizer.encode("a")[0]], counts[tokenizer.encode("bridge")[0]] = 30, 10
    path = write_shard(tmp_path, ["a bridge b"])
    unigram = Unigram(counts)
    (batch,) = all_batches(MaskedWordSequences(tokenizer, 16, 0.999999, SEED), [path])
    sums = DocumentSums(MLM_METRICS)
    sums.update(batch.documents, word_scores(batch, unigram.predict_mlm(batch)))
    size = len(tokenizer.vocabulary)
    logs = [math.log((count + 1) / (40 + size)) for count in (30, 10, 0)]
    metrics = sums.metrics()
    assert metrics["mlm_loss"] == pytest.approx(-sum(logs) / 3)
    assert metrics["mlm_perplexity"] == pytest.approx(math.exp(-sum(logs) / 3))
    assert metrics["bits_per_character"] == pytest.approx(-sum(logs) / math.log(2) / 8)
    # One bit for each word, whose number of tokens half of all words have.
    bits = 3 - sum(logs) / math.log(2)
    assert metrics["code_length_per_character"] == pytest.approx(bits / 8, abs=1e-5)
    assert metrics["mlm_accuracy"] == metrics["word_accuracy"] == pytest.approx(1 / 3)
    # The five most frequent tokens are these two and the first three that never occur.
    assert metrics["mlm_accuracy_at_5"] == pytest.approx(2 / 3)
    assert unigram.top == tokenizer.encode("a")[0]


def test_results_are_read_with_their_intervals_and_baselines():
    values = {
        "phase": "main",
        "mlm_loss": 2.0,
        "mlm_loss_unigram": 3.5,
        "mlm_loss_initial": 1.5,
        "mlm_accuracy": 0.5,
        "mlm_accuracy_top_token": 0.5,
        "new_metric": 0.25,
        "new_metric_unigram": 0.125,
        "intervals": {"mlm_loss": [1.9, 2.1], "new_metric": [0.2, 0.3]},
        "words": 12,
    }
    (loss, accuracy, unlisted), rest = results_in(values)
    assert rest == {"phase": "main", "words": 12}
    assert loss.metric is METRICS["mlm_loss"] and loss.interval == (1.9, 2.1)
    assert loss.baselines == {UNIGRAM: 3.5, INITIAL: 1.5} and loss.without_model == (UNIGRAM, 3.5)
    assert loss.beats(UNIGRAM) and not loss.beats(INITIAL)
    assert str(loss) == "MLM loss (nats) 2.000 (baseline 3.500, initial model 1.500)"
    assert accuracy.without_model == (TOP_TOKEN, 0.5) and not accuracy.beats(TOP_TOKEN)
    # A metric that this version does not know keeps its interval and its baseline.
    assert unlisted.metric.label == "new metric" and unlisted.written_interval() == "0.2 to 0.3"
    assert unlisted.without_model == (UNIGRAM, 0.125)
    assert [result.metric.name for result in headlines(values)] == ["mlm_loss", "mlm_accuracy"]


def test_every_metric_is_documented():
    page = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{name}`" not in page] == []


def test_names_and_totals_are_unambiguous():
    assert all(name == metric.name for name, metric in METRICS.items())
    values = {metric.name: 1.0 for metric in METRICS.values()}
    values |= {metric.key(metric.baseline): 1.0 for metric in METRICS.values() if metric.baseline}
    found, rest = results_in(values)
    assert not rest and len(found) == len(METRICS)
    for metrics in (MLM_METRICS, NSP_METRICS):
        totals = {total for metric in metrics for total in (metric.total, metric.per)}
        # top_k(k) makes a new function each time; its name says which.
        code = {(total.name, getattr(total.values, "__code__", None)) for total in totals}
        assert len({name for name, _ in code}) == len(code)
