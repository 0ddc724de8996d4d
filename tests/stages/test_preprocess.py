"""The preprocess stage: mixed formats, chunks, what is kept from run to run, bad input."""

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lib.run import fingerprint
from lib.run.errors import UserError
from lib.text.cleaning import chunks as chunks_module
from lib.text.cleaning.chunks import ChunkOptions, chunk_tasks, clean_chunk, read_facts
from lib.text.cleaning.edits import Cleaning
from lib.text.dedup.exact_duplicates import read_table
from lib.text.documents import read_corpus
from lib.text.reading.reader import RawFile, ReadOptions
from stages import preprocess as stage
from tests.helpers.project import Project, sentences, write_text


def cleaned_chunks(folder: Path, raw: Path, document: str = "blank_line") -> list[str]:
    """Cleans a text file into `folder`; the keys of its cleaned chunks."""
    options = ChunkOptions(ReadOptions(document), "split", False, Cleaning())
    folder.mkdir(exist_ok=True)
    file = RawFile(raw, "text", "none", raw.stat().st_size)
    return [clean_chunk(task).key for task in chunk_tasks([file], folder, options)]


@pytest.mark.parametrize("document", ["blank_line", "line"])
def test_a_large_file_in_chunks_gives_the_same_documents(tmp_path, monkeypatch, document):
    raw = tmp_path / "raw.txt"
    write_text(tmp_path / "raw", 500)
    raw.write_bytes(
        b"\n\n".join((tmp_path / "raw" / name).read_bytes() for name in ("one.txt", "two.txt"))
    )
    results = []
    for size in (1 << 20, 5000):
        monkeypatch.setattr(chunks_module, "_SMALL_FILE_BYTES", 0)
        monkeypatch.setattr(chunks_module, "_MIN_CHUNK_BYTES", size)
        monkeypatch.setattr(chunks_module, "_MAX_CHUNK_BYTES", size)
        folder = tmp_path / str(size)
        keys = cleaned_chunks(folder, raw, document)
        facts = [read_facts(folder, key) for key in keys]
        results.append(
            (
                b"".join((folder / f"{key}.txt").read_bytes() for key in keys),
                [
                    document
                    for key in keys
                    for part in read_table(folder / f"{key}.documents")
                    for document in part.tolist()
                ],
                sum((each.counts for each in facts), start=type(facts[0].counts)()),
            )
        )
        assert (len(keys) > 10) == (size == 5000)
    assert results[0] == results[1]
    text, table, counts = results[0]
    assert counts["documents_in"] == len(table) == 1000
    assert sum(document[3] for document in table) == 4000
    assert sum(document[4] for document in table) == len(text.decode()) - 5000


def test_a_file_that_grows_keeps_its_cleaned_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks_module, "_SMALL_FILE_BYTES", 0)
    monkeypatch.setattr(chunks_module, "_MIN_CHUNK_BYTES", 5000)
    write_text(tmp_path, 500)
    first = cleaned_chunks(tmp_path / "cleaned", tmp_path / "one.txt")
    with (tmp_path / "one.txt").open("a") as stream:
        stream.write("\n\nOne more document. It has two sentences.\n")
    second = cleaned_chunks(tmp_path / "cleaned", tmp_path / "one.txt")
    assert len(first) > 10 and first[:-1] == second[: len(first) - 1]
    assert len(set(second) - set(first)) == 1


def test_the_splits_that_names_state_are_printed_and_written(tmp_path, monkeypatch, capsys, values):
    monkeypatch.chdir(tmp_path)
    for name in ("training.txt", "val.txt", "old/test/a.txt"):
        path = tmp_path / "data/raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"Number {number} of {name}." for number in range(20)]
        path.write_text("\n\n".join(texts), encoding="utf-8")
    values["preprocess"]["input"] = "data/raw"
    values["cluster"]["workers"] = 1
    stated = {"old/test/": "test"}
    for answer in ({}, stated):
        values["preprocess"]["splits"] = answer
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        if not answer:
            with pytest.raises(
                UserError, match=r"not: old/test/.*preprocess\.splits: {'old/test/'"
            ):
                stage.main(Path("data/raw"), Path("data/corpus"))
    stage.main(Path("data/raw"), Path("data/corpus"))
    assert (
        "splits: train from training.txt (1 file); dev from val.txt (1 file); test from old/test/ "
    ) in capsys.readouterr().out
    found = {
        path.parent.name: len(list(read_corpus(path))) for path in Path("data").rglob("0*.txt")
    }
    assert found == {"train": 20, "dev": 20, "test": 20}


