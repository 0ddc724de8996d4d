"""The keys of each stage's metrics that later stages need, checked by the next stage.

A stage can be replaced by anything that keeps its contract (ARCHITECTURE.md). evaluate and the
model card read the metrics of all stages. Without this check evaluate would report a missing key,
after training.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.paths import RESULTS

_METRICS = "metrics.json"
# By stage; `a.b` is the key b of the object a.
NEEDED_KEYS = {
    "preprocess": (
        "files",
        "formats",
        "documents_in",
        "documents",
        "documents_duplicate",
        "sentences",
        "characters_in",
        "characters",
        "edits",
        "rejected",
        "input_md5",
    ),
    "sample5M": ("train_sampled",),
    "vocab": ("size", "unused_entries", "new_words", "train", "heldout.tokens_per_word"),
    "split": (
        "train.documents",
        "dev.documents",
        "test.documents",
        "overlap.test.documents",
        "overlap.test.near_duplicates",
    ),
    "records": ("train.examples", "train.sequences", "train.tokens"),
    "pretrain": ("parameters", "steps", "best_step"),
}


def read_needed(results: Path, stage: str) -> dict[str, Any]:
    """The metrics of a stage (`split`, `records/main`), which have all keys that are needed.

    Raises:
        UserError: the file is missing or lacks a key.
    """
    path = results / stage / _METRICS
    if not path.exists():
        raise UserError(f"{path}: no such file; run the pipeline that writes it: dvc repro")
    values = read_object(path)
    name = stage.partition("/")[0]
    for key in NEEDED_KEYS[name]:
        if not _has(values, key):
            raise UserError(
                f"{path}: has no `{key}`, which evaluate and the model card need; have the stage "
                f"{name} write it (an older version's: dvc repro)"
            )
    return values


def _has(values: Mapping[str, Any], key: str) -> bool:
    first, _, rest = key.partition(".")
    if first not in values:
        return False
    return not rest or (isinstance(values[first], Mapping) and _has(values[first], rest))


def check_metrics(*stages: str) -> None:
    """Checks the metrics of the stages before this one, if DVC runs it.

    A file that is not there is not checked: a machine that only trains may not have pulled it. But
    the pipeline must declare it.

    Raises:
        UserError: a key is missing, or dvc.yaml has no such file.
    """
    if "DVC_STAGE" not in os.environ:
        return
    for stage in stages:
        path = RESULTS / stage / _METRICS
        if path.exists():
            read_needed(RESULTS, stage)
        elif "/" not in stage and path.as_posix() not in Path("dvc.yaml").read_text("utf-8"):
            raise UserError(
                f"dvc.yaml: no stage writes {path}, which evaluate needs; have the stage that "
                f"replaces {stage} write it, and declare it under its metrics"
            )
