"""preprocess: raw text -> data/corpus, a sentence per line, a blank line after each document."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lib.params import Params, load_params
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
from lib.text.layout import EXTRA, SPLITS, CorpusPlace
from lib.text.named_inputs import NamedInput, refuse_other_folders
from lib.text.reading.fields import TextFields
from lib.text.reading.input_digest import input_md5
from lib.text.reading.raw_files import (
    check_apart,
    kind_of,
    kinds_in_words,
    list_files,
    write_listing,
)
from lib.text.reading.reader import ReadOptions
from lib.text.reading.rejected_files import RejectedFiles

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
    rejected = RejectedFiles(LISTING)
    inputs = _inputs(params, raw)
    for each in inputs:
        _note(each, notes.not_read(each.examine(rejected)))
        _note(each, notes.doubtful_encodings(each.files, each.encoding))
    rejected.refuse_faults()
    files = [file for each in inputs for file in each.files]
    if not files:
        rejected.check_limit(0, 0)
        raise UserError(f"{raw}: none of its files can be read; see {LISTING}")
    write_listing(files, RESULTS / "files.csv")
    for each in inputs:
        print(
            f"preprocess: {each.prefix}reading {len(each.files):,} "
            f"file{'s' * (len(each.files) > 1)}: {kinds_in_words(each.files)}"
        )
        print(f"preprocess: {each.prefix}splits: {each.find_splits().described()}", flush=True)

    code = module_digest(ROOT, CLEANING_MODULE)
    cleaned = scratch() / "cleaned" / code
    cleaned.mkdir(parents=True, exist_ok=True)
    tasks = [
        (each, task) for each in inputs for task in chunk_tasks(each.files, cleaned, each.options)
    ]
    outcomes = shard_map(clean_chunk, [task for _, task in tasks], workers, "clean", "chunks")
    chunks = _gather(tasks, outcomes, rejected)
    inspection = Inspection()
    for each in inputs:
        inspection.add(each.inspection)
    counts, edits = inspection.counts, inspection.edits
    read = counts["characters_in"]
    rejected.check_limit(read, settings.bad_input_limit)

    with new_directory(corpus) as temporary:
        totals, kept = assemble(temporary, chunks, settings.near_duplicates, workers)
        for each in inputs:
            _check_documents(each, kept, rejected)
    prune(cleaned.parent, code)

    for each in inputs:
        _note(each, _notes(each, kept))
    write_text(RESULTS / "samples.txt", inspection.page(rejected.examples))
    known = {name: md5 for outcome in outcomes for name, md5 in outcome.md5.items()}
    paths = {file.name: file.path for file in files}
    digest = input_md5(paths, worker_count(params.cluster.workers), known)
    balance = _balance(counts, totals)
    named = {each.name: _kept(each, kept) for each in inputs if each.name}
    write_metrics(
        RESULTS / "metrics.json",
        {
            "files": len(files),
            "input_md5": digest,
            **dict(sorted({**counts, **totals}.items())),
            **({"inputs": named} if named else {}),
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


def _inputs(params: Params, raw: Path) -> list[NamedInput]:
    """The inputs; what is only evaluated comes first, so that its duplicates are not trained on."""
    names = [name for name in params.preprocess.inputs if name != EXTRA]
    if names:
        refuse_other_folders(raw, names)
    inputs = [_input(params, name, raw / name) for name in names or [""]]
    extra = Path(params.evaluate.extra)
    if extra.is_dir() and list_files(extra):
        inputs.insert(0, replace(_input(params, EXTRA, extra), held_out=True))
    return inputs


def _input(params: Params, name: str, folder: Path) -> NamedInput:
    section = params.preprocess
    settings = section.of_input(name) if name in section.inputs else section
    fields = TextFields(settings.text_fields)
    reading = ReadOptions(settings.document, fields, settings.csv, settings.line_ends)
    skip = settings.bad_input == "skip"
    options = ChunkOptions(reading, settings.sentences, skip, settings.clean)
    return NamedInput(name, folder, settings.format, settings.encoding, settings.splits, options)


def _note(source: NamedInput, lines: Iterable[str]) -> None:
    for line in lines:
        print(f"preprocess: note: {source.prefix}{line}", file=sys.stderr, flush=True)


def _notes(source: NamedInput, kept: Mapping[str, Counter[str]]) -> Iterator[str]:
    """What its options would treat better in the text of an input."""
    found, options = source.inspection, source.options
    reading = options.reading
    c1_controls = Counter(raw_c1_controls=found.edits["c1_controls"])  # counted by their edit
    yield from notes.remnants(found.counts + c1_controls, options.clean)
    yield from notes.records(found.counts, reading.fields.names)
    yield from notes.line_ends(found.examined, found.wrapped, reading.line_ends, reading.document)
    yield from notes.cuts(found.counts["documents_cut"], reading.document)
    if source.given:
        yield from notes.unclear_splits(*source.given.question())
    characters = _kept(source, kept)["characters"]
    yield from notes.lost_accents(found.edits["accents"], characters)


def _kept(source: NamedInput, kept: Mapping[str, Counter[str]]) -> Counter[str]:
    """Numbers of documents, sentences and characters of an input in the corpus."""
    folders = {CorpusPlace(source.name, split).folder() for split in (None, *SPLITS)}
    none = Counter(documents=0, sentences=0, characters=0)
    return sum((kept[folder] for folder in folders & kept.keys()), none)


def _gather(
    tasks: Sequence[tuple[NamedInput, ChunkTask]],
    outcomes: Sequence[Cleaned],
    rejected: RejectedFiles,
) -> list[CleanedChunk]:
    """The cleaned chunks; the inputs get their facts, `rejected` their bad input.

    Raises:
        UserError: there are faults; it lists the first of each file.
    """
    chunks = []
    lines: Counter[str] = Counter()  # of a file in parts, before the chunk
    for (source, task), outcome in zip(tasks, outcomes, strict=True):
        inspection = source.inspection
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
        owners = [source.corpus_folders[name] for name in names]
        chunks.append(CleanedChunk(owners, task.folder / outcome.key, facts.documents))
    rejected.refuse_faults()
    return chunks


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
    source: NamedInput, kept: Mapping[str, Counter[str]], rejected: RejectedFiles
) -> None:
    """Refuses text that cannot be trained on: none, or a single document."""
    counts, files = source.inspection.counts, source.files
    document = source.options.reading.document
    documents = _kept(source, kept)["documents"]
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
    raise UserError(f"{source.folder}: {problem}{without}; {fix}")


if __name__ == "__main__":
    # Here, because the processes of the worker pool import this module and do not need it.
    from lib.train.base_models import check_base_models

    run_stage(main, before=check_base_models)
