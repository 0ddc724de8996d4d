"""`manifest.json` of a folder of records: what the records stage writes and training reads.

    {
      "format": "domain-bert records", "version": 1,
      "settings": {"max_seq_length": 128, "masked_lm_prob": 0.15, ..., "seed": 12345},
      "examples_per_sequence": 1, "predictions_per_sequence": 20,
      "vocabulary_md5": {"vocab.txt": "8f3c...", ...},
      "splits": {
        "train": {
          "masking": "static", "dupe_factor": 10, "examples": 5120, "sequences": 5120, ...,
          "shards": [{"file": "train/00000.tfrecord", "examples": 2560, "sequences": 2560,
                      "source": "train/00000.txt", "source_md5": "0cc1...",
                      "digest": "5d02..."}, ...]
        },
        "dev": {...}, "test": {...}
      }
    }

It holds no times and no machine names, so that equal records have equal manifests, and a digest of
each record file, so that other records have another manifest: a digest of the manifest identifies
them. The module imports nothing that makes records: a change there must not count as a change of
training.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lib.run import fingerprint
from lib.run.errors import UserError

MANIFEST = "manifest.json"
FORMAT = "domain-bert records"
VERSION = 1  # raised when a reader of the older form would misunderstand the new one

# Settings that earlier versions did not have, with the value that stands for what these did. The
# manifest leaves them out where they have this value, so that equal records have equal manifests.
LATER_SETTINGS: dict[str, float] = {
    "mask_replace_prob": 0.8,
    "random_replace_prob": 0.1,
    "whole_sentences": True,
}

# Settings that are null for external examples, because they are unknown here.
UNKNOWN_IF_IMPORTED = (
    "masked_lm_prob",
    "short_seq_prob",
    "dupe_factor",
    "whole_word_mask",
    "random_next_prob",
    "seed",
)


@dataclass(frozen=True)
class Split:
    """The records of one split.

    Attributes:
        sequences: number of sequences; each is one record.
        examples: number of examples in them: the same, or more if they are packed.
        masking: static: the sequences are masked; dynamic: the reader has to mask them.
        files: record files, by their paths within the folder of records.
        file_sequences: sequences per file.
        file_digests: of the records of each file (see `lib.records.tfrecord.new_digest`); none in
            manifests of earlier versions.
        predictions_per_sequence: P, where it is not that of the training records.
        file_inputs: the named input of each file, "" if there are none.
        file_examples: examples per file.
        file_tokens: tokens per file, padding not counted; known of named inputs only.
    """

    sequences: int
    examples: int
    masking: Literal["static", "dynamic"]
    files: tuple[str, ...]
    file_sequences: tuple[int, ...]
    file_digests: tuple[str, ...] = ()
    predictions_per_sequence: int | None = None
    file_inputs: tuple[str, ...] = ()
    file_examples: tuple[int, ...] = ()
    file_tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The part of `manifest.json` that readers of records need.

    Attributes:
        max_seq_length: S, tokens per sequence.
        next_sentence: the examples are sentence pairs.
        packing: a sequence holds several examples.
        examples_per_sequence: K, the maximum number of examples per sequence; 1 unless packed.
        predictions_per_sequence: P, the maximum number of masked positions per training sequence.
        masked_lm_prob: fraction of a training example's tokens to predict.
        max_predictions_per_seq: maximum number of masked positions per example.
        whole_word_mask: words are masked as a whole.
        compression: of the files, by TensorFlow's name: GZIP, or empty for none.
        splits: train, dev and test.
        segments: per example, at most; pairs have 2.
        mask_replace_prob, random_replace_prob: fractions of the tokens to predict that are
            replaced by [MASK] and by a random token.
        vocabulary_md5: of the vocabulary's files, by name.
        word_marks: sequences to be masked say which tokens continue a word, as the vocabulary does
            not.
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
    segments: int = 2
    mask_replace_prob: float = LATER_SETTINGS["mask_replace_prob"]
    random_replace_prob: float = LATER_SETTINGS["random_replace_prob"]
    vocabulary_md5: Mapping[str, str] = field(default_factory=dict)
    word_marks: bool = False

    def check_vocabulary(self, records: Path, vocab: Path, names: Iterable[str]) -> None:
        """Refuses records that were made with another vocabulary: all their ids would be wrong.

        Args:
            records, vocab: folders of the records and of the vocabulary.
            names: the files of the vocabulary to compare.

        Raises:
            UserError: a file has another MD5 than the manifest says.
        """
        for name in names:
            path, known = vocab / name, self.vocabulary_md5.get(name)
            if known and path.exists() and fingerprint.of_file(path) != known:
                raise UserError(
                    f"{path}: not the vocabulary that {records} was made with (its MD5 is not that "
                    f"in {MANIFEST}); use the vocabulary of the records, or make them again: dvc "
                    "repro"
                )


def is_manifest(path: Path) -> bool:
    """Whether a JSON file is a manifest of this project's records."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(values, dict) and values.get("format") == FORMAT


