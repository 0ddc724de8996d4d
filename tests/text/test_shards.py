"""Shards hold every document once, shuffled, within the limits."""

from collections import Counter

import pytest

from lib.run import fingerprint
from lib.text import documents as documents_module
from lib.text import shards as shards_module
from lib.text.documents import CorpusText, format_document, in_batches, read_corpus
from lib.text.layout import SPLITS
from lib.text.sampling import Sample, write_samples
from lib.text.shards import write_shards
from lib.text.splits import SplitRule
from tests.helpers.corpus import in_two_files, splits_of


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


def test_files_read_together_change_no_byte(tmp_path, monkeypatch):
    files = in_two_files(tmp_path / "corpus", 300)
    rule = SplitRule(files, tmp_path / "corpus", 0.1, 0.1)
    monkeypatch.setattr(shards_module, "BUCKET_BYTES", 2000)
    results = []
    for size in (1, 1 << 20):
        monkeypatch.setattr(documents_module, "_BATCH_BYTES", size)
        assert len(list(in_batches(files))) == (2 if size == 1 else 1)
        (tmp_path / f"work-{size}").mkdir()
        target = tmp_path / f"shards-{size}"
        write_shards(files, rule, target, tmp_path / f"work-{size}", 100, 4096, 5, 1)
        samples = [Sample("train", 100, target / "train/sample.txt")]
        write_samples(files, rule, samples, 3, tmp_path / f"work-{size}", 1)
        results.append(fingerprint.of_path(target))
    assert results[0] == results[1]


def test_small_splits_are_shuffled_many_buckets_at_once(tmp_path, monkeypatch):
    files = in_two_files(tmp_path / "corpus", 600)
    monkeypatch.setattr(shards_module, "BUCKET_BYTES", 1000)
    tasks = []
    shuffle = shards_module.shuffle
    monkeypatch.setattr(shards_module, "shuffle", lambda task: [tasks.append(task), shuffle(task)])
    (tmp_path / "work").mkdir()
    rule = SplitRule(files, tmp_path / "corpus", 0.05, 0.05)
    write_shards(files, rule, tmp_path / "shards", tmp_path / "work", 1000, 10**6, 5, 1)
    counts = Counter(task.split for task in tasks)
    assert counts["train"] > 20 > 10 > counts["dev"] + counts["test"]


def test_joined_files_are_indexed_as_one(tmp_path):
    files = in_two_files(tmp_path / "corpus", 20)
    (tmp_path / "one.txt").write_bytes(b"".join(path.read_bytes() for path in files))
    one = CorpusText.read(tmp_path / "one.txt")
    joined = CorpusText.join([CorpusText.read(path) for path in files])
    assert joined.text == one.text
    assert joined.lines.tolist() == one.lines.tolist()
    assert joined.documents.tolist() == one.documents.tolist()
