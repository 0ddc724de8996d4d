"""Labelled text: texts with a class each (CSV, TSV, JSON lines), or words with a tag each (CoNLL).

Labelled files are small beside a corpus, so each is read whole. What cannot be read stops the
run: a row that is left out would make a score that nobody can compare.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.params import ProbeTask
from lib.run.errors import UserError

_TEXTS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}
_COLUMNS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".col", ".tsv", ".txt")
SUFFIXES = {"classification": tuple(_TEXTS), "tagging": _COLUMNS}
# Begins a document in the files of CoNLL-2003; no sentence of the text.
_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Example:
    """What gets one answer or several.

    Attributes:
        words: of a sentence to be tagged; of a text to be classified one, the whole text.
        labels: one for each of `words`.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]


def read_examples(path: Path, task: ProbeTask) -> list[Example]:
    """The examples of one file, in its order.

    Raises:
        UserError: the file cannot be read as its name says, or a field is missing or empty; file,
            line and mend are named.
    """
    text = _decoded(path)
    if task.kind == "tagging":
        return list(_sentences(path, text, int(task.text_field), int(task.label_field)))
    kind = _TEXTS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: texts with a class each should be in a file that ends in "
            f"{', '.join(_TEXTS)}; rename or convert it"
        )
    records = {"csv": _csv_rows, "tsv": _tsv_rows, "jsonl": _objects}[kind](path, text)
    names = str(task.text_field), str(task.label_field)
    return [_example(place, record, *names) for place, record in records]


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise UserError(
            f"{path}: cannot be read ({failure.strerror}); is the path right?"
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        line = content.count(b"\n", 0, failure.start) + 1
        raise UserError(
            f"{path} line {line}: not UTF-8; convert it from its own encoding: "
            "iconv -f LATIN1 -t UTF-8"
        ) from None
    return text


def _example(place: str, record: dict[str, Any], text_name: str, label_name: str) -> Example:
    for name in (text_name, label_name):
        if name not in record:
            there = ", ".join(" ".join(str(key).split())[:40] for key in list(record)[:20])
            raise UserError(
                f"{place}: no field `{name}`, there are: {there}; name the right ones in "
                "text_field and label_field of the task"
            )
    text, label = record[text_name], record[label_name]
    if isinstance(label, bool):
        label = str(label).lower()
    elif isinstance(label, int):
        label = str(label)
    for name, value in ((text_name, text), (label_name, label)):
        if not isinstance(value, str) or not value.strip():
            shown = " ".join(repr(value).split())[:60]
            raise UserError(
                f"{place}: `{name}` should hold text; it holds {shown}: fill it in or take the "
                "row out"
            )
    return Example((text,), (label.strip(),))


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows by the names of the header, quoted as in RFC 4180."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        place = f"{path} line {reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as failure:
            raise UserError(f"{place}: not well-formed CSV ({failure}); mend its quotes") from None
        if not row:
            continue
        if header is None:
            header = row
        else:
            yield place, _by_name(place, header, row, "text with commas needs quotes")


def _tsv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row is a line; quotes count where they enclose whole fields, else they are text."""
    header: list[str] | None = None
    for place, line in _lines(path, text):
        row = line.split("\t")
        if '"' in line:
            try:
                quoted = next(csv.reader([line], delimiter="\t", strict=True))
            except csv.Error:
                quoted = row
            row = quoted if len(quoted) == len(row) else row
        if header is None:
            header = row
        else:
            yield place, _by_name(place, header, row, "a field cannot hold a tab or line end")


def _by_name(place: str, header: list[str], row: list[str], hint: str) -> dict[str, Any]:
    if len(row) != len(header):
        raise UserError(
            f"{place}: {len(row)} fields, but the header has {len(header)}; mend the row ({hint})"
        )
    return dict(zip(header, row, strict=True))


def _objects(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """An object a line."""
    for place, line in _lines(path, text):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise UserError(f"{place}: not a JSON object; each line should hold one: mend it")
        yield place, record


def _lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, without their ends, each with its place."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path} line {number}", line.removesuffix("\r")


def _sentences(path: Path, text: str, word_column: int, tag_column: int) -> Iterator[Example]:
    """A word a line in columns with tabs or spaces between them, a blank line after a sentence.

    In files called .conllu comments are passed by, and so are lines for several words at once
    (`3-4`) and for none (`3.1`): the words have lines of their own.

    Args:
        word_column, tag_column: from 1; negative ones from the last, which is -1.
    """
    universal = path.suffix.lower() == ".conllu"
    width = 0
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        place = f"{path} line {number}"
        if not line.strip():
            if words:
                yield Example(tuple(words), tuple(tags))
            words, tags = [], []
            continue
        line = line.removesuffix("\r")
        if universal and line.startswith("#"):
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        width = width or len(cells)
        if len(cells) != width:
            raise UserError(
                f"{place}: {len(cells)} columns, but the lines before have {width}; mend the line"
            )
        for key, column in (("text_field", word_column), ("label_field", tag_column)):
            if not -width <= column <= width:
                raise UserError(
                    f"{place}: there are {width} columns; the task's {key} is {column}: name one "
                    "that is there"
                )
        if cells[0] == _DOCUMENT or (universal and not cells[0].isdecimal()):
            continue
        word, tag = (
            cells[column - 1 if column > 0 else column].strip()
            for column in (word_column, tag_column)
        )
        if not word or not tag:
            raise UserError(f"{place}: an empty {'tag' if word else 'word'}; fill it in")
        words.append(word)
        tags.append(tag)
