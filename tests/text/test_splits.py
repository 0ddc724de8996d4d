"""The split of a document: given by folders, or by its hash."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from lib.run.errors import UserError
from lib.text.layout import corpus_files
from lib.text.splits import SplitRule, given_splits
from tests.helpers.corpus import make_corpus, splits_of

RAW, KEY = Path("data/raw"), "preprocess.splits"


def splits_by_name(*names: str, **stated: str) -> tuple[str | None, ...]:
    return given_splits(names, RAW, stated, KEY).splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/a.txt", "train"),
        ("Valid/deep/a.txt", "dev"),
        ("validation.txt", "dev"),
        ("val/a.txt", "dev"),
        ("eval.jsonl", "dev"),
        ("training/a.txt", "train"),
        ("validation-00000-of-00001.parquet", "dev"),
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
    assert splits_by_name(name, "other.txt")[0] == split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        # Below folders that all files share, the top level is the first that branches.
        (["imdb/train/pos/1.txt", "imdb/test/1.txt", "imdb/README"], ["train", "test", None]),
        # Deeper, a name for training has to stand next to it.
        (["en/train.txt", "en/test.txt", "de/a.txt"], ["train", "test", None]),
        (["en/training/a", "en/val/a", "de/a.txt"], ["train", "dev", None]),
        (["src/test/a.txt", "docs/test.md", "a.txt"], [None, None, None]),
        (["src/pkg/dev/a.txt", "b.txt"], [None, None]),
        # Within a given split, nothing is asked.
        (["train/test_match.txt", "train/test/a.txt", "test/b.txt"], ["train", "train", "test"]),
    ],
)
def test_a_name_deep_in_a_tree_does_not_decide_alone(names, splits):
    assert list(splits_by_name(*names)) == splits


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["train.txt", "test_en.txt"], "test_en.txt"),
        (["train/a", "dev_small/a", "notes/a"], "dev_small/"),
        (["ptb_train.txt", "ptb_testset.txt"], "ptb_testset.txt"),
        (["en/train.txt", "en/test2.txt", "de/a"], "en/test2.txt"),
        (["train.txt", "dev.txt", "eval.txt"], "eval.txt"),
        (["test.txt", "a/b/dev/c.txt", "d.txt"], "a/b/dev/"),
    ],
)
def test_an_unclear_name_beside_given_splits_is_asked_about(names, named):
    with pytest.raises(UserError) as failure:
        splits_by_name(*names)
    message = str(failure.value)
    assert "\n" not in message and f"not: {named}?" in message
    answer = message.partition(f"set {KEY}: ")[2].partition(", or none")[0]
    stated = yaml.safe_load(answer)
    assert set(stated) == {named}
    given = splits_by_name(*names, **stated)
    within = [name.startswith(named) for name in names]
    assert [split for split, one in zip(given, within, strict=True) if one] == list(stated.values())
    assert splits_by_name(*names, **dict.fromkeys(stated, "none"))[within.index(True)] is None


def test_an_unclear_name_alone_is_reported():
    given = given_splits(["test_of_time.txt", "b.txt", "a/c"], RAW)
    assert given.splits == (None, None, None)
    assert given.question() == ("test_of_time.txt", "{'test_of_time.txt': test}")
    for name in ("latest.txt", "contest/a.txt", "device.txt", "values.csv", "a/testing.md"):
        assert not given_splits([name, "b.txt"], RAW).unclear, name


def test_patterns_state_splits_and_must_match():
    names = ["a_small.txt", "b_small.txt", "c/d.txt", "e.txt"]
    found = splits_by_name(*names, **{"*_small.txt": "dev", "c": "test"})
    assert found == ("dev", "dev", "test", None)
    with pytest.raises(UserError, match=f"{KEY}: 'f.txt' is no file or folder"):
        splits_by_name(*names, **{"f.txt": "test"})


def test_what_states_a_split_is_described():
    names = [*(f"train-{number:05}.txt" for number in range(5)), "val/a", "val/b", "c"]
    assert given_splits(names, RAW).described() == (
        "train from train-00000.txt, train-00001.txt, train-00002.txt and 2 more (5 files); "
        "dev from val/ (2 files); 1 file without a split's name"
    )


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (None, 0, "has no files; it should have"),
        ("00000.jsonl", 1, "not a .txt file"),
        ("val/00000.txt", 1, "rename it to dev; "),
        ("Train/00000.txt", 1, "rename it to train; "),
        ("large.txt", 1 << 28, "larger than 128 MiB"),
    ],
)
def test_a_corpus_that_breaks_the_contract_is_refused(tmp_path, name, size, message):
    if name:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(size)
    with pytest.raises(UserError, match=message):
        corpus_files(tmp_path)


def test_a_corpus_may_have_any_folders_and_hidden_files(tmp_path):
    for name in ("train/0.txt", "dev/0.txt", "test/deep/0.txt", "news/val/0.txt", ".gitignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("A.\n\n")
    assert len(corpus_files(tmp_path)) == 4


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
