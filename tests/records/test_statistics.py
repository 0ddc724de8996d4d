"""Statistics of records: sums and histograms."""

import numpy as np

from lib.records.statistics import RecordStatistics, histogram_csv


def test_statistics_add_up() -> None:
    first = RecordStatistics(examples=1, tokens=5, example_lengths=np.array([0, 1]))
    second = RecordStatistics(examples=2, dropped_segments=3, example_lengths=np.array([4, 0, 2]))
    both = RecordStatistics() + first + second
    assert (both.examples, both.tokens, both.dropped_segments) == (3, 5, 3)
    assert both.example_lengths.tolist() == [4, 1, 2]


def test_histograms_have_at_most_64_bins_and_count_everything() -> None:
    for longest in (1, 5, 63, 64, 65, 96, 128, 500, 512):
        counts = np.arange(longest + 1)
        counts[0] = 0
        lines = histogram_csv(counts, "examples").splitlines()
        assert lines[0] == "tokens,examples"
        ends, sums = zip(*(map(int, line.split(",")) for line in lines[1:]), strict=True)
        assert len(ends) <= 64 and ends[-1] >= longest > ends[-1] - max(ends[0], 1)
        for end, start, total in zip(ends, (0, *ends), sums, strict=False):
            assert total == sum(range(start + 1, min(end, longest) + 1))