@pytest.mark.parametrize(
    ("text", "note"), [("Мой йод. ", True), ("Café, and so on and on. ", False)]
)
def test_accents_that_are_removed_from_many_letters_are_reported(
    tmp_path, monkeypatch, capsys, values, text, note
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    lines = [f"{text}{'Nothing else happened here on that day. ' * 4}{n}" for n in range(20)]
    (tmp_path / "data/raw/a.txt").write_text("\n\n".join(lines), encoding="utf-8")
    values["preprocess"]["clean"]["accents"] = "remove"
    values["cluster"]["workers"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    stage.main(Path("data/raw"), Path("data/corpus"))
    assert ("letters lost their accents" in capsys.readouterr().err) == note


@pytest.fixture
def project(tmp_path) -> Project:
    """A project whose raw text is of several formats."""
    project = Project(tmp_path / "project")
    raw = project.folder / "data/raw"
    write_text(raw)
    lines = sentences(90, 5)
    (raw / "deep").mkdir()
    with gzip.open(raw / "deep/objects.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps({"text": line}) + "\n" for line in lines[:40])
    rows = "".join(f"{number},{line}\n" for number, line in enumerate(lines[40:80]))
    (raw / "rows.csv").write_text("id,text\n" + rows)
    # Ten documents that are in the first file already.
    (raw / "copies.txt").write_text("\n\n".join(lines[:10]) + "\n")
    return project


def preprocess(project: Project, target: str = "data/corpus", code: int = 0) -> str:
    return project.stage("preprocess", "data/raw", target, code=code)


def test_formats_are_mixed_and_workers_change_nothing(project):
    output = preprocess(project)
    assert (
        "reading 5 files: 1 as csv: rows.csv; 1 as jsonl (gzip): deep/objects.jsonl.gz; "
        "3 as text: copies.txt, one.txt, two.txt" in output
    )
    metrics = json.loads((project.folder / "results/preprocess/metrics.json").read_text())
    assert metrics["documents_in"] == 240 + 40 + 40 + 10
    assert (metrics["documents"], metrics["documents_duplicate"]) == (320, 10)
    assert metrics["sentences"] == 960 + 80
    corpus = project.folder / "data/corpus"
    documents = [text for path in sorted(corpus.rglob("*.txt")) for text in read_corpus(path)]
    assert len(documents) == 320
    assert metrics["characters"] == sum(len(text.decode().replace("\n", "")) for text in documents)
    results = {
        name: (project.folder / "results/preprocess" / name).read_bytes()
        for name in ("metrics.json", "samples.txt")
    }
    for workers in (2, 5):
        project.run("rm", "-rf", ".scratch")
        project.set({"cluster": {"workers": workers}})
        preprocess(project, "again")
        assert fingerprint.of_path(project.folder / "again") == fingerprint.of_path(corpus)
        for name, content in results.items():
            assert (project.folder / "results/preprocess" / name).read_bytes() == content


def test_only_new_files_are_cleaned_and_text_of_deleted_files_goes(project):
    preprocess(project)
    (cleaned,) = (project.folder / ".scratch/cleaned").iterdir()
    before = {path: path.stat().st_mtime_ns for path in cleaned.iterdir()}
    first = fingerprint.of_path(project.folder / "data/corpus")
    (project.folder / "data/raw/new.txt").write_text("A new document. It is short.\n")
    preprocess(project)
    after = {path: path.stat().st_mtime_ns for path in cleaned.iterdir()}
    assert before.items() < after.items() and len(after) == len(before) + 3
    assert fingerprint.of_path(project.folder / "data/corpus") != first
    (project.folder / "data/raw/new.txt").unlink()
    preprocess(project)
    assert fingerprint.of_path(project.folder / "data/corpus") == first


def test_bad_input_is_an_error_or_is_left_out_and_shown(project):
    bad = project.folder / "data/raw/bad.jsonl"
    bad.write_bytes(b'{"text": "A good line of bad company."}\n{"text": \n\xff\xfe\n')
    (project.folder / "data/raw/gone.txt").symlink_to("nowhere")
    output = preprocess(project, code=1)
    assert output.startswith(
        "preprocess: error: data/raw/gone.txt: a link whose target does not exist"
    )
    (project.folder / "data/raw/gone.txt").unlink()
    (project.folder / "data/raw/late.txt").write_bytes(b"good\n" * 2000 + b"\xe9\n")
    output = preprocess(project, code=1)
    assert re.search(
        r"bad.jsonl line 3 \([^)]+\), data/raw/late.txt line 2001 \(.*\): not UTF-8", output
    )
    assert output.count("\n") == 3  # with the lines that name formats and splits
    (project.folder / "data/raw/late.txt").unlink()
    project.set({"preprocess": {"bad_input": "skip"}})
    output = preprocess(project)
    assert "; rejected 0.02 % of the text, in 1 file: bad.jsonl (2 places); see " in output
    metrics = json.loads((project.folder / "results/preprocess/metrics.json").read_text())
    assert metrics["rejected"] == {"invalid_utf8": 1, "malformed_json": 1}
    assert metrics["rejected_characters"] == {"malformed_json": len('{"text": ')}
    assert metrics["rejected_bytes"] == {"invalid_utf8": 2}
    assert metrics["documents"] == 321
    page = (project.folder / "results/preprocess/samples.txt").read_text()
    assert (
        "== bad.jsonl line 2 (Expecting value, column 10): malformed_json: not JSON; fix it\n"
        in page
    )
    assert "== bad.jsonl line 3 (in an unknown encoding): invalid_utf8" in page
    assert "\n- \\xff\\xfe\n" in page
    listing = (project.folder / "results/preprocess/rejected.csv").read_text().splitlines()
    assert listing[1:] == ["bad.jsonl,invalid_utf8,1,0,2", "bad.jsonl,malformed_json,1,9,0"]
    project.set({"preprocess": {"bad_input_limit": 0.0001}})
    output = preprocess(project, code=1)
    assert "0.02 % of the text is bad input, more than preprocess.bad_input_limit" in output


def test_equal_text_gives_equal_samples(tmp_path):
    write_text(tmp_path, 100)
    key = cleaned_chunks(tmp_path / "a", tmp_path / "one.txt")[0]
    again = cleaned_chunks(tmp_path / "b", tmp_path / "one.txt")[0]
    facts = read_facts(tmp_path / "a", key)
    assert facts == read_facts(tmp_path / "b", again)
    assert len(facts.samples) == 10
    for _, _, raw, clean in facts.samples:
        assert raw.replace(" ", "") == clean.replace("\n", "").replace(" ", "")
    assert replace(facts, samples=[]) != facts


@pytest.mark.parametrize("target", ["data/raw", "data", "data/raw/out", "."])
def test_a_corpus_never_replaces_raw_text(project, target):
    before = fingerprint.of_path(project.folder / "data/raw")
    output = preprocess(project, target, code=1)
    assert "should be separate from the raw text" in output and output.count("\n") == 1
    assert fingerprint.of_path(project.folder / "data/raw") == before


def test_a_file_is_never_replaced_by_the_corpus(project):
    before = (project.folder / "dvc.yaml").read_text()
    assert "a file, but a folder is to be written there" in preprocess(project, "dvc.yaml", code=1)
    assert (project.folder / "dvc.yaml").read_text() == before


def test_near_duplicates_are_dropped_on_request_and_counted(project):
    text = (project.folder / "data/raw/one.txt").read_text()
    first = text.split("\n\n")[0]
    near_duplicate = first.replace(".", "!").upper() + " Indeed."
    (project.folder / "data/raw/similar.txt").write_text(near_duplicate)
    assert "near duplicates" not in preprocess(project)
    project.set({"preprocess": {"near_duplicates": 0.6}})
    output = preprocess(project, "other")
    metrics = json.loads((project.folder / "results/preprocess/metrics.json").read_text())
    dropped = metrics["documents_near_duplicate"]
    assert dropped and f"dropped 10 duplicates, {dropped:,} near duplicates" in output
    texts = b"".join(path.read_bytes() for path in (project.folder / "other").glob("*.txt"))
    assert b"Indeed" not in texts and first.split(".")[0].encode() in texts


def test_a_single_json_document_gets_no_advice_about_blank_lines(project):
    for path in (project.folder / "data/raw").rglob("*.*"):
        path.unlink()
    (project.folder / "data/raw/x.jsonl").write_text('{"text": "a text"}\n' * 3)
    output = preprocess(project, code=1)
    assert "only one document is left" in output and "blank lines" not in output
    (project.folder / "data/raw/x.jsonl").unlink()
    (project.folder / "data/raw/x.csv").write_text("id,text\n1,\n2,nan\n3,A text.\n")
    output = preprocess(project, code=1)
    assert "there is only one document (2 records had no text); give more text" in output


@pytest.mark.slow
def test_what_a_stray_nul_another_column_and_long_lines_cost(project):
    raw = project.folder / "data/raw"
    for path in raw.rglob("*.*"):
        path.unlink()
    documents = [f"Document {n} is here.\nIt has a second line.\n\n" for n in range(2000)]
    (raw / "early.txt").write_text("".join(documents).replace("Document 3 ", "Docu\0ment 3 "))
    (raw / "other.csv").write_text("id,body\n" + "".join(f"{n},Row {n}.\n" for n in range(300)))
    project.set({"preprocess": {"bad_input": "skip", "bad_input_limit": 0.05}})
    output = preprocess(project)
    size = (raw / "other.csv").stat().st_size
    metrics = json.loads((project.folder / "results/preprocess/metrics.json").read_text())
    assert metrics["documents"] == 2000 and metrics["sentences"] == 3999
    assert metrics["rejected_characters"] == {"nul_byte": len("Docu\0ment 3 is here.")}
    assert metrics["rejected_bytes"] == {"text_field_missing": size}
    read = metrics["characters_in"]
    assert metrics["rejected_fraction"] == pytest.approx((size + 20) / (size + 20 + read), 1e-5)
    assert "in 2 files: other.csv (whole), early.txt (1 place); see" in output
    balance = metrics["balance"]
    assert balance["characters_read"] == balance["characters_kept"] + 20 == read + 20
    assert balance["characters_dropped"] == {"rejected": 20}

    for path in raw.rglob("*.*"):
        path.unlink()
    (raw / "huge.txt").write_text("A short document.\n\n" + "long " * 1_000_000 + "\n")
    output = preprocess(project, code=1)
    assert "100 % of the text is bad input" in output and "huge.txt (1 place)" in output
    project.set({"preprocess": {"bad_input_limit": 1}})
    output = preprocess(project, code=1)
    assert "is one document (rejected 100 % of the text, in 1 file: huge.txt" in output
