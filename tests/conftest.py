"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
import yaml

# Before TensorFlow is imported anywhere.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The stages would go to a cluster of the developer's.
os.environ.pop("DASK_SCHEDULER_ADDRESS", None)

ROOT = Path(__file__).parent.parent


@pytest.fixture
def values() -> dict:
    """params.yaml as plain values, to change and parse again."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
