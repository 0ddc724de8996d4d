"""Cleaned chunks: batches of small files, damaged or outdated ones made again, the balance."""

import csv
import html
import io
import json
import os
import random
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.run.sealed_files import is_intact, prune, read_seal, write_seal
from lib.text.cleaning import chunks as chunks_module
from lib.text.cleaning.chunks import (
    ChunkFacts,
    ChunkOptions,
    ChunkTask,
    chunk_tasks,
    clean_chunk,
    read_facts,
)
from lib.text.cleaning.edits import Cleaning
from lib.text.dedup.exact_duplicates import read_table
from lib.text.dedup.near_duplicates import SignatureTask, write_signatures
from lib.text.documents import read_corpus
from lib.text.reading.raw_files import examine
from lib.text.reading.reader import RawFile, ReadOptions
from lib.text.reading.rejections import Rejections

OPTIONS = ChunkOptions(ReadOptions(), "split", True, Cleaning())


def raw_files(folder: Path, options: ChunkOptions = OPTIONS) -> list[RawFile]:
    found = []
    for path in sorted(folder.iterdir()):
        if file := examine(path, "auto", options.reading.document, Rejections("", True)):
            found.append(file)
    return found


def clean_all(tasks: list[ChunkTask]) -> tuple[bytes, list, list[ChunkFacts]]:
    """Text and tables of some tasks, and the facts of each."""
    text, table, facts = b"", [], []
    for task in tasks:
        outcome = clean_chunk(task)
        assert not outcome.faults
        text += (task.folder / f"{outcome.key}.txt").read_bytes()
        table += [
            row
            for part in read_table(task.folder / f"{outcome.key}.documents")
            for row in part.tolist()
        ]
        facts.append(read_facts(task.folder, outcome.key))
    return text, table, facts


def test_small_files_in_one_chunk_are_cleaned_as_each_by_itself(tmp_path):
    raw, cleaned = tmp_path / "raw", tmp_path / "cleaned"
    raw.mkdir(), cleaned.mkdir()
    for number in range(300):
        text = f"Document {number}. It has “two”  sentences." + "\n\nAnother." * (number % 3)
        if number % 7 == 0:
            (raw / f"{number}.jsonl").write_text(json.dumps({"text": text}) + '\n{"text": \n')
        else:
            (raw / f"{number}.txt").write_text(text if number % 5 else "\x07\n")
    files = raw_files(raw)
    together = chunk_tasks(files, cleaned, OPTIONS)
    assert 1 <= len(together) < 5 and sum(len(task.files) for task in together) == 300
    one = clean_all(together)
    alone = clean_all([ChunkTask((file,), cleaned, OPTIONS) for file in files])
    assert one[:2] == alone[:2]
    for name in ("counts", "edits", "characters_in", "characters_out"):
        sums = [
            sum((getattr(each, name) for each in facts), Counter()) for _, _, facts in (one, alone)
        ]
        assert sums[0] == sums[1]
    documents = [count for facts in one[2] for count in facts.documents]
    assert documents == [facts.documents[0] for facts in alone[2]]
    bad = sum(len(facts.rejected) for facts in one[2])
    assert bad == 43 and 0 in documents
    assert bad == sum(bool(facts.rejected) for facts in alone[2])


