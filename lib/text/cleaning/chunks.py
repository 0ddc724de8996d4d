"""Cleaned chunks: raw files cleaned a chunk at a time, kept by content and options for later runs.

A cleaned chunk is three files of one name: `KEY.txt` (Google's input format), `KEY.documents` (an
element of DOCUMENT for each document) and `KEY.json` (counts and samples). The JSON file is written
last: without it the cleaned chunk does not exist.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lib.run import fingerprint
from lib.run.atomic import new_file, write_text
from lib.text.cleaning.cleaner import DocumentCleaner
from lib.text.cleaning.edits import Cleaning
from lib.text.cleaning.emoji import EMOJI_VERSION
from lib.text.documents import Documents, SentenceGroups, format_document
from lib.text.reading.formats import between_cuts, cut_rule, read_documents
from lib.text.reading.lines import range_bytes
from lib.text.reading.reader import Chunk, RawFile, ReadOptions
from lib.text.reading.rejections import BadInputError, Fault, Lost, Rejections

# To be raised whenever the code makes another cleaned chunk of the same raw text and options.
_FORMAT = 3

# Characters cleaned at once: many compared to the cost of a call, few compared to memory.
_BATCH_CHARACTERS = 1 << 18
_MIN_CHUNK_BYTES = 4 << 20
_MAX_CHUNK_BYTES = 64 << 20
_SAMPLES = 10
_SAMPLE_CHARACTERS = 300

# 128-bit content digest; bytes in the text file, blank line included; sentences; characters.
DOCUMENT = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("size", "<u4"), ("sentences", "<u4"), ("characters", "<u4")]
)


@dataclass(frozen=True)
class ChunkOptions:
    """How chunks are read and cleaned: keys of `preprocess` in params.yaml.

    Attributes:
        reading: how files are read.
        skip_bad_input: `skip` of `Rejections`.
    """

    reading: ReadOptions
    sentences: Literal["split", "line"]
    skip_bad_input: bool
    clean: Cleaning


@dataclass(frozen=True)
class ChunkTask:
    """A chunk of a raw file, to be cleaned into `folder`.

    Attributes:
        start, stop: the documents that begin between these offsets; stop None: the whole file.
    """

    file: RawFile
    start: int
    stop: int | None
    folder: Path
    options: ChunkOptions

    def __str__(self) -> str:
        return str(self.file.path)


@dataclass(frozen=True)
class ChunkFacts:
    """The JSON file of a cleaned chunk.

    Attributes:
        counts: documents, lines, characters in and out.
        edits: edits of the cleaning, by reason.
        rejected: how much bad input there was, by reason.
        whole_file: whether nothing of the chunk could be read.
        rejected_examples: the first examples of bad input.
        samples: documents before and after cleaning, with the hashes they were drawn by.
    """

    counts: Counter[str]
    edits: Counter[str]
    rejected: Lost
    whole_file: bool
    rejected_examples: list[dict[str, str]]
    samples: list[dict[str, Any]]


def chunk_tasks(files: list[RawFile], folder: Path, options: ChunkOptions) -> list[ChunkTask]:
    """A task per file, and several for large files that may be cut."""
    tasks = []
    for file in files:
        # About 64 chunks: enough for many workers, few enough to keep. Sizes are powers of two, so
        # that a file that grows keeps most of its chunks.
        size = _MIN_CHUNK_BYTES
        while size < _MAX_CHUNK_BYTES and size * 64 < file.size:
            size *= 2
        if cut_rule(file, options.reading.document) is None or file.size <= size:
            tasks.append(ChunkTask(file, 0, None, folder, options))
        else:
            tasks += [
                ChunkTask(file, start, start + size, folder, options)
                for start in range(0, file.size, size)
            ]
    return tasks


def _raw_chunk(task: ChunkTask) -> Chunk:
    is_cut = cut_rule(task.file, task.options.reading.document)
    if task.stop is None or is_cut is None:
        return Chunk(task.file)
    return between_cuts(task.file, task.start, task.stop, is_cut)


def _key(chunk: Chunk, options: ChunkOptions) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    stop = chunk.file.size if chunk.stop is None else chunk.stop
    for block in range_bytes(chunk.file.path, chunk.start, stop):
        digest.update(block)
    values = asdict(options) | {"clean": options.clean.model_dump()}
    values["reading"]["csv"] = options.reading.csv.model_dump()
    # A byte order mark counts at the beginning of a file only.
    return fingerprint.of_values(
        [
            _FORMAT,
            digest.hexdigest(),
            chunk.start == 0,
            chunk.file.format,
            chunk.file.compression,
            chunk.file.encoding,
            values,
            EMOJI_VERSION if options.clean.emoji != "keep" else None,
        ]
    )


class _Samples:
    """Random sample of documents that cleaning changed: those with the smallest digests.

    It does not depend on the order in which documents are seen.
    """

    def __init__(self) -> None:
        self._chosen: list[tuple[str, str, str]] = []
        self._below = b"\xff" * 17  # above every digest

    def update(self, digests: list[bytes], before: Documents, after: list[str]) -> None:
        below = self._below
        for index in [index for index, digest in enumerate(digests) if digest < below]:
            original = "\n".join(before[index])
            if digests[index] < self._below and original != after[index]:
                self._chosen.append((digests[index].hex(), original, after[index]))
                self._chosen.sort()
                del self._chosen[_SAMPLES:]
                if len(self._chosen) == _SAMPLES:
                    self._below = bytes.fromhex(self._chosen[-1][0])

    def as_dicts(self) -> list[dict[str, Any]]:
        return [
            {
                "hash": digest,
                "before": before[:_SAMPLE_CHARACTERS],
                "after": after[:_SAMPLE_CHARACTERS],
            }
            for digest, before, after in self._chosen
        ]


def _table(digests: list[bytes], encoded: list[bytes], cleaned: list[str]) -> np.ndarray:
    """The document table (dtype DOCUMENT) of some documents.

    Args:
        digests: 128-bit content digests.
        encoded: documents in Google's input format.
        cleaned: their sentences, joined by LF.
    """
    table = np.zeros(len(digests), DOCUMENT)
    halves = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
    table["high"], table["low"] = halves[:, 0], halves[:, 1]
    table["size"] = list(map(len, encoded))
    line_ends = np.array([text.count("\n") for text in cleaned], np.int64)
    table["sentences"] = line_ends + 1
    table["characters"] = np.array(list(map(len, cleaned)), np.int64) - line_ends
    return table


def _batches(documents: Iterator[Documents], counts: Counter[str]) -> Iterator[Documents]:
    """Documents in batches large enough for a call of the cleaner; counts what goes in."""
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


def _digest(document: bytes) -> bytes:
    return hashlib.blake2b(document, digest_size=16).digest()


def clean_chunk(task: ChunkTask) -> str | Fault:
    """Cleans one chunk unless that was done before.

    Returns:
        The key of the cleaned chunk, or the first fault if bad input is not to be skipped.
    """
    try:
        return _clean_chunk(task)
    except BadInputError as error:
        return error.fault


def _clean_chunk(task: ChunkTask) -> str:
    chunk, options = _raw_chunk(task), task.options
    key = _key(chunk, options)
    facts = task.folder / f"{key}.json"
    if facts.exists():
        return key
    rejections = Rejections(str(task.file.path), options.skip_bad_input)
    counts: Counter[str] = Counter()
    edits: Counter[str] = Counter()
    samples = _Samples()
    clean = DocumentCleaner(options.clean, options.sentences)
    documents = read_documents(chunk, options.reading, rejections, counts)
    groups = None
    if options.reading.document.endswith(" sentences"):
        groups = SentenceGroups(int(options.reading.document.split()[0]), counts)
    with (
        new_file(task.folder / f"{key}.txt") as text_path,
        new_file(task.folder / f"{key}.documents") as table_path,
        text_path.open("wb") as text,
        table_path.open("wb") as table,
    ):

        def write(documents: list[str]) -> list[bytes]:
            encoded = [format_document(document) for document in documents]
            digests = list(map(_digest, encoded))
            text.write(b"".join(encoded))
            table.write(_table(digests, encoded, documents).tobytes())
            return digests

        for batch in _batches(documents, counts):
            cleaned = clean(batch, edits)
            if groups:
                counts["documents_in"] -= len(batch)
                # What is read is not a document yet, so a sample shows what was read.
                samples.update([_digest(each.encode()) for each in cleaned], batch, cleaned)
                counts["documents_in"] += len(write(groups.add(cleaned)))
                continue
            if "" in cleaned:
                counts["documents_empty"] += cleaned.count("")
                batch = list(itertools.compress(batch, cleaned))
                cleaned = list(filter(None, cleaned))
            samples.update(write(cleaned), batch, cleaned)
        if groups:
            counts["documents_in"] += len(write(groups.rest()))
    values = {
        "counts": counts,
        "edits": edits,
        "rejected": [rejections.counts, rejections.characters, rejections.bytes],
        "whole_file": rejections.whole_file,
        "rejected_examples": rejections.examples,
        "samples": samples.as_dicts(),
    }
    write_text(facts, json.dumps(values, ensure_ascii=False))
    return key


def read_facts(folder: Path, key: str) -> ChunkFacts:
    """Reads the JSON file of a cleaned chunk."""
    values = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
    return ChunkFacts(
        Counter(values["counts"]),
        Counter(values["edits"]),
        Lost(*map(Counter, values["rejected"])),
        values["whole_file"],
        values["rejected_examples"],
        values["samples"],
    )
