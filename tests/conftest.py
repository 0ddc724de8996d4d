"""Fixtures that several test files share."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is not a fault of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
# Before TensorFlow is imported anywhere.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Shells start background jobs of scripts with SIGINT ignored, which child processes inherit; tests
# that interrupt such a process would wait forever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The stages would go to a cluster of the developer's.
os.environ.pop("DASK_SCHEDULER_ADDRESS", None)
# Of the make that runs the tests: one that a test runs would print which folders it enters.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(name, None)

ROOT = Path(__file__).parent.parent
# They run whole pipelines. First, so that at the end no process waits for another's.
_LONGEST = {
    "test_pipeline.py",
    "test_training_kills.py",
    "test_remote.py",
    "test_probe_stage.py",
    "test_dask_pool.py",
    "test_tf.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture
def values() -> dict:
    """Default parameters as plain values, to change and parse again."""
    from tests.helpers.params import default_values

    return default_values()
