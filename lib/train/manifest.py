"""The manifest beside the records: what a trainer must know before it reads one."""

import json
from dataclasses import dataclass
from pathlib import Path

from lib.run.errors import UserError

_FORMAT, _VERSION = "domain-bert records", 1


@dataclass(frozen=True)
class Manifest:
    """The part of `manifest.json` that training needs.

    Attributes:
        examples: number of examples of each split.
        files: record files of each split, by their paths within the records' folder.
        compression: of these files, as TensorFlow calls it: GZIP, or nothing.
    """

    max_seq_length: int
    max_predictions_per_seq: int
    next_sentence: bool
    examples: dict[str, int]
    files: dict[str, tuple[str, ...]]
    compression: str


def read_manifest(records: Path) -> Manifest:
    """Reads `records/manifest.json`.

    Raises:
        UserError: it is missing, of another version, lacks a key, or the records are of a kind
            that training does not read.
    """
    path = records / "manifest.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if (values["format"], values["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"format {values['format']!r}, version {values['version']!r}")
        settings = values["settings"]
        manifest = Manifest(
            settings["max_seq_length"],
            settings["max_predictions_per_seq"],
            settings["next_sentence"],
            {split: facts["examples"] for split, facts in values["splits"].items()},
            {
                split: tuple(shard["file"] for shard in facts["shards"])
                for split, facts in values["splits"].items()
            },
            {"none": "", "gzip": "GZIP"}[settings["compression"]],
        )
        made = {"packing": str(settings["packing"]).lower(), "masking": settings["masking"]}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the records stage first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UserError(
            f"{path}: not a manifest that training knows ({failure!r}); run the records stage again"
        ) from None
    for key, readable in {"packing": "false", "masking": "static"}.items():
        if made[key] != readable:
            raise UserError(
                f"{path}: made with records.{key}: {made[key]}, which training does not read; set "
                f"records.{key}: {readable} and run the records stage again"
            )
    return manifest


def record_files(records: Path, manifest: Manifest, split: str) -> list[Path]:
    """The record files of one split in the order of their numbers."""
    return [records / name for name in manifest.files[split]]
