"""Reader for labelled text: classified texts (CSV, TSV, JSON lines) or tagged words (CoNLL).

Labelled files are small compared to a corpus, so each is read whole. Anything unreadable stops the
run, because a score on a test set with missing examples cannot be compared with other scores.
"""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.params import ProbeTask
from lib.run.errors import UserError
from lib.text.names import some_of
from lib.text.reading.encodings import advice
from lib.text.reading.fields import SHOWN, short

_TEXTS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}
_COLUMNS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".col", ".tsv", ".txt")
SUFFIXES = {"classification": tuple(_TEXTS), "tagging": _COLUMNS}
# Marks the beginning of a document in CoNLL-2003; not part of the text.
_DOCUMENT_START = "-DOCSTART-"


@dataclass(frozen=True)
class Example:
    """A labelled text or sentence.

    Attributes:
        words: the words of a sentence to be tagged; a text to be classified is a single element.
        labels: one per element of `words`.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]


def read_examples(path: Path, task: ProbeTask) -> list[Example]:
    """The examples of one file, in file order.

    Raises:
        UserError: the file is not in the format that its suffix promises, or a field is missing or
            empty; the message has the file, the line and how to fix it.
    """
    text = _read_text(path)
    if task.kind == "tagging":
        return list(_sentences(path, text, int(task.text_field), int(task.label_field)))
    kind = _TEXTS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: classified texts should be in a file that ends in {', '.join(_TEXTS)}; "
            "rename or convert it"
        )
    records = {"csv": _csv_records, "tsv": _tsv_records, "jsonl": _json_records}[kind](path, text)
    fields = str(task.text_field), str(task.label_field)
    return [_example(location, record, *fields) for location, record in records]


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise UserError(f"{path}: cannot be read ({failure.strerror}); check the path") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        line = content.count(b"\n", 0, failure.start) + 1
        raise UserError(
            f"{path} line {line}: not UTF-8 ({advice(content)}); convert the file from its own "
            "encoding: iconv -f ENCODING -t UTF-8"
        ) from None


def _example(location: str, record: dict[str, Any], text_field: str, label_field: str) -> Example:
    for name in (text_field, label_field):
        if name not in record:
            present = some_of(list(map(short, record)), SHOWN)
            raise UserError(
                f"{location}: no field `{name}`, only: {present}; set the task's text_field and "
                "label_field to existing ones"
            )
    text, label = record[text_field], record[label_field]
    if isinstance(label, bool):
        label = str(label).lower()
    elif isinstance(label, int):
        label = str(label)
    for name, value in ((text_field, text), (label_field, label)):
        if not isinstance(value, str) or not value.strip():
            shown = " ".join(repr(value).split())[:60]
            raise UserError(
                f"{location}: `{name}` should be text, not {shown}; fill it in or remove the "
                "example"
            )
    return Example((text,), (label.strip(),))


def _csv_records(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(location, record) pairs; fields are named by the header and quoted as in RFC 4180."""

    def rows() -> Iterator[tuple[str, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        while True:
            location = f"{path} line {reader.line_num + 1}"
            try:
                if row := next(reader):
                    yield location, row
            except StopIteration:
                return
            except csv.Error as failure:
                raise UserError(
                    f"{location}: not well-formed CSV ({failure}); fix the quotes"
                ) from None

    return _records(rows(), "text with commas needs quotes")


def _tsv_records(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(location, record) pairs, one per line; quotes are text unless they enclose whole fields."""

    def rows() -> Iterator[tuple[str, list[str]]]:
        for location, line in _lines(path, text):
            row = line.split("\t")
            if '"' in line:
                with suppress(csv.Error):
                    quoted = next(csv.reader([line], delimiter="\t", strict=True))
                    row = quoted if len(quoted) == len(row) else row
            yield location, row

    return _records(rows(), "a field cannot contain a tab or line end")


def _records(
    rows: Iterator[tuple[str, list[str]]], hint: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows after the first by its names."""
    _, header = next(rows, ("", []))
    for location, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{location}: {len(row)} fields, but the header has {len(header)}; fix the row "
                f"({hint})"
            )
        yield location, dict(zip(header, row, strict=True))


def _json_records(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(location, record) pairs, one JSON object per line."""
    for location, line in _lines(path, text):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise UserError(f"{location}: not a JSON object; fix the line")
        yield location, record


def _lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """(location, line) pairs of the lines that are not blank, without their line ends."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path} line {number}", line.removesuffix("\r")


def _sentences(path: Path, text: str, word_column: int, tag_column: int) -> Iterator[Example]:
    """Sentences from a file with one word per line and a blank line after each sentence.

    Columns are separated by tabs or spaces:

        EU       NNP  B-ORG
        rejects  VBZ  O

    In .conllu files, comments are skipped, and so are lines for multiword tokens (`3-4`) and empty
    nodes (`3.1`): the words themselves have their own lines.

    Args:
        word_column, tag_column: 1 is the first column, -1 the last.
    """
    is_conllu = path.suffix.lower() == ".conllu"
    width = 0
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        location = f"{path} line {number}"
        if not line.strip():
            if words:
                yield Example(tuple(words), tuple(tags))
            words, tags = [], []
            continue
        line = line.removesuffix("\r")
        if is_conllu and line.startswith("#"):
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        width = width or len(cells)
        if len(cells) != width:
            raise UserError(
                f"{location}: {len(cells)} columns, but the lines before have {width}; fix the line"
            )
        for key, column in (("text_field", word_column), ("label_field", tag_column)):
            if not -width <= column <= width:
                raise UserError(
                    f"{location}: {width} columns, so the task's {key} cannot be {column}; set it "
                    "to an existing column"
                )
        if cells[0] == _DOCUMENT_START or (is_conllu and not cells[0].isdecimal()):
            continue
        word, tag = (
            cells[column - 1 if column > 0 else column].strip()
            for column in (word_column, tag_column)
        )
        if not word or not tag:
            raise UserError(f"{location}: empty {'tag' if word else 'word'}; fill it in")
        words.append(word)
        tags.append(tag)
