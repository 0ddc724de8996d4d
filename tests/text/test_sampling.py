"""Samples: exact size, uniform, of one split only."""

from collections import Counter

import pytest

from lib.text.sampling import Sample, write_samples
from lib.text.splits import SplitRule
from tests.helpers.corpus import in_two_files, splits_of


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
