"""Cleaning, one raw file at a time: each result is kept, addressed by content and settings.

A map is three files: `KEY.txt` (Google's input format), `KEY.npy` (one row a document) and
`KEY.json` (counts). The JSON file is written last: a map without it does not exist.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.params import Preprocess
from lib.run import fingerprint
from lib.run.atomic import new_file
from lib.run.metrics import read_metrics, write_metrics
from lib.text.cleaner import DocumentCleaner
from lib.text.documents import format_document, group_lines
from lib.text.readers import read_lines

# Raised by hand whenever the same raw file and settings would give another map.
_FORMAT = 1

# 128-bit content digest and the document's size in the map's text file, its blank line included.
DOCUMENT = np.dtype([("high", "<u8"), ("low", "<u8"), ("size", "<u8")])


@dataclass(frozen=True)
class MapTask:
    """One raw file to clean into the folder `maps`."""

    raw: Path
    maps: Path
    settings: Preprocess

    def __str__(self) -> str:
        return str(self.raw)


def make_map(task: MapTask) -> str:
    """Cleans one raw file unless its map is there already; gives the map's key."""
    settings = task.settings.model_dump(exclude={"input"})
    key = fingerprint.of_values([_FORMAT, fingerprint.of_file(task.raw), settings])
    facts = task.maps / f"{key}.json"
    if facts.exists():
        return key
    counts: Counter[str] = Counter()
    cleaner = DocumentCleaner(task.settings.clean, task.settings.sentences)
    rows = []
    with (
        new_file(task.maps / f"{key}.txt") as text_path,
        new_file(task.maps / f"{key}.npy") as rows_path,
    ):
        with text_path.open("wb") as text:
            for lines in group_lines(read_lines(task.raw), task.settings.document):
                counts["lines_in"] += len(lines)
                counts["characters_in"] += sum(map(len, lines))
                [sentences] = cleaner([lines], counts)
                if not sentences:
                    counts["documents_empty_after_cleaning"] += 1
                    continue
                document = format_document(sentences)
                digest = hashlib.blake2b(document, digest_size=16).digest()
                rows.append((digest[:8], digest[8:], len(document)))
                counts["documents_cleaned"] += 1
                counts["sentences_cleaned"] += len(sentences)
                text.write(document)
        table = np.zeros(len(rows), DOCUMENT)
        table["high"] = np.frombuffer(b"".join(row[0] for row in rows), "<u8")
        table["low"] = np.frombuffer(b"".join(row[1] for row in rows), "<u8")
        table["size"] = [row[2] for row in rows]
        with rows_path.open("wb") as stream:
            np.save(stream, table)
    write_metrics(facts, dict(sorted(counts.items())))
    return key


def map_counts(maps: Path, key: str) -> Counter[str]:
    """The counts of one map."""
    return Counter(
        {name: int(str(count)) for name, count in read_metrics(maps / f"{key}.json").items()}
    )


def map_documents(maps: Path, key: str) -> np.ndarray:
    """The table of one map's documents: DOCUMENT array of shape [documents], memory-mapped."""
    path = maps / f"{key}.npy"
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:  # An empty table cannot be memory-mapped.
        return np.load(path)
