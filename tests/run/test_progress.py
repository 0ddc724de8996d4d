"""Progress lines."""

import pytest

from lib.run.progress import duration


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59, "59 s"), (187, "3:07"), (7387, "2:03:07")]
)
def test_durations_are_formatted(seconds, shown):
    assert duration(seconds) == shown
