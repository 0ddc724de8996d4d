"""The manifest beside the records: what they were made from and how, for trainers and people."""

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from operator import add

from lib.records.settings import RecordSettings
from lib.records.statistics import RecordStatistics

MANIFEST = "manifest.json"
FORMAT = "domain-bert records"
VERSION = 1  # raised when a reader of the older form would misunderstand

# Settings that are not known of examples made elsewhere.
CHOSEN_ELSEWHERE = (
    "masked_lm_prob",
    "short_seq_prob",
    "dupe_factor",
    "whole_word_mask",
    "random_next_prob",
    "seed",
)


@dataclass(frozen=True)
class WrittenShard:
    """One record file.

    Attributes:
        file: its path within the folder of the records.
        source: the path of its text within the folder of the shards, or of the examples' file
            within records.source.
        source_md5: MD5 of that file.
        statistics: what the file holds.
    """

    file: str
    source: str
    source_md5: str
    statistics: RecordStatistics

    @property
    def split(self) -> str:
        return self.file.partition("/")[0]


def total(shards: list[WrittenShard]) -> RecordStatistics:
    """The statistics of all of them together."""
    return reduce(add, (shard.statistics for shard in shards), RecordStatistics())


def split_facts(shards: list[WrittenShard], settings: RecordSettings) -> dict[str, float]:
    """The figures of one split, as metrics and manifest show them."""
    return total(shards).facts(settings.max_seq_length, settings.masking == "static")


def manifest_json(
    splits: dict[str, tuple[RecordSettings, list[WrittenShard]]],
    seed: int,
    vocabulary_md5: dict[str, str],
    unknown: Collection[str] = (),
) -> str:
    """The manifest's text; it says nothing of times and machines.

    Args:
        splits: by the name of the split; `train` is among them.
        vocabulary_md5: MD5 of the vocabulary's files, by name.
        unknown: settings that are null in the manifest.
    """
    nothing = dict.fromkeys(unknown)
    settings = splits["train"][0]
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "settings": {**dataclasses.asdict(settings), "seed": seed, **nothing},
        "examples_per_sequence": settings.examples_per_sequence,
        "predictions_per_sequence": settings.predictions_per_sequence(),
        "vocabulary_md5": vocabulary_md5,
        "splits": {
            split: {
                "masking": own.masking,
                "dupe_factor": nothing.get("dupe_factor", own.dupe_factor),
                **split_facts(shards, own),
                "shards": [
                    {
                        "file": shard.file,
                        "examples": shard.statistics.examples,
                        "sequences": shard.statistics.rows,
                        "source": shard.source,
                        "source_md5": shard.source_md5,
                    }
                    for shard in shards
                ],
            }
            for split, (own, shards) in splits.items()
        },
    }
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
