"""Cleaned chunks: raw files cleaned a chunk at a time, kept by content and options for later runs.

A chunk is a part of a large file, a whole file, or a batch of small files. A cleaned chunk is three
files of one name: `KEY.txt` (Google's input format), `KEY.documents` (an element of DOCUMENT for
each document) and `KEY.json` (counts and samples), which seals the others (`lib.run.sealed_files`).
The name is a digest of everything that the content depends on; the folder is named by a digest of
the code. What is missing or damaged is made again.
"""

import hashlib
import itertools
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from operator import not_
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lib.run import fingerprint
from lib.run.atomic import new_file
from lib.run.sealed_files import is_intact, read_seal, write_seal
from lib.text.cleaning.cleaner import DocumentCleaner
from lib.text.cleaning.edits import Cleaning
from lib.text.cleaning.remnants import count_remnants
from lib.text.documents import Documents, SentenceGroups, format_document
from lib.text.names import some_of
from lib.text.reading.formats import borders, cut_rule, read_documents
from lib.text.reading.line_ends import count_wrapped
from lib.text.reading.lines import range_bytes
from lib.text.reading.reader import Chunk, RawFile, ReadOptions
from lib.text.reading.rejections import BadInputError, Fault, Lost, Rejections

# The module whose code and imports determine what a cleaned chunk is.
MODULE = "lib/text/cleaning/chunks.py"

# Characters cleaned at once: many compared to the cost of a call, few compared to memory.
_BATCH_CHARACTERS = 1 << 18
_MIN_CHUNK_BYTES = 4 << 20
_MAX_CHUNK_BYTES = 64 << 20
# Files smaller than this share a chunk, up to _MIN_CHUNK_BYTES in all. A batch ends at files whose
# names decide that, one in so many, and so files that come or go change few batches.
_SMALL_FILE_BYTES = 1 << 18
_BATCH_FILES = 1 << 10
# One in so many batches is examined for wrapped lines: so many characters, and lines per document.
_EXAMINED_BATCHES = 4
_SAMPLE_OF_LINES = 1 << 12
_LINES_OF_DOCUMENT = 60
_SAMPLES = 10
_SAMPLE_CHARACTERS = 300

# 128-bit content digest; bytes in the text file, blank line included; sentences; characters; and
# characters before the edits.
DOCUMENT = np.dtype(
    [
        ("high", "<u8"),
        ("low", "<u8"),
        ("size", "<u4"),
        ("sentences", "<u4"),
        ("characters", "<u4"),
        ("raw_characters", "<u4"),
    ]
)


@dataclass(frozen=True)
class ChunkOptions:
    """How chunks are read and cleaned: keys of `preprocess` in params.yaml."""

    reading: ReadOptions
    sentences: Literal["split", "line"]
    skip_bad_input: bool
    clean: Cleaning


@dataclass(frozen=True)
class ChunkTask:
    """Raw files to be cleaned into `folder`, or a part of a single one.

    Attributes:
        start, stop: the part, in bytes; stop None: whole files.
        continues: whether the part begins within a document that has no end within 4 MiB.
    """

    files: tuple[RawFile, ...]
    folder: Path
    options: ChunkOptions
    start: int = 0
    stop: int | None = None
    continues: bool = False

    def __str__(self) -> str:
        return some_of([str(file.path) for file in self.files], 1)


@dataclass(frozen=True)
class Cleaned:
    """The outcome of a task.

    Attributes:
        key: name of the cleaned chunk; empty if there are faults.
        md5: MD5 of each file, in hex, by its name; empty for a part of a file.
        faults: the first fault of each file, where bad input is not to be skipped.
    """

    key: str
    md5: dict[str, str]
    faults: list[Fault]


@dataclass
class Counts:
    """What is counted while text is cleaned.

    Attributes:
        counts: documents, lines, characters in and out.
        edits: edits of the cleaning, by reason.
        characters_in, characters_out: characters that went into each edit and came out.
        examined: line ends and characters that were examined, and those of hard-wrapped text.
    """

    counts: Counter[str] = field(default_factory=Counter)
    edits: Counter[str] = field(default_factory=Counter)
    characters_in: Counter[str] = field(default_factory=Counter)
    characters_out: Counter[str] = field(default_factory=Counter)
    examined: Counter[str] = field(default_factory=Counter)

    def update(self, other: "Counts") -> None:
        """Adds what another one counted."""
        for each in fields(Counts):
            getattr(self, each.name).update(getattr(other, each.name))