@pytest.mark.parametrize("batch", [1 << 18, 10])
def test_documents_of_n_sentences_end_with_their_file(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(chunks_module, "_BATCH_CHARACTERS", batch)
    raw, cleaned = tmp_path / "raw", tmp_path / "cleaned"
    raw.mkdir()
    for number, count in enumerate((5, 4, 0, 1, 7)):
        (raw / f"{number}.txt").write_text("".join(f"{number} {n}.\n\n" for n in range(count)))
    options = replace(OPTIONS, reading=ReadOptions("2 sentences"))
    (task,) = chunk_tasks(raw_files(raw, options), cleaned, options)
    text, table, (facts,) = clean_all([task])
    assert facts.documents == [3, 2, 0, 1, 4] and facts.counts["documents_in"] == 10
    documents = text.decode().split("\n\n")[:-1]
    assert all(len({line.split()[0] for line in each.split("\n")}) == 1 for each in documents)
    assert sum(row[5] for row in table) == facts.counts["characters_in"] == 17 * len("0 0.")


def test_a_new_small_file_leaves_most_batches_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks_module, "_BATCH_FILES", 16)
    files = [RawFile(Path(f"raw/{n:04d}.txt"), "text", "none", 1000) for n in range(1000)]
    before = {task.files for task in chunk_tasks(files, tmp_path, OPTIONS)}
    files.insert(500, RawFile(Path("raw/0499a.txt"), "text", "none", 1000))
    after = {task.files for task in chunk_tasks(files, tmp_path, OPTIONS)}
    assert len(before) > 30 and len(after - before) <= 2
    assert max(map(len, after)) <= 32
    large = [RawFile(Path(f"raw/{n}.txt"), "text", "none", 200_000) for n in range(100)]
    for task in chunk_tasks(large, tmp_path, OPTIONS):
        assert sum(file.size for file in task.files) <= 4 << 20


def test_faults_of_all_files_of_a_chunk_are_found(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.txt").write_bytes(
            b"good\nb\xe9d\n" if number % 3 == 0 else b"good\n"
        )
    options = replace(OPTIONS, skip_bad_input=False)
    cleaned = tmp_path / "cleaned"
    (task,) = chunk_tasks(raw_files(tmp_path), cleaned, options)
    outcome = clean_chunk(task)
    assert [Path(fault.source).name for fault in outcome.faults] == ["0.txt", "3.txt", "6.txt"]
    assert outcome.key == ""
    assert all(fault.position.startswith("line 2") for fault in outcome.faults)
    assert not cleaned.exists() or not list(cleaned.iterdir())


# --- Nothing damaged is used


def damaged(data: bytes, seed: int) -> bytes:
    """Data with a flipped bit, or cut."""
    draw = random.Random(seed)
    if seed % 2 and len(data) > 1:
        return data[: draw.randrange(len(data))]
    broken = bytearray(data)
    broken[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(broken)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".txt", ".documents", ".json", ".npy", ".signatures"])
def test_damaged_files_are_made_again(tmp_path, suffix):
    damage_and_clean(tmp_path, suffix, 40)


@pytest.mark.parametrize("suffix", [".txt", ".documents", ".json", ".npy", ".signatures"])
def test_a_damaged_file_is_made_again(tmp_path, suffix):
    damage_and_clean(tmp_path, suffix, 4)


def damage_and_clean(folder: Path, suffix: str, times: int) -> None:
    raw = folder / "raw"
    raw.mkdir()
    (raw / "a.txt").write_text("\n\n".join(f"Document {n}. So it is – {n}." for n in range(50)))
    cleaned = folder / "cleaned"
    (task,) = chunk_tasks(raw_files(raw), cleaned, OPTIONS)
    key = clean_chunk(task).key
    signatures = SignatureTask(cleaned / f"{key}.txt", 50, "code")
    write_signatures(signatures)
    names = {
        ".npy": signatures.target.name,
        ".signatures": signatures.target.with_suffix(".json").name,
    }
    path = cleaned / names.get(suffix, f"{key}{suffix}")
    whole = {each: each.read_bytes() for each in cleaned.iterdir()}
    assert len(whole) == 5
    dates = {each: each.stat().st_mtime_ns for each in whole}
    clean_chunk(task), write_signatures(signatures)
    assert {each: each.stat().st_mtime_ns for each in whole} == dates  # intact files are used
    for seed in range(times):
        path.write_bytes(damaged(whole[path], seed))
        assert clean_chunk(task).key == key
        write_signatures(signatures)
        assert {each: each.read_bytes() for each in cleaned.iterdir()} == whole
    path.unlink()
    clean_chunk(task), write_signatures(signatures)
    assert {each: each.read_bytes() for each in cleaned.iterdir()} == whole


