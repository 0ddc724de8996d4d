"""Metrics files: small JSON files that `dvc metrics` and the report read."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from lib.run.atomic import write_text


def _rounded(value: object) -> object:
    """Rounds floats to six significant digits: a difference beyond them is noise.

    Infinities and NaN, which JSON lacks, become null.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def write_metrics(path: Path, values: Mapping[str, object]) -> None:
    """Writes `values` as indented JSON in the order given."""
    write_text(path, json.dumps(_rounded(values), indent=2, ensure_ascii=False) + "\n")


def read_metrics(path: Path) -> dict[str, object]:
    """Reads a file of `write_metrics`."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