def read_manifest(records: Path) -> Manifest:
    """Reads `manifest.json` of a folder of records.

    Raises:
        UserError: it is missing, of another version, or lacks a key.
    """
    path = records / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if (values["format"], values["version"]) != (FORMAT, VERSION):
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
            **{
                key: settings.get(key, LATER_SETTINGS[key])
                for key in ("mask_replace_prob", "random_replace_prob")
            },
            examples_per_sequence=values["examples_per_sequence"],
            predictions_per_sequence=values["predictions_per_sequence"],
            segments=values.get("segments", 2 if settings["next_sentence"] else 1),
            compression={"none": "", "gzip": "GZIP"}[settings["compression"]],
            splits={split: _read_split(facts) for split, facts in values["splits"].items()},
            vocabulary_md5=dict(values.get("vocabulary_md5", {})),
            word_marks=values.get("word_marks", False),
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the records stage first") from None
    except (ValueError, KeyError, TypeError, AttributeError, IsADirectoryError) as failure:
        raise UserError(
            f"{path}: not a manifest of records ({failure!r}); run the records stage again"
        ) from None


def record_settings(records: Path) -> dict[str, Any]:
    """How the records of a folder were made; equal for records of other text."""
    values = json.loads((records / MANIFEST).read_text(encoding="utf-8"))["settings"]
    return dict(values)


def _read_split(facts: dict[str, Any]) -> Split:
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
        tuple(shard["digest"] for shard in shards if "digest" in shard),
        facts.get("predictions_per_sequence"),
        tuple(shard.get("input", "") for shard in shards),
        tuple(shard["examples"] for shard in shards),
        tuple(shard.get("tokens", 0) for shard in shards),
    )


def record_files(records: Path, manifest: Manifest, split: str) -> list[Path]:
    """The record files of one split, in the order of their numbers."""
    return [records / name for name in manifest.splits[split].files]


def feature_sizes(manifest: Manifest, split: Split) -> tuple[dict[str, int], dict[str, int]]:
    """Values per sequence of each feature: those of integers, and those of float32."""
    length, examples = manifest.max_seq_length, manifest.examples_per_sequence
    integers = {"input_ids": length, "segment_ids": length, "next_sentence_labels": examples}
    floats = {}
    if manifest.packing:
        integers |= {"position_ids": length, "example_ids": length, "cls_positions": examples}
        floats["next_sentence_weights"] = examples
    else:
        integers["input_mask"] = length
    if split.masking == "static":
        predictions = split.predictions_per_sequence or manifest.predictions_per_sequence
        integers |= {"masked_lm_positions": predictions, "masked_lm_ids": predictions}
        floats["masked_lm_weights"] = predictions
    elif manifest.word_marks:
        integers["continues_word"] = length
    return integers, floats


@dataclass(frozen=True)
class SplitEntry:
    """The manifest's entry for one split.

    Attributes:
        settings: fields of the split's `lib.records.settings.RecordSettings`.
        metrics: as `lib.records.statistics.RecordStatistics.metrics` gives them.
        shards: an object per record file, as above.
        predictions_per_sequence: P.
    """

    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    shards: Sequence[Mapping[str, Any]]
    predictions_per_sequence: int


def manifest_json(
    splits: Mapping[str, SplitEntry],
    examples_per_sequence: int,
    seed: int,
    vocabulary_md5: Mapping[str, str],
    imported: bool = False,
    segments: int | None = None,
    word_marks: bool = False,
) -> str:
    """The text of `manifest.json`.

    Args:
        splits: by name; the settings and P of `train` also become those of the whole folder.
        examples_per_sequence: K.
        seed: `records.seed`.
        vocabulary_md5: MD5 of the vocabulary's files, by name.
        imported: the examples are external, see `UNKNOWN_IF_IMPORTED`.
        segments: of external examples, which may have two without being pairs with a label.
        word_marks: see `Manifest`.
    """
    unknown = dict.fromkeys(UNKNOWN_IF_IMPORTED) if imported else {}
    train = splits["train"]
    settings = {
        name: value
        for name, value in train.settings.items()
        if name not in LATER_SETTINGS or value != LATER_SETTINGS[name]
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "settings": {**settings, "seed": seed, **unknown},
        "examples_per_sequence": examples_per_sequence,
        "predictions_per_sequence": train.predictions_per_sequence,
        **({} if segments is None else {"segments": segments}),
        **({"word_marks": True} if word_marks else {}),
        "vocabulary_md5": dict(vocabulary_md5),
        "splits": {
            split: {
                "masking": entry.settings["masking"],
                "dupe_factor": None if imported else entry.settings["dupe_factor"],
                **_masking_of_its_own(entry, train),
                **entry.metrics,
                "shards": list(entry.shards),
            }
            for split, entry in splits.items()
        },
    }
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _masking_of_its_own(entry: SplitEntry, train: SplitEntry) -> dict[str, Any]:
    """How the masks of a split differ from those of the training records, if they do."""
    found: dict[str, Any] = {}
    if entry.settings["masked_lm_prob"] != train.settings["masked_lm_prob"]:
        found["masked_lm_prob"] = entry.settings["masked_lm_prob"]
    if entry.predictions_per_sequence != train.predictions_per_sequence:
        found["predictions_per_sequence"] = entry.predictions_per_sequence
    return found
