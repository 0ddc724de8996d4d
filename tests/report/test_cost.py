"""The report's section of cost."""

import pytest

from lib.report.cost import short_time


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (9.95, "9.9 s"), (59, "59 s"), (59.6, "1:00"), (187, "3:07"), (7387, "2:03:07")],
)
def test_times_are_formatted(seconds, shown):
    assert short_time(seconds) == shown
