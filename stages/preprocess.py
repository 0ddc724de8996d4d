"""preprocess: raw text -> data/corpus, a sentence per line, a blank line after each document."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from lib.params import Preprocess, load_params
from lib.run.atomic import new_directory, write_text
from lib.run.code_digest import ROOT, module_digest
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import CORPUS
from lib.run.pool import choose_workers, shard_map, worker_count
from lib.run.sealed_files import prune
from lib.run.stage import run_stage, scratch
from lib.text import notes
from lib.text.assembly import CleanedChunk, drop_duplicates, write_corpus
from lib.text.cleaning.chunks import MODULE as CLEANING_MODULE
from lib.text.cleaning.chunks import (
    ChunkOptions,
    ChunkTask,
    Cleaned,
    chunk_tasks,
    clean_chunk,
    read_facts,
)
from lib.text.cleaning.emoji import EMOJI_VERSION
from lib.text.cleaning.inspection import Inspection
from lib.text.reading.fields import TextFields
from lib.text.reading.input_digest import input_md5
from lib.text.reading.raw_files import (
    check_apart,
    examine_all,
    kind_of,
    kinds_in_words,
    relative_name,
    write_listing,
)
from lib.text.reading.reader import RawFile, ReadOptions
from lib.text.reading.rejected_files import RejectedFiles, shown_name
from lib.text.reading.rejections import Fault, after_lines, check_limit, faults_error
from lib.text.splits import given_splits

RESULTS = Path("results/preprocess")
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
    print(
        f"preprocess: reading {len(files):,} file{'s' * (len(files) > 1)}: "
        f"{kinds_in_words(files, raw)}",
        flush=True,
    )
    write_listing(files, raw, RESULTS / "files.csv")

    relative = {file.path: relative_name(file.path, raw) for file in files}
    given = given_splits(
        [PurePosixPath(path) for path in relative.values()],
        raw,
        settings.splits,
        "preprocess.splits",
    )
    print(f"preprocess: splits: {given.described()}", flush=True)
    folders = dict(zip(relative, given.splits, strict=True))

    code = module_digest(ROOT, CLEANING_MODULE)
    cleaned = scratch() / "cleaned" / code
    cleaned.mkdir(parents=True, exist_ok=True)
    options = ChunkOptions(
        ReadOptions(
            settings.document,
            TextFields(settings.text_fields),
            settings.csv,
            settings.line_ends,
        ),
        settings.sentences,
        settings.bad_input == "skip",
        settings.clean,
    )
    tasks = chunk_tasks(files, cleaned, options)
    outcomes = shard_map(clean_chunk, tasks, workers, "clean", "chunks")
    chunks = [
        CleanedChunk(
            [relative[file.path] for file in task.files],
            [folders[file.path] or "" for file in task.files],
            cleaned / outcome.key,
        )
        for task, outcome in zip(tasks, outcomes, strict=True)
    ]
    _refuse_faults(tasks, outcomes, rejected)
    counts, edits = _gather_facts(chunks, outcomes, inspection, rejected)
    counts["documents_cut"] += sum(task.continues for task in tasks)
    rejected.write(LISTING)
    read = counts["characters_in"]
    check_limit(rejected.total, read, settings.bad_input_limit, LISTING, rejected.named())

    with new_directory(corpus) as temporary:
        exact, kept, totals = drop_duplicates(chunks, settings.near_duplicates, temporary, workers)
        _check_documents(totals["documents"], counts, files, raw, settings.document, rejected)
        totals.update(write_corpus(temporary, chunks, exact, kept))
    prune(cleaned.parent, code)

    c1_controls = Counter(raw_c1_controls=edits.counts["c1_controls"])  # counted by their edit
    _note(notes.remnants(counts + c1_controls, settings.clean))
    _note(notes.records(counts, settings.text_fields))
    _note(
        notes.line_ends(
            inspection.examined, inspection.wrapped, settings.line_ends, settings.document
        )
    )
    _note(notes.cuts(counts["documents_cut"], settings.document))
    _note(notes.unclear_splits(*given.question()))
    _note(notes.lost_accents(edits.counts["accents"], totals["characters"]))
    write_text(RESULTS / "samples.txt", inspection.page())
    known = {
        file.path: md5
        for task, outcome in zip(tasks, outcomes, strict=True)
        for file, md5 in zip(task.files, outcome.md5, strict=bool(outcome.md5))
    }
    paths = [file.path for file in files]
    digest = input_md5(raw, paths, worker_count(params.cluster.workers), known)
    balance = _balance(counts, totals)
    write_metrics(
        RESULTS / "metrics.json",
        {
            "files": len(files),
            "input_md5": digest,
            **dict(sorted({**counts, **totals}.items())),
            "formats": dict(sorted(kinds.items())),
            "edits": dict(sorted(edits.counts.items())),
            "edit_characters": {
                name: {"in": count, "out": edits.characters_out[name]}
                for name, count in edits.characters_in.items()
            },
            "balance": balance,
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
    _note(notes.not_read(passed_over))
    doubts = {shown_name(file.path.relative_to(raw)): file.doubt for file in files if file.doubt}
    _note(notes.doubtful_encodings(doubts, settings.encoding))
    if settings.bad_input == "fail" and rejected.faults:
        rejected.write(LISTING)
        raise faults_error(rejected.faults, LISTING)
    rejected.faults.clear()
    if not files:
        rejected.write(LISTING)
        check_limit(rejected.total, 0, 0, LISTING, rejected.named())
        raise UserError(f"{raw}: none of its files can be read; see {LISTING}")
    return files


@dataclass
class _Edits:
    """What the cleaning edited: number of edits by reason, characters in and out by edit."""

    counts: Counter[str] = field(default_factory=Counter)
    characters_in: Counter[str] = field(default_factory=Counter)
    characters_out: Counter[str] = field(default_factory=Counter)


def _refuse_faults(
    tasks: Sequence[ChunkTask], outcomes: Sequence[Cleaned], rejected: RejectedFiles
) -> None:
    """Raises a UserError that lists the first fault of each file, if there are any."""
    lines: Counter[Path] = Counter()
    faults: dict[str, Fault] = {}
    for task, outcome in zip(tasks, outcomes, strict=True):
        first = task.files[0].path
        for fault in outcome.faults:
            position = after_lines(fault.position, lines[first])
            faults.setdefault(fault.source, replace(fault, position=position))
        lines[first] += outcome.lines if task.stop is not None else 0
    if faults:
        rejected.faults += faults.values()
        rejected.write(LISTING)
        raise faults_error(rejected.faults, LISTING)


def _note(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"preprocess: note: {line}", file=sys.stderr, flush=True)


def _gather_facts(
    chunks: Sequence[CleanedChunk],
    outcomes: Sequence[Cleaned],
    inspection: Inspection,
    rejected: RejectedFiles,
) -> tuple[Counter[str], _Edits]:
    """Counts of all cleaned chunks; `inspection` and `rejected` get their samples and bad input."""
    counts: Counter[str] = Counter()
    edits = _Edits()
    lines: Counter[Path] = Counter()  # of a file in parts, before the chunk
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        facts = read_facts(chunk.path.parent, chunk.path.name)
        chunk.documents[:] = facts.documents
        del facts.counts["raw_lines"]
        counts.update(facts.counts)
        edits.counts.update(facts.edits)
        edits.characters_in.update(facts.characters_in)
        edits.characters_out.update(facts.characters_out)
        inspection.add_chunk(chunk.files, facts)
        for number, bad in facts.rejected.items():
            file = Path(chunk.files[number])
            rejected.add(file, bad.lost, bad.whole_file)
            for example in bad.examples:
                position = after_lines(example["position"], lines[file])
                inspection.add_rejection(file, position, example["reason"], example["text"])
        if not outcome.md5:
            lines[Path(chunk.files[0])] += outcome.lines
    return counts, edits


def _balance(counts: Counter[str], totals: Counter[str]) -> dict[str, object]:
    """Characters of text that were read, kept and dropped by reason, all before the edits.

    It takes the numbers out of `counts` and `totals`.
    """
    prefix = "characters_dropped_"
    dropped = {
        name.removeprefix(prefix): numbers.pop(name)
        for numbers in (counts, totals)
        for name in sorted(numbers)
        if name.startswith(prefix)
    }
    return {
        "characters_read": counts.pop("characters_read", 0),
        "characters_kept": totals.pop("characters_kept_before_edits", 0),
        "characters_dropped": {name: count for name, count in dropped.items() if count},
    }


def _check_documents(
    documents: int,
    counts: Counter[str],
    files: Sequence[RawFile],
    raw: Path,
    document: str,
    rejected: RejectedFiles,
) -> None:
    """Refuses a corpus that cannot be trained on: one without text, or of a single document."""
    losses = []
    if counts["records_without_text"]:
        losses.append(f"{counts['records_without_text']:,} records had no text")
    if rejected.total.counts:
        losses.append(rejected.summary(counts["characters_in"], LISTING))
    without = f" ({'; '.join(losses)})" if losses else ""
    if documents == 0:
        raise UserError(
            f"{raw}: no text left after cleaning{without}; check that its files are not empty"
        )
    endless = document != "file" and 2 * counts["documents_cut"] > counts["documents_in"]
    if documents == 1 and counts["documents_in"] > len(files):
        raise UserError(
            f"{raw}: only one document is left{without}; give more text, or check what "
            "preprocess.near_duplicates and preprocess.bad_input dropped"
        )
    if documents == 1 and not any(file.format == "text" for file in files):
        raise UserError(f"{raw}: there is only one document{without}; give more text")
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
