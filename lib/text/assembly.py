"""From cleaned chunks to the corpus: drops duplicates, writes the other documents in order."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from lib.run.code_digest import ROOT, module_digest
from lib.run.pool import Workers, shard_map
from lib.text.corpus import CorpusWriter
from lib.text.dedup.exact_duplicates import first_occurrences, read_table
from lib.text.dedup.near_duplicates import MODULE as SIGNATURES_MODULE
from lib.text.dedup.near_duplicates import SignatureTask, near_duplicates, write_signatures


@dataclass(frozen=True)
class CleanedChunk:
    """A cleaned chunk.

    Attributes:
        folders: the given split of each of its raw files, or "".
        path: the path of its files, without suffixes.
        documents: the number of documents of each raw file.
    """

    folders: list[str]
    path: Path
    documents: list[int]


def assemble(
    corpus: Path, chunks: Sequence[CleanedChunk], threshold: float | None, workers: Workers
) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """Writes all documents without duplicates.

    Args:
        corpus: the folder to write, empty.
        threshold: preprocess.near_duplicates.

    Returns:
        Numbers of documents kept and dropped, and of sentences and characters; and those kept by
        folder of the corpus.
    """
    work = corpus / ".work"
    work.mkdir()
    # A bool array [documents] per cleaned chunk: without exact duplicates, without near ones.
    exact = first_occurrences([chunk.path.with_suffix(".documents") for chunk in chunks], work)
    shutil.rmtree(work)
    documents = sum(int(mask.sum()) for mask in exact)
    totals = Counter(documents_duplicate=sum(map(len, exact)) - documents)
    kept = exact
    if threshold is not None:
        code = module_digest(ROOT, SIGNATURES_MODULE)
        tasks = [
            SignatureTask(chunk.path.with_suffix(".txt"), len(mask), code)
            for chunk, mask in zip(chunks, exact, strict=True)
        ]
        shard_map(write_signatures, tasks, workers, "signatures", "chunks")
        kept = near_duplicates([task.target for task in tasks], exact, threshold)
        left = sum(int(mask.sum()) for mask in kept)
        totals["documents_near_duplicate"] = documents - left
        documents = left
    totals["documents"] = documents
    by_folder: dict[str, Counter[str]] = {}
    with CorpusWriter(corpus) as writer:
        for chunk, unique, mask in zip(chunks, exact, kept, strict=True):
            text = chunk.path.with_suffix(".txt")
            first = offset = 0
            for part in read_table(chunk.path.with_suffix(".documents")):
                past = first + len(part)
                keep, is_unique = mask[first:past], unique[first:past]
                owners = _owners(chunk, first, past)
                _write_part(writer, text, offset, part, keep, owners)
                for start, stop, folder in _neighbours_joined(owners):
                    own = by_folder.setdefault(folder, Counter())
                    these = keep[start:stop]
                    own["documents"] += int(these.sum())
                    for measure in ("sentences", "characters"):
                        count = part[measure][start:stop].sum(where=these, dtype=np.int64)
                        own[measure] += int(count)
                offset += int(part["size"].sum(dtype=np.int64))
                first = past
                raw = part["raw_characters"]
                for measure, these in (
                    ("characters_kept_before_edits", keep),
                    ("characters_dropped_duplicates", ~is_unique),
                    ("characters_dropped_near_duplicates", is_unique & ~keep),
                ):
                    totals[measure] += int(raw.sum(where=these, dtype=np.int64))
    for measure in ("sentences", "characters"):
        totals[measure] = sum(own[measure] for own in by_folder.values())
    return totals, by_folder


def _neighbours_joined(
    owners: Sequence[tuple[int, int, str]],
) -> Iterator[tuple[int, int, str]]:
    """The same, with one entry for consecutive files of one folder."""
    for folder, group in groupby(owners, key=itemgetter(2)):
        members = list(group)
        yield members[0][0], members[-1][1], folder


def _owners(chunk: CleanedChunk, first: int, past: int) -> list[tuple[int, int, str]]:
    """The files of some documents of a chunk: first and past document (from `first` on), folder."""
    owners = []
    start = 0
    for count, folder in zip(chunk.documents, chunk.folders, strict=True):
        stop = start + count
        if count and stop > first and start < past:
            owners.append((max(start, first) - first, min(stop, past) - first, folder))
        start = stop
    return owners


def _write_part(
    writer: CorpusWriter,
    text: Path,
    offset: int,
    part: np.ndarray,
    keep: np.ndarray,
    owners: Sequence[tuple[int, int, str]],
) -> None:
    """Writes the kept ones of some documents, file by file.

    Where they all go to one file of the corpus, which is the rule for many small files, they are
    written at once.
    """
    folders = {folder for _, _, folder in owners}
    size = int(part["size"].sum(dtype=np.int64))
    if len(folders) == 1 and writer.fits(owners[0][2], size):
        owners = [(0, len(part), owners[0][2])]
    starts = np.concatenate(([0], np.cumsum(part["size"], dtype=np.int64)))
    for first, past, folder in owners:
        sizes = part["size"][first:past]
        writer.write(text, offset + int(starts[first]), sizes, keep[first:past], folder)