@dataclass
class ChunkFacts(Counts):
    """The JSON file of a cleaned chunk.

    Attributes:
        documents: number of documents of each file.
        wrapped: characters of hard-wrapped text in each file, of those that were examined.
        rejected: bad input, by the index of its file.
        samples: of documents before and after cleaning: the digest that it was drawn by, the index
            of its file, and the beginnings of both.
    """

    documents: list[int] = field(default_factory=list)
    wrapped: list[int] = field(default_factory=list)
    rejected: dict[int, Lost] = field(default_factory=dict)
    samples: list[tuple[str, int, str, str]] = field(default_factory=list)


def chunk_tasks(files: list[RawFile], folder: Path, options: ChunkOptions) -> list[ChunkTask]:
    """Tasks that clean all files, in their order: parts of large files, batches of small ones."""
    tasks = []
    small: list[RawFile] = []
    size = 0

    def end_batch() -> None:
        nonlocal size
        if small:
            tasks.append(ChunkTask(tuple(small), folder, options))
            small.clear()
            size = 0

    for file in files:
        if file.size < _SMALL_FILE_BYTES:
            if size + file.size > _MIN_CHUNK_BYTES or len(small) == 2 * _BATCH_FILES:
                end_batch()
            small.append(file)
            size += file.size
            if zlib.crc32(file.path.name.encode("utf-8", "surrogateescape")) % _BATCH_FILES == 0:
                end_batch()
            continue
        end_batch()
        # About 64 chunks: enough for many workers, few enough to keep. Sizes are powers of two, so
        # that a file that grows keeps most of its chunks.
        chunk = _MIN_CHUNK_BYTES
        while chunk < _MAX_CHUNK_BYTES and chunk * 64 < file.size:
            chunk *= 2
        if file.size <= chunk or cut_rule(file, options.reading.document) is None:
            tasks.append(ChunkTask((file,), folder, options))
            continue
        parts = borders(file, options.reading.document, chunk)
        stops = [start for start, _ in parts[1:]] + [file.size]
        for (start, continues), stop in zip(parts, stops, strict=True):
            tasks.append(ChunkTask((file,), folder, options, start, stop, continues))
    end_batch()
    return tasks


def _key(task: ChunkTask, digests: list[str]) -> str:
    """Digest of all that a cleaned chunk depends on except the code."""
    options = asdict(task.options) | {"clean": task.options.clean.model_dump()}
    options["reading"]["csv"] = task.options.reading.csv.model_dump()
    return fingerprint.of_values(
        [
            # A byte order mark counts at the beginning of a file only.
            task.start == 0,
            [
                [digest, file.format, file.compression, file.encoding]
                for digest, file in zip(digests, task.files, strict=True)
            ],
            options,
        ]
    )


def _digests(task: ChunkTask) -> tuple[list[str], dict[int, bytes]]:
    """The MD5 of each file (or of the part), and the contents of small files by their indices."""
    digests: list[str] = []
    contents: dict[int, bytes] = {}
    for number, file in enumerate(task.files):
        if task.stop is None and file.size < _SMALL_FILE_BYTES and file.compression == "none":
            content = contents[number] = file.path.read_bytes()
            digests.append(hashlib.md5(content, usedforsecurity=False).hexdigest())
        else:
            digest = hashlib.md5(usedforsecurity=False)
            stop = file.size if task.stop is None else task.stop
            for block in range_bytes(file.path, task.start, stop):
                digest.update(block)
            digests.append(digest.hexdigest())
    return digests, contents


