"""Metrics of a vocabulary equal counts made by hand; the plot and the page contain them."""

import math
from collections import Counter

import pytest

from lib.samples.languages import synthetic_text
from lib.vocab.report import measure_fit, unreachable_tokens, write_frequencies, write_report
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from lib.vocab.words import WordCounts
from tests.helpers.vocabulary import CASED, make_vocabulary, word_counts


def test_metrics_equal_counts_made_by_hand():
    tokenizer = WordPieceTokenizer(
        [*SPECIAL_TOKENS, "a", "##b", "ab", "c", "[unused0]", "C", "##."], True, True
    )
    counted = WordCounts(
        Counter({"ab": 4, "abb": 3, "x": 2, "c" * 101: 1, "c": 10}), characters=200
    )
    result = measure_fit(tokenizer, counted)
    assert result.metrics == {
        "words": 20,
        "distinct_words": 5,
        "tokens": 4 + 6 + 2 + 1 + 10,
        "tokens_per_word": 23 / 20,
        "tokens_per_character": 23 / 200,
        "whole_word_fraction": 14 / 20,
        "unknown_word_fraction": 2 / 19,
        "unknown_character_fraction": (2 + 101) / (8 + 9 + 2 + 101 + 10),
        "unknown_token_fraction": 3 / 23,
        "words_too_long": 1,
        "unused_tokens": 12 - 4,
    }
    assert result.counts.tolist() == [0, 3, 0, 0, 0, 0, 3, 7, 10, 0, 0, 0]
    assert result.most_split == [("abb", 3, ["ab", "##b"])]
    assert result.unknown == [("x", 2)]
    assert unreachable_tokens(tokenizer) == ["C", "##."]


def test_the_plot_and_the_page(tmp_path):
    words = word_counts(synthetic_text("turkish", 500, 1), CASED)
    tokenizer = WordPieceTokenizer(make_vocabulary(CASED, words, 300), False, False)
    fits = {
        "train": measure_fit(tokenizer, WordCounts(words)),
        "heldout": measure_fit(tokenizer, WordCounts()),
    }
    write_frequencies(tmp_path / "f.csv", fits["train"].counts)
    heading, *rows = (tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()
    assert heading == "log10_rank,log10_fraction"
    points = [tuple(map(float, row.split(","))) for row in rows]
    used = int((fits["train"].counts > 0).sum())
    assert points[0][0] == 0 and points[-1][0] == pytest.approx(math.log10(used), abs=1e-4)
    highest = fits["train"].counts.max() / fits["train"].counts.sum()
    assert points[0][1] == pytest.approx(math.log10(highest), abs=1e-4)
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))
    write_report(tmp_path / "r.md", tokenizer, {"size": 300}, fits)
    report = (tmp_path / "r.md").read_text(encoding="utf-8")
    word, count, tokens = fits["train"].most_split[0]
    assert f"| `{word}` | {count:,} | {' '.join(f'`{token}`' for token in tokens)} |" in report
