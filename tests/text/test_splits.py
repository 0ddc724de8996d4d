"""The split of a document: given by folders, or by its hash."""

from collections import Counter
from pathlib import PurePosixPath

import pytest

from lib.text.splits import SplitRule, corpus_files, given_split
from tests.helpers.corpus import make_corpus, splits_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/a.txt", "train"),
        ("deep/Valid/a.txt", "dev"),
        ("validation.txt", "dev"),
        ("wiki.test.txt", "test"),
        ("train-00001-of-00010.txt", "train"),
        ("test/train.txt", "train"),
        ("test_results.txt", None),
        ("testing/a.txt", None),
        ("a/b.txt", None),
        ("contest.txt", None),
    ],
)
def test_given_splits(name, split):
    assert given_split(PurePosixPath(name)) == split


def test_added_documents_do_not_move_old_ones(tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    decisions = []
    for folder, count in ((few, 500), (many, 2000)):
        files = make_corpus(folder, count)
        decisions.append(splits_of(SplitRule(files, folder, 0.1, 0.2), files[0]))
    assert decisions[0].items() <= decisions[1].items()
    counts = Counter(decisions[1].values())
    # Binomial with n = 2000: five standard deviations around the mean.
    assert abs(counts["dev"] - 200) < 67 and abs(counts["test"] - 400) < 90


def test_given_splits_are_kept_and_a_missing_one_is_drawn_from_train(tmp_path):
    make_corpus(tmp_path / "train", 400)
    make_corpus(tmp_path / "test", 50, "other")
    files = corpus_files(tmp_path)
    rule = SplitRule(files, tmp_path, 0.1, 0.1)
    splits = {path.parent.name: Counter(splits_of(rule, path).values()) for path in files}
    assert splits["test"] == {"test": 50}
    assert set(splits["train"]) == {"train", "dev"}
