"""Cleaning a piece of a raw file at a time; results are kept, addressed by content and settings.

A map is three files of one name: `KEY.txt` (Google's input format), `KEY.documents` (a row of
DOCUMENT for each) and `KEY.json` (counts and samples). The JSON file is written last: a map
without it does not exist.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.params import Preprocess
from lib.run import fingerprint
from lib.run.atomic import new_file, write_text
from lib.text.cleaning.cleaner import DocumentCleaner
from lib.text.cleaning.emoji import EMOJI_VERSION
from lib.text.documents import Documents, format_document
from lib.text.reading.lines import range_chunks
from lib.text.reading.raw_files import RawFile
from lib.text.reading.readers import Source, between_cuts, cut_rule, read_documents
from lib.text.reading.rejections import Rejections

# Raised by hand whenever the same raw text and settings would give another map.
_FORMAT = 2

# Cleaned at once: large against the cost of a call, small against the memory of a worker.
_BATCH_CHARACTERS = 1 << 18
_MIN_PIECE_BYTES = 4 << 20
_MAX_PIECE_BYTES = 64 << 20
_SAMPLES = 10
_SAMPLE_CHARACTERS = 300

# 128-bit content digest; bytes in the map's text file, blank line included; sentences; characters.
DOCUMENT = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("size", "<u4"), ("sentences", "<u4"), ("characters", "<u4")]
)


@dataclass(frozen=True)
class MapTask:
    """A part of a raw file to clean into the folder `maps`.

    Attributes:
        start, stop: the documents that begin between these offsets; stop None: the whole file.
    """

    file: RawFile
    start: int
    stop: int | None
    maps: Path
    settings: Preprocess

    def __str__(self) -> str:
        return str(self.file.path)


@dataclass(frozen=True)
class MapFacts:
    """What a map's JSON file holds.

    Attributes:
        counts: documents, lines, characters in and out.
        edits: edits of the cleaning, by reason.
        rejected: bad input, by reason.
        rejected_examples: the first of it.
        samples: documents before and after cleaning, with the hashes that they were drawn by.
    """

    counts: Counter[str]
    edits: Counter[str]
    rejected: Counter[str]
    rejected_examples: list[dict[str, str]]
    samples: list[dict[str, Any]]


def map_tasks(files: list[RawFile], maps: Path, settings: Preprocess) -> list[MapTask]:
    """Whole files, and pieces of the large ones that may be cut."""
    tasks = []
    for file in files:
        # About 64 pieces: enough for many workers, few enough to keep. As powers of two, so that
        # a file that grows keeps most of its pieces, and with them their maps.
        size = _MIN_PIECE_BYTES
        while size < _MAX_PIECE_BYTES and size * 64 < file.size:
            size *= 2
        if cut_rule(file, settings.document) is None or file.size <= size:
            tasks.append(MapTask(file, 0, None, maps, settings))
        else:
            tasks += [
                MapTask(file, start, start + size, maps, settings)
                for start in range(0, file.size, size)
            ]
    return tasks


def _source(task: MapTask) -> Source:
    is_cut = cut_rule(task.file, task.settings.document)
    if task.stop is None or is_cut is None:
        return Source(task.file)
    return between_cuts(task.file, task.start, task.stop, is_cut)


def _key(source: Source, settings: Preprocess) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    stop = source.file.size if source.stop is None else source.stop
    for chunk in range_chunks(source.file.path, source.start, stop):
        digest.update(chunk)
    values = settings.model_dump(exclude={"input", "format", "bad_input_limit", "near_duplicates"})
    # A byte order mark counts at the beginning of a file only.
    return fingerprint.of_values(
        [
            _FORMAT,
            digest.hexdigest(),
            source.start == 0,
            source.file.format,
            source.file.compression,
            values,
            EMOJI_VERSION if settings.clean.emoji != "keep" else None,
        ]
    )


class _Samples:
    """The edited documents with the smallest digests: a sample that depends on no order."""

    def __init__(self) -> None:
        self.chosen: list[tuple[str, str, str]] = []
        self._below = b"\xff" * 17

    def see(self, digests: list[bytes], before: Documents, after: list[str]) -> None:
        below = self._below
        for index in [index for index, digest in enumerate(digests) if digest < below]:
            original = "\n".join(before[index])
            if digests[index] < self._below and original != after[index]:
                self.chosen.append((digests[index].hex(), original, after[index]))
                self.chosen.sort()
                del self.chosen[_SAMPLES:]
                if len(self.chosen) == _SAMPLES:
                    self._below = bytes.fromhex(self.chosen[-1][0])

    def shown(self) -> list[dict[str, Any]]:
        return [
            {
                "hash": digest,
                "before": before[:_SAMPLE_CHARACTERS],
                "after": after[:_SAMPLE_CHARACTERS],
            }
            for digest, before, after in self.chosen
        ]


def _table(digests: list[bytes], encoded: list[bytes], cleaned: list[str]) -> np.ndarray:
    """The rows of some documents; all sentences but a document's last end with one LF in it."""
    table = np.zeros(len(digests), DOCUMENT)
    halves = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
    table["high"], table["low"] = halves[:, 0], halves[:, 1]
    table["size"] = list(map(len, encoded))
    line_ends = np.array([text.count("\n") for text in cleaned], np.int64)
    table["sentences"] = line_ends + 1
    table["characters"] = np.array(list(map(len, cleaned)), np.int64) - line_ends
    return table


