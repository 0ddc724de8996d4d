"""preprocess: raw text -> data/corpus, a sentence per line, a blank line after each document."""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from lib.params import Preprocess, load_params
from lib.run.atomic import new_directory, write_text
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import CORPUS
from lib.run.pool import Workers, choose_workers, shard_map, worker_count
from lib.run.stage import run_stage, scratch
from lib.text.cleaning.chunks import (
    ChunkOptions,
    ChunkTask,
    chunk_tasks,
    clean_chunk,
    read_facts,
)
from lib.text.cleaning.emoji import EMOJI_VERSION
from lib.text.cleaning.inspection import Inspection
from lib.text.corpus import CorpusWriter
from lib.text.dedup.exact_duplicates import first_occurrences, read_table
from lib.text.dedup.near_duplicates import SignatureTask, near_duplicates, write_signatures
from lib.text.reading.fields import TextFields
from lib.text.reading.input_digest import input_md5
from lib.text.reading.raw_files import (
    check_apart,
    examine_all,
    kind_of,
    kinds_in_words,
    write_listing,
)
from lib.text.reading.reader import RawFile, ReadOptions
from lib.text.reading.rejected_files import RejectedFiles, shown_name
from lib.text.reading.rejections import Fault, after_lines, check_limit, faults_error
from lib.text.splits import given_splits

RESULTS = Path("results/preprocess")
_NAMED = 5  # files named in a note
LISTING = RESULTS / "rejected.csv"


def main(raw: Path | None = None, corpus: Path = CORPUS) -> None:
    """Reads raw text in many formats, cleans it, splits it into sentences, and drops duplicates.

    RAW is the folder of raw text (by default preprocess.input), CORPUS the folder to write.
    """
    params = load_params()
    settings = params.preprocess
    raw = raw or Path(settings.input)
    check_apart(raw, corpus)
    workers = choose_workers(params.cluster.workers, params.cluster.scheduler)
    inspection = Inspection()
    rejected = RejectedFiles()

    files = _examine(raw, settings, inspection, rejected)
    kinds = Counter(map(kind_of, files))
    print(f"preprocess: reading {len(files):,} files: {kinds_in_words(files, raw)}", flush=True)
    write_listing(files, raw, RESULTS / "files.csv")

    given = given_splits(
        [PurePosixPath(file.path.relative_to(raw).as_posix()) for file in files],
        raw,
        settings.splits,
        "preprocess.splits",
    )
    print(f"preprocess: splits: {given.described()}", flush=True)
    folders = {file.path: split for file, split in zip(files, given.splits, strict=True)}

    cleaned = scratch() / "cleaned"
    cleaned.mkdir(parents=True, exist_ok=True)
    options = ChunkOptions(
        ReadOptions(settings.document, TextFields(settings.text_fields), settings.csv),
        settings.sentences,
        settings.bad_input == "skip",
        settings.clean,
    )
    tasks = chunk_tasks(files, cleaned, options)
    outcomes = shard_map(clean_chunk, tasks, workers, "clean", "chunks")
    _refuse_faults(tasks, outcomes, rejected)
    chunks = [cleaned / str(key) for key in outcomes]
    counts: Counter[str] = Counter()
    edits: Counter[str] = Counter()
    lines: Counter[Path] = Counter()  # of each file, before the chunk
    for task, chunk in zip(tasks, chunks, strict=True):
        facts = read_facts(cleaned, chunk.name)
        file = task.file.path.relative_to(raw)
        edits.update(facts.edits)
        rejected.add(file, facts.rejected, facts.whole_file)
        inspection.add_chunk(file, facts)
        for example in facts.rejected_examples:
            position = after_lines(example["position"], lines[file])
            inspection.add_rejection(file, position, example["reason"], example["text"])
        lines[file] += facts.counts.pop("raw_lines", 0)
        counts.update(facts.counts)
    rejected.write(LISTING)
    read = counts["characters_in"]
    check_limit(rejected.total, read, settings.bad_input_limit, LISTING)

    with new_directory(corpus) as temporary:
        kept, totals = _drop_duplicates(chunks, settings.near_duplicates, temporary, workers)
        _check_documents(totals["documents"], counts, len(files), raw, settings.document, rejected)
        splits = [folders[task.file.path] for task in tasks]
        totals.update(_write_corpus(temporary, splits, chunks, kept))

    if counts["documents_cut"]:
        print(
            f"preprocess: note: {counts['documents_cut']:,} cuts in documents of more than 4 Mi "
            f"characters; is preprocess.document: {settings.document} right for this text?",
            file=sys.stderr,
        )
    if given.unclear:
        names, answer = given.question()
        print(
            f"preprocess: note: read as text of no given split, although the name resembles one: "
            f"{names}; if it is held-out text, set preprocess.splits: {answer}",
            file=sys.stderr,
        )
    write_text(RESULTS / "samples.txt", inspection.page())
    digest = input_md5(raw, [file.path for file in files], worker_count(params.cluster.workers))
    write_metrics(
        RESULTS / "metrics.json",
        {
            "files": len(files),
            "input_md5": digest,
            **dict(sorted({**counts, **totals}.items())),
            "formats": dict(sorted(kinds.items())),
            "edits": dict(sorted(edits.items())),
            "rejected": dict(sorted(rejected.total.counts.items())),
            "rejected_characters": dict(sorted(rejected.total.characters.items())),
            "rejected_bytes": dict(sorted(rejected.total.bytes.items())),
            "rejected_fraction": rejected.total.fraction(read),
            "emoji_version": EMOJI_VERSION,
        },
    )
    print(
        f"preprocess: {totals['documents']:,} documents, {totals['sentences']:,} sentences from "
        f"{len(files):,} files; dropped {totals['documents_duplicate']:,} duplicates"
        + (
            f", {totals['documents_near_duplicate']:,} near duplicates"
            if settings.near_duplicates is not None
            else ""
        )
        + (f"; {rejected.summary(read, LISTING)}" if rejected.total.counts else "")
    )


