"""The manifest beside the records: what a trainer must know before it reads one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lib.run.errors import UserError

_FORMAT, _VERSION = "domain-bert records", 1


@dataclass(frozen=True)
class Split:
    """The records of one split.

    Attributes:
        rows: number of rows, each a record.
        examples: number of examples in them: as many, or more when they are packed.
        masking: static: the rows have masks; dynamic: whoever reads them makes masks.
        files: record files, by their paths within the records' folder.
        file_rows: rows of each file.
    """

    rows: int
    examples: int
    masking: Literal["static", "dynamic"]
    files: tuple[str, ...]
    file_rows: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """The part of `manifest.json` that training needs.

    Attributes:
        max_seq_length: S, the tokens that a row has room for.
        next_sentence: the examples are sentence pairs.
        packing: a row holds several examples.
        examples_per_sequence: K, the examples that a row has room for; 1 unless packed.
        predictions_per_sequence: P, the masked positions that a row has room for.
        masked_lm_prob: share of an example's tokens to be predicted.
        max_predictions_per_seq: masked positions of an example at most.
        whole_word_mask: words are masked as a whole.
        compression: of the files, as TensorFlow calls it: GZIP, or nothing.
        splits: train, dev and test.
    """

    max_seq_length: int
    next_sentence: bool
    packing: bool
    examples_per_sequence: int
    predictions_per_sequence: int
    masked_lm_prob: float
    max_predictions_per_seq: int
    whole_word_mask: bool
    compression: str
    splits: dict[str, Split]


def read_manifest(records: Path) -> Manifest:
    """Reads `records/manifest.json`.

    Raises:
        UserError: it is missing, of another version, or lacks a key.
    """
    path = records / "manifest.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if (values["format"], values["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"format {values['format']!r}, version {values['version']!r}")
        settings = values["settings"]
        same = (
            "max_seq_length",
            "next_sentence",
            "packing",
            "masked_lm_prob",
            "max_predictions_per_seq",
            "whole_word_mask",
        )
        return Manifest(
            **{key: settings[key] for key in same},
            examples_per_sequence=values["examples_per_sequence"],
            predictions_per_sequence=values["predictions_per_sequence"],
            compression={"none": "", "gzip": "GZIP"}[settings["compression"]],
            splits={split: _split(facts) for split, facts in values["splits"].items()},
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the records stage first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UserError(
            f"{path}: not a manifest that training knows ({failure!r}); run the records stage again"
        ) from None


def _split(facts: dict[str, Any]) -> Split:
    masking = facts["masking"]
    if masking not in ("static", "dynamic"):
        raise ValueError(f"masking {masking!r}")
    shards = facts["shards"]
    return Split(
        facts["sequences"],
        facts["examples"],
        masking,
        tuple(shard["file"] for shard in shards),
        tuple(shard["sequences"] for shard in shards),
    )


def record_files(records: Path, manifest: Manifest, split: str) -> list[Path]:
    """The record files of one split in the order of their numbers."""
    return [records / name for name in manifest.splits[split].files]