class _Samples:
    """Random sample of documents that cleaning changed: those with the smallest digests.

    It does not depend on the order in which documents are seen.
    """

    def __init__(self) -> None:
        # (digest, index of the file, beginning before and after)
        self.chosen: list[tuple[str, int, str, str]] = []
        self._below = b"\xff" * 17  # above every digest

    def update(
        self, digests: list[bytes], files: list[int], before: Documents, after: list[str]
    ) -> None:
        below = self._below
        for index in [index for index, digest in enumerate(digests) if digest < below]:
            original, cleaned = "\n".join(before[index]), after[index]
            if digests[index] < self._below and original != cleaned:
                beginnings = original[:_SAMPLE_CHARACTERS], cleaned[:_SAMPLE_CHARACTERS]
                self.chosen.append((digests[index].hex(), files[index], *beginnings))
                self.chosen.sort()
                del self.chosen[_SAMPLES:]
                if len(self.chosen) == _SAMPLES:
                    self._below = bytes.fromhex(self.chosen[-1][0])


def _table(
    digests: list[bytes], encoded: list[bytes], cleaned: list[str], raw_characters: list[int]
) -> np.ndarray:
    """The document table (dtype DOCUMENT) of documents: encoded, and as sentences joined by LF."""
    table = np.zeros(len(digests), DOCUMENT)
    halves = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
    table["high"], table["low"] = halves[:, 0], halves[:, 1]
    table["size"] = list(map(len, encoded))
    line_ends = np.array([text.count("\n") for text in cleaned], np.int64)
    table["sentences"] = line_ends + 1
    table["raw_characters"] = raw_characters
    table["characters"] = np.array(list(map(len, cleaned)), np.int64) - line_ends
    return table


@dataclass
class _Batch:
    """Documents to clean at once, with the index of the file and the characters of each."""

    documents: Documents
    files: list[int]
    characters: list[int]


def _batches(chunks: Iterator[tuple[int, Documents]], counts: Counter[str]) -> Iterator[_Batch]:
    """Documents in batches large enough for a call of the cleaner; counts what goes in."""
    batch = _Batch([], [], [])
    size = 0
    for file, some in chunks:
        characters = [sum(map(len, lines)) for lines in some]
        counts["documents_in"] += len(some)
        counts["lines_in"] += sum(map(len, some))
        total = sum(characters)
        counts["characters_in"] += total
        batch.documents += some
        batch.files += [file] * len(some)
        batch.characters += characters
        size += total
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch = _Batch([], [], [])
            size = 0
    if batch.documents:
        yield batch


def _examine_lines(
    batch: _Batch, document: str, examined: Counter[str], wrapped: np.ndarray
) -> None:
    """Looks for hard-wrapped lines in a sample of a batch.

    Args:
        document: preprocess.document.
        examined: see `count_wrapped`.
        wrapped: gets the characters of hard-wrapped text that were examined, by file.
    """
    ends = itertools.accumulate(batch.characters)
    number = sum(1 for _ in itertools.takewhile(lambda end: end < _SAMPLE_OF_LINES, ends)) + 1
    # Of a long document only the first lines.
    sample = [lines[:_LINES_OF_DOCUMENT] for lines in batch.documents[:number]]
    start = 0
    for file, same in itertools.groupby(batch.files[:number]):
        stop = start + len(list(same))
        documents = sample[start:stop]
        if document == "line":
            documents = [list(itertools.chain.from_iterable(documents))]
        wrapped[file] += count_wrapped(documents, examined)
        start = stop


def _digest(document: bytes) -> bytes:
    return hashlib.blake2b(document, digest_size=16).digest()


def clean_chunk(task: ChunkTask) -> Cleaned:
    """Cleans one chunk unless that was done before."""
    digests, contents = _digests(task)
    key = _key(task, digests)
    text, table, seal = (
        task.folder / f"{key}{suffix}" for suffix in (".txt", ".documents", ".json")
    )
    names = [file.name for file in task.files]
    md5 = dict(zip(names, digests, strict=True)) if task.stop is None else {}
    if not is_intact(seal, (text, table)):
        try:
            with (
                new_file(text, synchronise=False) as new_text,
                new_file(table, synchronise=False) as new_table,
            ):
                values = _clean(task, contents, new_text, new_table)
            write_seal(seal, (text, table), values)
        except _FaultsError as failure:
            return Cleaned("", md5, failure.args[0])
    return Cleaned(key, md5, [])