def _examine(
    raw: Path, settings: Preprocess, inspection: Inspection, rejected: RejectedFiles
) -> list[RawFile]:
    """The raw files to read; `inspection` and `rejected` get the rejected ones.

    Raises:
        UserError: no file can be read, or there are faults and they are not to be skipped.
    """
    files = []
    passed_over = []
    examined = examine_all(raw, settings.format, settings.document, settings.encoding)
    for path, file, rejections in examined:
        if file:
            files.append(file)
        elif not rejections.counts:
            passed_over.append(shown_name(path.relative_to(raw)))
        if not rejections.counts:
            continue
        relative = path.relative_to(raw)
        rejected.add(relative, rejections, rejections.whole_file)
        for example in rejections.examples:
            rejected.faults.append(Fault(shown_name(path), example["position"], example["reason"]))
            inspection.add_rejection(relative, "", example["reason"], example["text"])
    if passed_over:
        more = ", ..." if len(passed_over) > _NAMED else ""
        _note(
            f"{len(passed_over):,} backup or temporary files were not read: "
            f"{', '.join(passed_over[:_NAMED])}{more}; rename them if they are text of yours"
        )
    _note_doubtful(files, raw)
    if settings.bad_input == "fail" and rejected.faults:
        rejected.write(LISTING)
        raise faults_error(rejected.faults, LISTING)
    rejected.faults.clear()
    if not files:
        rejected.write(LISTING)
        check_limit(rejected.total, 0, 0, LISTING)
        raise UserError(f"{raw}: none of its files can be read; see {LISTING}")
    return files


def _refuse_faults(
    tasks: Sequence[ChunkTask], outcomes: Sequence[str | Fault], rejected: RejectedFiles
) -> None:
    """Raises a UserError that lists the first fault of each file, if there are any."""
    lines: Counter[Path] = Counter()
    faults: dict[Path, Fault] = {}
    for task, outcome in zip(tasks, outcomes, strict=True):
        path = task.file.path
        if isinstance(outcome, Fault):
            position = after_lines(outcome.position, lines[path])
            faults.setdefault(path, replace(outcome, position=position))
        elif task.stop is not None and path not in faults:
            lines[path] += read_facts(task.folder, outcome).counts["raw_lines"]
    if faults:
        rejected.faults += faults.values()
        rejected.write(LISTING)
        raise faults_error(rejected.faults, LISTING)