def _batches(documents: Iterator[Documents], counts: Counter[str]) -> Iterator[Documents]:
    """Documents in lots that are worth the call of the cleaner."""
    batch: Documents = []
    size = 0
    for some in documents:
        characters = sum(map(len, itertools.chain.from_iterable(some)))
        counts["documents_in"] += len(some)
        counts["lines_in"] += sum(map(len, some))
        counts["characters_in"] += characters
        batch += some
        size += characters
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def make_map(task: MapTask) -> str:
    """Cleans one piece of raw text unless its map is there already; gives the map's key."""
    source = _source(task)
    key = _key(source, task.settings)
    facts = task.maps / f"{key}.json"
    if facts.exists():
        return key
    skip = task.settings.bad_input == "skip"
    rejections = Rejections(str(task.file.path), skip, task.settings.bad_input_limit)
    counts: Counter[str] = Counter()
    edits: Counter[str] = Counter()
    samples = _Samples()
    clean = DocumentCleaner(task.settings.clean, task.settings.sentences)
    documents = read_documents(
        source, task.settings.document, task.settings.text_field, rejections, counts
    )
    with (
        new_file(task.maps / f"{key}.txt") as text_path,
        new_file(task.maps / f"{key}.documents") as table_path,
        text_path.open("wb") as text,
        table_path.open("wb") as table,
    ):
        for batch in _batches(documents, counts):
            cleaned = clean(batch, edits)
            if "" in cleaned:
                counts["documents_empty"] += cleaned.count("")
                batch = list(itertools.compress(batch, cleaned))
                cleaned = list(filter(None, cleaned))
            encoded = [format_document(document) for document in cleaned]
            digests = [hashlib.blake2b(each, digest_size=16).digest() for each in encoded]
            samples.see(digests, batch, cleaned)
            text.write(b"".join(encoded))
            table.write(_table(digests, encoded, cleaned).tobytes())
    values = {
        "counts": counts,
        "edits": edits,
        "rejected": rejections.counts,
        "rejected_examples": rejections.examples,
        "samples": samples.shown(),
    }
    write_text(facts, json.dumps(values, ensure_ascii=False))
    return key


def map_facts(maps: Path, key: str) -> MapFacts:
    """What a map's JSON file holds."""
    values = json.loads((maps / f"{key}.json").read_text(encoding="utf-8"))
    return MapFacts(
        Counter(values["counts"]),
        Counter(values["edits"]),
        Counter(values["rejected"]),
        values["rejected_examples"],
        values["samples"],
    )