def test_a_seal_fits_its_files_only(tmp_path):
    seal, file = tmp_path / "x.json", tmp_path / "x"
    assert read_seal(seal) is None and not is_intact(seal, [file])
    file.write_bytes(b"content")
    write_seal(seal, [file], {"value": "ğ\udce9"})
    assert read_seal(seal)["values"] == {"value": "ğ\udce9"} and is_intact(seal, [file])
    file.write_bytes(b"content ")
    assert not is_intact(seal, [file])
    for content in (b"", b"{}", b"\xff\xfe", b"[1]\n[1]"):
        seal.write_bytes(content)
        assert read_seal(seal) is None


def test_what_is_not_used_any_more_is_deleted(tmp_path):
    now = time.time()
    for name, days in {
        "old-code/a.txt": 2,
        "new-code-of-another-run/a.txt": 0.5,
        "current/a.txt": 40,
        "current/a.json": 40,
        "current/b.txt": 40,
        "current/b.json": 2,
        "1234.txt": 2,  # of versions without a folder per version of the code
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (now, now - 86_400 * days))
    for folder in tmp_path.iterdir():
        if folder.is_dir():
            os.utime(folder, (now, now - 86_400 * 40))
    prune(tmp_path, "current")
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert left == ["current/b.json", "current/b.txt", "new-code-of-another-run/a.txt"]


# --- Characters read = characters kept + characters dropped, and the edits account for the rest


PARTS = ["word ", "ünï ", "“q” ", "\x07", "\u200b", " ", "漢字。", "A b. C d.", "😀"]
line = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)
blank = st.sampled_from(["", " ", "\u3000 "])
document = st.lists(st.one_of(line, line, blank), min_size=1, max_size=5)
# What is wrong with a document, if anything.
fault = st.sampled_from([None, None, None, "nul", "bytes", "surrogate", "number", "malformed"])


def json_record(text: str, wrong: str | None) -> bytes:
    record = {"text": 7 if wrong == "number" else text}
    data = json.dumps(record, ensure_ascii=wrong == "surrogate").encode("utf-8", "surrogatepass")
    if wrong == "bytes":
        return data[:-1] + b"\xe9}"
    return data[:-3] if wrong == "malformed" else data


def balance(kind: str, documents: list[tuple[list[str], str | None]]) -> Counter[str]:
    """Characters of text fields that can be decoded, those that are rejected, and lost bytes."""
    total: Counter[str] = Counter()
    for lines, wrong in documents:
        size = sum(map(len, lines))
        if kind == "text":  # Only the first line is bad.
            bad = {"nul": len(lines[0]) + 1}.get(wrong, 0)
            total["bytes"] += len(lines[0].encode()) + 1 if wrong == "bytes" else 0
            total["read"] += size - len(lines[0]) * (wrong == "bytes") + (wrong == "nul")
            total["rejected"] += bad
        elif wrong in ("nul", "surrogate"):  # All of it counts, with line ends.
            total["read"] += size + len(lines) + 1
            total["rejected"] += size + len(lines) + 1
        elif wrong is None:
            total["read"] += size
    return total


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(st.tuples(document, fault), min_size=1, max_size=12),
    st.sampled_from(
        ["text", "jsonl", "json", "csv", "tsv", "parquet", "wikitext", "wikiextractor", "html"],
    ),
    st.booleans(),
)
def test_characters_read_are_kept_or_dropped_for_a_reason(tmp_path, documents, kind, change):
    data, expected = written(kind, documents)
    path = tmp_path / f"{random.random()}.{kind if kind in ('jsonl', 'csv', 'tsv') else 'x'}"
    path.write_bytes(data)
    options = replace(
        OPTIONS,
        clean=Cleaning(emoji="alias", unicode="NFKC", punctuation="ascii")
        if change
        else Cleaning(),
    )
    task = ChunkTask((RawFile(path, kind, "none", len(data)),), tmp_path / "cleaned", options)
    _, table, (facts,) = clean_all([task])
    path.unlink()
    counts = facts.counts
    dropped = {
        name.removeprefix("characters_dropped_"): count
        for name, count in counts.items()
        if name.startswith("characters_dropped_")
    }
    empty = dropped.pop("documents_empty", 0)
    assert counts["characters_read"] == counts["characters_in"] + sum(dropped.values())
    assert counts["characters_in"] == sum(row[5] for row in table) + empty
    if kind != "html":  # What is text in a page is for the tests of markup.
        assert counts["characters_read"] == expected["read"]
    assert dropped.get("rejected", 0) == expected["rejected"]
    if kind == "text":
        lost = facts.rejected[0].bytes.total() if facts.rejected else 0
        assert lost == expected["bytes"]
    # The edits follow one another: what comes out of one goes into the next.
    before, after = list(facts.characters_in.values()), list(facts.characters_out.values())
    if before and "remove_separators" not in facts.characters_in:
        assert after[-1] == sum(row[4] for row in table)