def _note_doubtful(files: list[RawFile], raw: Path) -> None:
    doubtful = [file for file in files if file.doubt]
    if doubtful:
        named = ", ".join(
            f"{shown_name(file.path.relative_to(raw))} ({file.doubt})" for file in doubtful[:_NAMED]
        )
        more = ", ..." if len(doubtful) > _NAMED else ""
        _note(
            f"{len(doubtful):,} files to be read as {doubtful[0].encoding} (preprocess.encoding) "
            f"look like another encoding: {named}{more}; convert those to UTF-8 first"
        )


def _note(text: str) -> None:
    print(f"preprocess: note: {text}", file=sys.stderr, flush=True)


def _drop_duplicates(
    chunks: Sequence[Path], threshold: float | None, folder: Path, workers: Workers
) -> tuple[list[np.ndarray], Counter[str]]:
    """The documents to keep, and numbers of documents kept and dropped.

    Args:
        chunks: paths of cleaned chunks, without suffixes.
        threshold: preprocess.near_duplicates.
        folder: for temporary files.

    Returns:
        One bool array [documents] per cleaned chunk, and the numbers.
    """
    work = folder / ".work"
    work.mkdir()
    kept = first_occurrences([chunk.with_suffix(".documents") for chunk in chunks], work)
    shutil.rmtree(work)
    documents = sum(int(mask.sum()) for mask in kept)
    totals = Counter(documents_duplicate=sum(map(len, kept)) - documents)
    if threshold is not None:
        tasks = [
            SignatureTask(chunk.with_suffix(".txt"), len(mask))
            for chunk, mask in zip(chunks, kept, strict=True)
        ]
        shard_map(write_signatures, tasks, workers, "signatures", "chunks")
        kept = near_duplicates([task.target for task in tasks], kept, threshold)
        left = sum(int(mask.sum()) for mask in kept)
        totals["documents_near_duplicate"] = documents - left
        documents = left
    totals["documents"] = documents
    return kept, totals


def _write_corpus(
    corpus: Path,
    splits: Sequence[str | None],
    chunks: Sequence[Path],
    kept: Sequence[np.ndarray],
) -> Counter[str]:
    """Writes the kept documents and counts their sentences and characters.

    Args:
        splits: the given split of each chunk; None if no name states one.
        chunks: paths of cleaned chunks, without suffixes.
        kept: bool [documents] for each chunk.
    """
    totals: Counter[str] = Counter(sentences=0, characters=0)
    with CorpusWriter(corpus) as writer:
        for split, chunk, mask in zip(splits, chunks, kept, strict=True):
            first = offset = 0
            for part in read_table(chunk.with_suffix(".documents")):
                keep = mask[first : first + len(part)]
                writer.write(chunk.with_suffix(".txt"), offset, part["size"], keep, split or "")
                first += len(part)
                offset += int(part["size"].sum(dtype=np.int64))
                for measure in totals:
                    totals[measure] += int(part[measure].sum(where=keep, dtype=np.int64))
    return totals


def _check_documents(
    documents: int,
    counts: Counter[str],
    files: int,
    raw: Path,
    document: str,
    rejected: RejectedFiles,
) -> None:
    """Refuses a corpus that cannot be trained on: one without text, or of a single document."""
    without = (
        f" ({rejected.summary(counts['characters_in'], LISTING)})" if rejected.total.counts else ""
    )
    if documents == 0:
        raise UserError(
            f"{raw}: no text left after cleaning{without}; check that its files are not empty"
        )
    endless = document != "file" and 2 * counts["documents_cut"] > counts["documents_in"]
    if documents == 1 and counts["documents_in"] > files:
        raise UserError(
            f"{raw}: only one document is left{without}; give more text, or check what "
            "preprocess.near_duplicates and preprocess.bad_input dropped"
        )
    if documents == 1 or endless:
        raise UserError(
            f"{raw}: with preprocess.document: {document} all of it is one document{without}; put "
            "blank lines between documents, set preprocess.document to line, file or "
            "`20 sentences`, or give more text"
        )


if __name__ == "__main__":
    # Here, because the processes of the worker pool import this module and do not need it.
    from lib.train.base_models import check_base_models

    run_stage(main, before=check_base_models)
