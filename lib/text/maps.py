"""Cleaning a piece of a raw file at a time; results are kept, addressed by content and settings.

A map is three files of one name: `KEY.txt` (Google's input format), `KEY.documents` (a row of
DOCUMENT for each) and `KEY.json` (counts and samples). The JSON file is written last: a map
without it does not exist.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.params import Preprocess
from lib.run import fingerprint
from lib.run.atomic import new_file, write_text
from lib.text.cleaner import DocumentCleaner
from lib.text.documents import Documents, format_document
from lib.text.emoji import EMOJI_VERSION
from lib.text.raw_files import RawFile
from lib.text.readers import Source, between_cuts, cut_rule, read_documents
from lib.text.rejections import Rejections

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
    with source.file.path.open("rb") as stream:
        stream.seek(source.start)
        left = source.file.size if source.stop is None else source.stop - source.start
        while left and (chunk := stream.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
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
        self.chosen: list[tuple[str, list[str], list[str]]] = []
        self._below = b"\xff" * 17

    def see(self, digest: bytes, before: list[str], after: list[str]) -> None:
        if digest < self._below and before != after:
            self.chosen.append((digest.hex(), before, after))
            self.chosen.sort(key=lambda sample: sample[0])
            del self.chosen[_SAMPLES:]
            if len(self.chosen) == _SAMPLES:
                self._below = bytes.fromhex(self.chosen[-1][0])

    def shown(self) -> list[dict[str, Any]]:
        return [
            {
                "hash": digest,
                "before": "\n".join(before)[:_SAMPLE_CHARACTERS],
                "after": "\n".join(after)[:_SAMPLE_CHARACTERS],
            }
            for digest, before, after in self.chosen
        ]


class _Rows:
    """What is known of each document of a batch, gathered without an object a document."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._numbers = array("I")

    def add(self, digest: bytes, size: int, sentences: int, characters: int) -> None:
        self._digests += digest
        self._numbers.extend((size, sentences, characters))

    def table(self) -> np.ndarray:
        table = np.zeros(len(self._digests) // 16, DOCUMENT)
        digests = np.frombuffer(self._digests, "<u8").reshape(-1, 2)
        numbers = np.array(self._numbers, "<u4").reshape(-1, 3)
        table["high"], table["low"] = digests[:, 0], digests[:, 1]
        table["size"], table["sentences"], table["characters"] = numbers.T
        return table


def _batches(documents: Iterator[Documents], counts: Counter[str]) -> Iterator[Documents]:
    """Documents in lots that are worth the call of the cleaner."""
    batch: Documents = []
    size = 0
    for some in documents:
        characters = sum(len(line) for document in some for line in document)
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
            rows = _Rows()
            for before, after in zip(batch, clean(batch, edits), strict=True):
                if not after:
                    counts["documents_empty"] += 1
                    continue
                document = format_document(after)
                digest = hashlib.blake2b(document, digest_size=16).digest()
                rows.add(digest, len(document), len(after), sum(map(len, after)))
                samples.see(digest, before, after)
                text.write(document)
            table.write(rows.table().tobytes())
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
