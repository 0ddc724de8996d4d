"""preprocess: raw text -> data/corpus, a sentence per line, a blank line after each document."""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from lib.params import Preprocess, load_params
from lib.run.atomic import new_directory, write_text
from lib.run.code_digest import ROOT, module_digest
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import CORPUS
from lib.run.pool import Workers, choose_workers, shard_map, worker_count
from lib.run.sealed_files import prune
from lib.run.stage import run_stage, scratch
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
from lib.text.corpus import CorpusWriter
from lib.text.dedup.exact_duplicates import first_occurrences, read_table
from lib.text.dedup.near_duplicates import MODULE as SIGNATURES_MODULE
from lib.text.dedup.near_duplicates import SignatureTask, near_duplicates, write_signatures
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
# Remnants of other formats are noted from this number and this share of characters on: text about
# HTML has some.
_FEW_REMNANTS = 20
_REMNANTS = 50e-6
# Hard-wrapped text is noted from this fraction of the text on.
_WRAPPED = 0.002
_NAMED = 5  # files named in a note
LISTING = RESULTS / "rejected.csv"
# As a fraction of all characters. In English text they are 0.01 %, in French 3 to 4 %.
_MANY_ACCENTS = 0.01


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
        _Chunk(
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
        exact, kept, totals = _drop_duplicates(chunks, settings.near_duplicates, temporary, workers)
        _check_documents(totals["documents"], counts, files, raw, settings.document, rejected)
        totals.update(_write_corpus(temporary, chunks, exact, kept))
    prune(cleaned.parent, code)

    c1_controls = Counter(raw_c1_controls=edits.counts["c1_controls"])  # counted by their edit
    _note_remnants(counts + c1_controls, settings)
    _note_pages(counts["records_of_html"])
    _note_fields(counts, settings)
    _note_line_ends(inspection.examined, inspection.wrapped, settings)
    if counts["documents_cut"]:
        _note(
            f"{counts['documents_cut']:,} cuts in documents of more than 4 Mi characters; is "
            f"preprocess.document: {settings.document} right for this text?"
        )
    if given.unclear:
        names, answer = given.question()
        _note(
            f"read as text of no given split, although the name resembles one: {names}; if it is "
            f"held-out text, set preprocess.splits: {answer}"
        )
    accents = edits.counts["accents"]
    if accents > _MANY_ACCENTS * totals["characters"]:
        _note(
            f"{accents:,} letters lost their accents ({accents / totals['characters']:.1%} of the "
            "characters), so that words which differ only in them are equal now; if they should "
            "not be, set preprocess.clean.accents: keep"
        )
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
    if passed_over:
        more = ", ..." if len(passed_over) > _NAMED else ""
        _note(
            f"not read, by their names: {len(passed_over):,} backup or temporary file"
            f"{'s' * (len(passed_over) > 1)} ({', '.join(passed_over[:_NAMED])}{more}); to read "
            "them, rename them"
        )
    _note_doubtful(files, raw)
    if settings.bad_input == "fail" and rejected.faults:
        rejected.write(LISTING)
        raise faults_error(rejected.faults, LISTING)
    rejected.faults.clear()
    if not files:
        rejected.write(LISTING)
        check_limit(rejected.total, 0, 0, LISTING, rejected.named())
        raise UserError(f"{raw}: none of its files can be read; see {LISTING}")
    return files


@dataclass(frozen=True)
class _Chunk:
    """A cleaned chunk.

    Attributes:
        files: its raw files, relative to the folder of raw text.
        folders: the given split of each, or "".
        path: the path of its files, without suffixes.
        documents: the number of documents of each raw file.
    """

    files: list[str]
    folders: list[str]
    path: Path
    documents: list[int] = field(default_factory=list)


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


def _note_remnants(counts: Counter[str], settings: Preprocess) -> None:
    """Says what the raw text has of other formats, and which option removes it."""
    clean = settings.clean
    remedies = (
        (
            "raw_html_entities",
            "character entities (&amp; and the like)",
            not clean.unescape_html,
            "preprocess.clean.unescape_html: true makes characters of them",
        ),
        (
            "raw_html_tags",
            "tags of HTML (<br /> and the like)",
            clean.html_tags == "keep",
            "preprocess.clean.html_tags: remove takes them out and ends lines at <br /> and <p>",
        ),
        (
            "raw_replacement_characters",
            "characters U+FFFD (�), each a character that an earlier conversion lost",
            True,
            "convert the original files again",
        ),
        (
            "raw_c1_controls",
            "control characters from U+0080 to U+009F, which were read as quotation marks, dashes "
            "and so on of Windows-1252",
            True,
            "if they are wrong, convert the original files again, or read those with "
            "preprocess.encoding",
        ),
    )
    for key, what, applies, remedy in remedies:
        if applies and counts[key] >= max(_FEW_REMNANTS, _REMNANTS * counts["characters_in"]):
            _note(f"the text has {counts[key]:,} {what}; {remedy}")


def _note_pages(pages: int) -> None:
    if pages:
        _note(f"{pages:,} records are pages of HTML, of which only the text was taken")


def _note_line_ends(counts: Counter[str], wrapped: Counter[str], settings: Preprocess) -> None:
    """Says how much of the text is hard-wrapped, and which option joins its lines.

    Args:
        counts: see `count_wrapped`.
        wrapped: characters of hard-wrapped text that were examined, by file.
    """
    examined, found = counts["line_ends_examined"], counts["line_ends_wrapped"]
    characters, in_wrapped = counts["characters_examined"], counts["characters_wrapped"]
    if settings.line_ends == "join" or not found or in_wrapped < _WRAPPED * characters:
        return
    named = ", ".join(name for name, _ in wrapped.most_common(_NAMED))
    more = ", ..." if len(wrapped) > _NAMED else ""
    document = "preprocess.document: blank_line and " if settings.document == "line" else ""
    _note(
        f"{found:,} of {examined:,} line ends examined, in {in_wrapped / characters:.1%} of the "
        "text, are in hard-wrapped text, whose sentences continue on the next line "
        f"({named}{more}); set {document}preprocess.line_ends: join"
    )


def _note_fields(counts: Counter[str], settings: Preprocess) -> None:
    """Fields of preprocess.text_field that no record has."""
    records = counts["records_of_several_fields"]
    for name in settings.text_fields:
        if records and counts[f"records_without_field_{name}"] == records:
            _note(f"none of {records:,} records has the field {name} of preprocess.text_field")


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


def _gather_facts(
    chunks: Sequence[_Chunk],
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


def _drop_duplicates(
    chunks: Sequence[_Chunk], threshold: float | None, folder: Path, workers: Workers
) -> tuple[list[np.ndarray], list[np.ndarray], Counter[str]]:
    """The documents to keep, and numbers of documents kept and dropped.

    Args:
        threshold: preprocess.near_duplicates.
        folder: for temporary files.

    Returns:
        A bool array [documents] per cleaned chunk, without exact duplicates; the same without near
        duplicates; and the numbers.
    """
    work = folder / ".work"
    work.mkdir()
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
    return exact, kept, totals


def _write_corpus(
    corpus: Path,
    chunks: Sequence[_Chunk],
    exact: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
) -> Counter[str]:
    """Writes the kept documents and counts their sentences and characters.

    Args:
        exact, kept: see `_drop_duplicates`.
    """
    totals: Counter[str] = Counter()
    with CorpusWriter(corpus) as writer:
        for chunk, unique, mask in zip(chunks, exact, kept, strict=True):
            text = chunk.path.with_suffix(".txt")
            first = offset = 0
            for part in read_table(chunk.path.with_suffix(".documents")):
                past = first + len(part)
                keep, is_unique = mask[first:past], unique[first:past]
                _write_part(writer, text, offset, part, keep, _owners(chunk, first, past))
                offset += int(part["size"].sum(dtype=np.int64))
                first = past
                for measure in ("sentences", "characters"):
                    totals[measure] += int(part[measure].sum(where=keep, dtype=np.int64))
                raw = part["raw_characters"]
                for measure, these in (
                    ("characters_kept_before_edits", keep),
                    ("characters_dropped_duplicates", ~is_unique),
                    ("characters_dropped_near_duplicates", is_unique & ~keep),
                ):
                    totals[measure] += int(raw.sum(where=these, dtype=np.int64))
    return totals


def _owners(chunk: _Chunk, first: int, past: int) -> list[tuple[int, int, str]]:
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
