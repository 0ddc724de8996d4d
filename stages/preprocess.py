"""preprocess: raw text -> data/corpus, a sentence per line, a blank line after each document."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lib.params import load_params
from lib.run.atomic import new_directory, write_text
from lib.run.code_digest import ROOT, module_digest
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import CORPUS
from lib.run.pool import choose_workers, shard_map, worker_count
from lib.run.sealed_files import prune
from lib.run.stage import run_stage, scratch
from lib.text import notes
from lib.text.assembly import CleanedChunk, assemble
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
    write_listing,
)
from lib.text.reading.reader import RawFile, ReadOptions
from lib.text.reading.rejected_files import RejectedFiles
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
    skip = settings.bad_input == "skip"
    rejected = RejectedFiles(LISTING)
    files, passed_over = examine_all(
        raw, settings.format, settings.document, settings.encoding, skip, rejected
    )
    _note(notes.not_read(passed_over))
    _note(notes.doubtful_encodings(files, settings.encoding))
    rejected.refuse_faults()
    if not files:
        rejected.check_limit(0, 0)
        raise UserError(f"{raw}: none of its files can be read; see {LISTING}")
    print(
        f"preprocess: reading {len(files):,} file{'s' * (len(files) > 1)}: {kinds_in_words(files)}",
        flush=True,
    )
    write_listing(files, RESULTS / "files.csv")
    names = [file.name for file in files]
    given = given_splits(names, raw, settings.splits, "preprocess.splits")
    print(f"preprocess: splits: {given.described()}", flush=True)

    code = module_digest(ROOT, CLEANING_MODULE)
    cleaned = scratch() / "cleaned" / code
    cleaned.mkdir(parents=True, exist_ok=True)
    reading = ReadOptions(
        settings.document, TextFields(settings.text_fields), settings.csv, settings.line_ends
    )
    options = ChunkOptions(reading, settings.sentences, skip, settings.clean)
    tasks = chunk_tasks(files, cleaned, options)
    outcomes = shard_map(clean_chunk, tasks, workers, "clean", "chunks")
    folders = dict(zip(names, (split or "" for split in given.splits), strict=True))
    chunks, inspection = _gather(tasks, outcomes, folders, rejected)
    counts, edits = inspection.counts, inspection.edits
    read = counts["characters_in"]
    rejected.check_limit(read, settings.bad_input_limit)

    with new_directory(corpus) as temporary:
        totals = assemble(temporary, chunks, settings.near_duplicates, workers)
        _check_documents(totals["documents"], counts, files, raw, settings.document, rejected)
    prune(cleaned.parent, code)

    c1_controls = Counter(raw_c1_controls=edits["c1_controls"])  # counted by their edit
    _note(notes.remnants(counts + c1_controls, settings.clean))
    _note(notes.records(counts, settings.text_fields))
    _note(
        notes.line_ends(
            inspection.examined, inspection.wrapped, settings.line_ends, settings.document
        )
    )
    _note(notes.cuts(counts["documents_cut"], settings.document))
    _note(notes.unclear_splits(*given.question()))
    _note(notes.lost_accents(edits["accents"], totals["characters"]))
    write_text(RESULTS / "samples.txt", inspection.page(rejected.examples))
    known = {name: md5 for outcome in outcomes for name, md5 in outcome.md5.items()}
    paths = {file.name: file.path for file in files}
    digest = input_md5(paths, worker_count(params.cluster.workers), known)
    balance = _balance(counts, totals)
    write_metrics(
        RESULTS / "metrics.json",
        {
            "files": len(files),
            "input_md5": digest,
            **dict(sorted({**counts, **totals}.items())),
            "formats": dict(sorted(Counter(map(kind_of, files)).items())),
            "edits": dict(sorted(edits.items())),
            "edit_characters": {
                name: {"in": count, "out": inspection.characters_out[name]}
                for name, count in inspection.characters_in.items()
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
        + (f"; {rejected.summary(read)}" if rejected.total.counts else "")
    )


def _note(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"preprocess: note: {line}", file=sys.stderr, flush=True)


def _gather(
    tasks: Sequence[ChunkTask],
    outcomes: Sequence[Cleaned],
    folders: Mapping[str, str],
    rejected: RejectedFiles,
) -> tuple[list[CleanedChunk], Inspection]:
    """The cleaned chunks and their facts; `rejected` gets their bad input.

    Args:
        folders: the given split of each file, or "".

    Raises:
        UserError: there are faults; it lists the first of each file.
    """
    chunks = []
    inspection = Inspection()
    lines: Counter[str] = Counter()  # of a file in parts, before the chunk
    for task, outcome in zip(tasks, outcomes, strict=True):
        names = [file.name for file in task.files]
        for fault in outcome.faults:
            rejected.add_fault(fault, lines[names[0]])
        if not outcome.key:
            continue
        facts = read_facts(task.folder, outcome.key)
        raw_lines = facts.counts.pop("raw_lines", 0)
        inspection.add_chunk(names, facts)
        inspection.counts["documents_cut"] += task.continues
        for number, lost in facts.rejected.items():
            rejected.add(names[number], lost, lines[names[0]])
        if task.stop is not None:
            lines[names[0]] += raw_lines
        splits = [folders[name] for name in names]
        chunks.append(CleanedChunk(splits, task.folder / outcome.key, facts.documents))
    rejected.refuse_faults()
    return chunks, inspection


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
    endless = document != "file" and 2 * counts["documents_cut"] > counts["documents_in"]
    if documents == 0:
        problem, fix = "no text left after cleaning", "check that its files are not empty"
    elif documents == 1 and counts["documents_in"] > len(files):
        problem = "only one document is left"
        fix = (
            "give more text, or check what preprocess.near_duplicates and preprocess.bad_input "
            "dropped"
        )
    elif documents == 1 and not any(file.format == "text" for file in files):
        problem, fix = "there is only one document", "give more text"
    elif documents == 1 or endless:
        problem = f"with preprocess.document: {document} all of it is one document"
        fix = (
            "put blank lines between documents, set preprocess.document to line, file or "
            "`20 sentences`, or give more text"
        )
    else:
        return
    losses = []
    if counts["records_without_text"]:
        losses.append(f"{counts['records_without_text']:,} records had no text")
    if rejected.total.counts:
        losses.append(rejected.summary(counts["characters_in"]))
    without = f" ({'; '.join(losses)})" if losses else ""
    raise UserError(f"{raw}: {problem}{without}; {fix}")


if __name__ == "__main__":
    # Here, because the processes of the worker pool import this module and do not need it.
    from lib.train.base_models import check_base_models

    run_stage(main, before=check_base_models)
