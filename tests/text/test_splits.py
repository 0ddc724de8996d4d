"""Train, dev and test: the split rule, samples, shards."""

from collections import Counter
from itertools import pairwise
from pathlib import Path, PurePosixPath

import pytest

from lib.text import shards as shards_module
from lib.text.documents import CorpusText, format_document, read_corpus
from lib.text.sampling import Sample, write_samples
from lib.text.shards import write_shards
from lib.text.splits import SPLITS, SplitRule, corpus_files, given_split


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


def make_corpus(folder: Path, count: int, prefix: str = "doc") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "00000.txt").write_bytes(
        b"".join(
            format_document(
                "\n".join(f"{prefix} {number} sentence {index}" for index in range(number % 4 + 1))
            )
            for number in range(count)
        )
    )
    return corpus_files(folder)


def splits_of(rule: SplitRule, path: Path) -> dict[bytes, str]:
    """The split of each document of a corpus file."""
    corpus = CorpusText.read(path)
    texts = [corpus.text[start : stop - 1] for start, stop in pairwise(corpus.starts)]
    assert texts == list(read_corpus(path))
    found = [SPLITS[number] for number in rule.of(path, corpus)]
    return dict(zip(texts, found, strict=True))


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


def in_two_files(folder: Path, count: int) -> list[Path]:
    """The corpus of `make_corpus` in two files."""
    (path,) = make_corpus(folder, count)
    texts = [text + b"\n" for text in read_corpus(path)]
    path.write_bytes(b"".join(texts[: count // 3]))
    (folder / "00001.txt").write_bytes(b"".join(texts[count // 3 :]))
    return corpus_files(folder)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [1, 10, 300, 10**6])
def test_a_sample_has_exactly_the_number_of_training_sentences_asked_for(tmp_path, size, workers):
    files = in_two_files(tmp_path / "corpus", 400)
    rule = SplitRule(files, tmp_path / "corpus", 0.1, 0.2)
    (tmp_path / "work").mkdir()
    target = tmp_path / "sample.txt"
    samples = [Sample("train", size, target), Sample("dev", 0, tmp_path / "none.txt")]
    results = write_samples(files, rule, samples, 3, tmp_path / "work", workers)
    lines = {"train": [], "dev": [], "test": []}
    for path in files:
        for document, split in splits_of(rule, path).items():
            lines[split] += document.splitlines()
    sample = target.read_bytes().splitlines()
    assert results == [(len(lines["train"]), len(sample)), (len(lines["dev"]), 0)]
    assert len(sample) == min(size, len(lines["train"]))
    chosen = set(sample)
    assert sample == [line for line in lines["train"] if line in chosen]


def test_every_sentence_is_drawn_equally_often(tmp_path):
    files = in_two_files(tmp_path / "corpus", 40)
    rule = SplitRule(files, tmp_path / "corpus", 0.0, 0.0)
    (tmp_path / "work").mkdir()
    target = tmp_path / "sample.txt"
    total = 100
    drawn: Counter[bytes] = Counter()
    for seed in range(400):
        sample = Sample("train", total // 2, target)
        assert write_samples(files, rule, [sample], seed, tmp_path / "work", 1) == [(total, 50)]
        drawn.update(target.read_bytes().splitlines())
    # Binomial with n = 400 and p = 1/2: five standard deviations are 50.
    assert len(drawn) == total and all(abs(count - 200) < 50 for count in drawn.values())


@pytest.mark.parametrize(("workers", "bucket"), [(1, 1 << 20), (1, 3000), (2, 1 << 20)])
@pytest.mark.parametrize("limits", [(100, 1 << 20), (10**6, 4096), (60, 1500)])
def test_shards_hold_every_document_once_and_shuffled(
    tmp_path, monkeypatch, workers, bucket, limits
):
    files = in_two_files(tmp_path / "corpus", 600)
    rule = SplitRule(files, tmp_path / "corpus", 0.1, 0.1)
    monkeypatch.setattr(shards_module, "BUCKET_BYTES", bucket)
    (tmp_path / "work").mkdir()
    max_lines, max_bytes = limits
    counts = write_shards(
        files, rule, tmp_path / "shards", tmp_path / "work", max_lines, max_bytes, 5, workers
    )
    original = splits_of(rule, files[0]) | splits_of(rule, files[1])
    found = []
    for split in SPLITS:
        shards = sorted((tmp_path / "shards" / split).glob("*.txt"))
        here = [document for path in shards for document in read_corpus(path)]
        assert all(original[document] == split for document in here)
        texts = [path.read_bytes() for path in shards]
        lines = sum(text.count(b"\n") for text in texts)
        size = sum(map(len, texts))
        assert counts[split] == shards_module.SplitCounts(
            len(here), lines - len(here), size, len(shards)
        )
        assert all(text.count(b"\n") <= max_lines and len(text) <= max_bytes for text in texts)
        # As few as the limits allow, and of even size: they differ by at most two documents.
        assert len(shards) <= max(-(-lines // max_lines), -(-size // max_bytes)) + 1
        fill = [max(text.count(b"\n") / max_lines, len(text) / max_bytes) for text in texts]
        largest = max(5 / max_lines, max(map(len, original)) / max_bytes)
        assert max(fill) - min(fill[:-1], default=max(fill)) < 3 * largest
        found += here
    assert Counter(found) == Counter(list(original))
    train = [document for document, split in original.items() if split == "train"]
    assert train != found[: len(train)]


def test_a_document_larger_than_a_shard_gets_its_own_shard(tmp_path):
    (tmp_path / "corpus").mkdir()
    path = tmp_path / "corpus/00000.txt"
    path.write_bytes(b"".join(format_document(text * 300) for text in "abc"))
    (tmp_path / "work").mkdir()
    rule = SplitRule([path], tmp_path / "corpus", 0, 0)
    write_shards([path], rule, tmp_path / "shards", tmp_path / "work", 100, 256, 5, 1)
    shards = sorted((tmp_path / "shards/train").glob("*.txt"))
    assert sorted(shard.read_bytes() for shard in shards) == [
        format_document(text * 300) for text in "abc"
    ]