def written(kind: str, documents: list[tuple[list[str], str | None]]) -> tuple[bytes, Counter[str]]:
    """A file of some format with documents, some of them bad, and what is to be counted."""
    if kind == "text":
        endings = {"nul": b"\0", "bytes": b"\xe9"}
        parts = []
        for lines, wrong in documents:
            encoded = [text.encode() for text in lines]
            encoded[0] += endings.get(wrong, b"")
            parts.append(b"".join(each + b"\n" for each in encoded) + b"\n")
        return b"".join(parts), balance(kind, documents)
    if kind == "jsonl":
        endings = {"nul": "\0", "surrogate": "\ud800"}
        texts = ["".join(f"{text}\n" for text in lines) for lines, _ in documents]
        records = [
            json_record(text + endings.get(wrong, ""), wrong)
            for text, (_, wrong) in zip(texts, documents, strict=True)
        ]
        return b"".join(record + b"\n" for record in records), balance(kind, documents)
    documents = [(lines, None) for lines, wrong in documents if not wrong]
    texts = ["".join(f"{text}\n" for text in lines) for lines, _ in documents]
    expected = balance(kind, documents)
    if kind == "json":
        records = [{"n": 1, "text": text} for text in texts]
        return json.dumps(records, ensure_ascii=False, indent=2).encode(), expected
    if kind == "html":
        parts = [f"<p>{html.escape(text)}<br>{number}" for number, text in enumerate(texts)]
        return f"<!doctype html><title>T</title>{''.join(parts)}".encode(), expected
    if kind == "parquet":
        stream = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(texts, "string")}), stream)
        return stream.getvalue(), expected
    if kind in ("csv", "tsv"):
        rows = io.StringIO()
        writer = csv.writer(rows, delimiter="," if kind == "csv" else "\t")
        writer.writerow(["text", "n"])
        writer.writerows([text, 1] for text in texts)
        return rows.getvalue().encode() + b"a\xe9,b\n", expected
    if kind == "wikitext":
        text = "".join(f" = T = \n{text}\n = = S = = \n" for text in texts)
    else:
        text = "".join(f'<doc id="1" title="T">\nT\n{text}\n</doc>\n' for text in texts)
    return text.encode(), Counter(read=len(text.replace("\n", "")))


def test_kept_documents_are_what_the_corpus_reader_finds(tmp_path):
    (tmp_path / "a.txt").write_text("One. Two.\n\nThree.\n")
    text, table, _ = clean_all(chunk_tasks(raw_files(tmp_path), tmp_path / "cleaned", OPTIONS))
    (tmp_path / "text").write_bytes(text)
    assert [len(each) + 1 for each in read_corpus(tmp_path / "text")] == [row[2] for row in table]


def test_documents_of_n_sentences_count_sentences_and_not_lines(tmp_path):
    raw, cleaned = tmp_path / "raw", tmp_path / "cleaned"
    raw.mkdir()
    lines = [f"One {n}. Two {n}! Three {n}?" if n % 3 else f"Only {n}." for n in range(40)]
    (raw / "a.txt").write_text("\n".join(lines))
    (raw / "b.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    for document, size in (("4 sentences", 4), ("1 sentences", 1)):
        options = replace(OPTIONS, reading=ReadOptions(document))
        text, _, _ = clean_all(chunk_tasks(raw_files(raw, options), cleaned, options))
        groups = [each.split("\n") for each in text.decode().split("\n\n")[:-1]]
        sentences = [s for line in lines for s in re.split(r"(?<=[.!?]) ", line)]
        once = [sentences[start : start + size] for start in range(0, len(sentences), size)]
        assert groups == [*once, *once]
