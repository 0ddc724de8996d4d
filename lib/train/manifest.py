"""The manifest beside the records: what a trainer must know before it reads one."""

import json
from dataclasses import dataclass
from pathlib import Path

from lib.run.errors import UserError


@dataclass(frozen=True)
class Manifest:
    """The part of `manifest.json` that training needs."""

    max_seq_length: int
    max_predictions_per_seq: int
    next_sentence: bool
    examples: dict[str, int]


def read_manifest(records: Path) -> Manifest:
    """Reads `records/manifest.json`.

    Raises:
        UserError: it is missing or lacks a key.
    """
    path = records / "manifest.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings = values["settings"]
        return Manifest(
            settings["max_seq_length"],
            settings["max_predictions_per_seq"],
            settings["next_sentence"],
            {split: facts["examples"] for split, facts in values["splits"].items()},
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the records stage first") from None
    except (ValueError, KeyError, TypeError) as failure:
        raise UserError(
            f"{path}: not a manifest of the records stage ({failure!r}); run that stage again"
        ) from None


def record_files(records: Path, split: str) -> list[Path]:
    """The record files of one split in the order of their numbers."""
    return sorted((records / split).glob("*.tfrecord"))