class _FaultsError(Exception):
    """The first faults of the files of a chunk."""


def _clean(
    task: ChunkTask, contents: dict[int, bytes], text_path: Path, table_path: Path
) -> dict[str, Any]:
    """Writes the text and the document table of a chunk; returns the values of its JSON file."""
    options = task.options
    facts = ChunkFacts()
    counts = facts.counts
    samples = _Samples()
    clean = DocumentCleaner(options.clean, options.sentences)
    faults: list[Fault] = []
    documents = np.zeros(len(task.files), np.int64)
    wrapped = np.zeros(len(task.files), np.int64)

    def read() -> Iterator[tuple[int, Documents]]:
        for number, file in enumerate(task.files):
            rejections = Rejections(str(file.path), options.skip_bad_input)
            chunk = Chunk(file, task.start, task.stop, contents.get(number))
            found = read_documents(chunk, options.reading, rejections, counts)
            try:
                for some in found:
                    yield number, some
            except BadInputError as error:
                faults.append(error.fault)
            if rejections.counts:
                facts.rejected[number] = rejections

    with text_path.open("wb") as text, table_path.open("wb") as table:

        def write(cleaned: list[str], files: list[int], characters: list[int]) -> list[bytes]:
            encoded = [format_document(document) for document in cleaned]
            digests = list(map(_digest, encoded))
            text.write(b"".join(encoded))
            table.write(_table(digests, encoded, cleaned, characters).tobytes())
            np.add.at(documents, np.array(files, np.int64), 1)
            return digests

        groups = None
        if options.reading.document.endswith(" sentences"):
            groups = SentenceGroups(int(options.reading.document.split()[0]), counts)
        for number, batch in enumerate(_batches(read(), counts)):
            if faults:
                continue  # Only the faults of the other files are still of interest.
            count_remnants("\n".join(itertools.chain.from_iterable(batch.documents)), counts)
            if number % _EXAMINED_BATCHES == 0:
                _examine_lines(batch, options.reading.document, facts.examined, wrapped)
            cleaned = clean(batch.documents, facts.edits)
            raw, files, characters = batch.documents, batch.files, batch.characters
            if "" in cleaned:
                counts["documents_empty"] += cleaned.count("")
                counts["characters_dropped_documents_empty"] += sum(
                    itertools.compress(characters, map(not_, cleaned))
                )
                raw = list(itertools.compress(raw, cleaned))
                files = list(itertools.compress(files, cleaned))
                characters = list(itertools.compress(characters, cleaned))
                cleaned = list(filter(None, cleaned))
            if groups:
                # What is read is not a document yet, so a sample shows what was read.
                samples.update([_digest(each.encode()) for each in cleaned], files, raw, cleaned)
                write(*groups.add(cleaned, files, characters))
            else:
                samples.update(write(cleaned, files, characters), files, raw, cleaned)
        if groups:
            write(*groups.rest())
            counts["documents_in"] = int(documents.sum())
            del counts["documents_empty"]
    if faults:
        raise _FaultsError(faults)
    facts.characters_in, facts.characters_out = clean.characters_in, clean.characters_out
    facts.documents, facts.wrapped = documents.tolist(), wrapped.tolist()
    facts.samples = samples.chosen
    rejected = [
        (number, lost.counts, lost.characters, lost.bytes, lost.whole_file, lost.examples)
        for number, lost in facts.rejected.items()
    ]
    return vars(facts) | {"rejected": rejected}


def read_facts(folder: Path, key: str) -> ChunkFacts:
    """Reads the JSON file of a cleaned chunk, which `clean_chunk` has found intact or written."""
    seal = read_seal(folder / f"{key}.json")
    if seal is None:
        raise OSError(
            f"{folder / key}.json: was changed while this stage was running; run it again"
        )
    values = seal["values"]
    values |= {each.name: Counter(values[each.name]) for each in fields(Counts)}
    values["rejected"] = {
        number: Lost(Counter(counts), Counter(characters), Counter(in_bytes), whole_file, examples)
        for number, counts, characters, in_bytes, whole_file, examples in values["rejected"]
    }
    return ChunkFacts(**values)
