"""Documents that are JSON objects: one per line, or values that span lines, such as arrays."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from lib.text.documents import Documents
from lib.text.reading.fields import MissingFieldError
from lib.text.reading.reader import Reader

_BATCH_CHARACTERS = 1 << 18
# Characters of a JSON value (or of an element of an array) that are parsed at once.
MAX_VALUE = 16 << 20
_SPACE = re.compile(r"[\s\ufeff\x1e]*")
_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
# Beginnings of JSON, unlike those of prose in brackets or of programs (`{ int x;`).
_OPEN_OBJECT = re.compile(rb'\{\s*(?:"(?:[^"\\]|\\.)*"\s*:|\})')
_ARRAY = re.compile(rb'\[\s*(?:\]|\{\s*["}]|"(?:[^"\\]|\\.)*"\s*[,\]])')
# The first line of an object that goes on in the next line.
_OPEN_LINE = re.compile(rb"(?!.*\},$).*[{\[,:]$")
_EXCERPT = 200
_LONG_LINE = 60_000  # bytes, hardly less than the beginning of a file that is looked at


def read_json_lines(reader: Reader) -> Iterator[Documents]:
    """A document per line: a JSON object with the text in one of its fields."""
    line_of = reader.chunk.line
    # Most often, the text is in a single field of that name.
    plain = reader.fields.names[0] if len(reader.fields.names) == 1 else None
    for first, block in reader.blocks():
        batch: Documents = []
        for number, line in enumerate(block, first):
            if not line or line.isspace():
                continue
            where = partial(line_of, number)
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                problem = f"{where()} ({error.msg}, column {error.colno})"
                reader.rejections.add("malformed_json", problem, line)
                continue
            except (ValueError, RecursionError):
                reader.rejections.add("malformed_json", where, line)
                continue
            if type(record) is dict and plain in record:
                if found := reader.record_lines(record[plain], where):
                    batch.append(found)
            else:
                add_record(reader, record, where, line, batch)
        yield batch


def read_json(reader: Reader) -> Iterator[Documents]:
    """A document per JSON object: objects one after another, or the elements of arrays.

    The text is parsed an element at a time, so an array may be larger than memory. What follows a
    value that is not JSON is rejected: there is no telling where the next one begins.
    """
    batch: Documents = []
    size = 0
    for position, value in _values(reader):
        where = f"value {position}"
        before = len(batch)
        if isinstance(value, str):
            if found := reader.record_lines(value, where):
                batch.append(found)
        else:
            add_record(reader, value, partial(str, where), "", batch)
        size += sum(len(line) for document in batch[before:] for line in document)
        if size > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    yield batch


def add_record(
    reader: Reader, record: Any, where: Callable[[], str], excerpt: str, batch: Documents
) -> None:
    """Adds the documents of a record to a batch, or rejects the record."""
    rejections = reader.rejections
    if not isinstance(record, dict):
        rejections.add("not_an_object", where, excerpt or repr(record))
        return
    try:
        texts, absent = reader.fields.of(record)
    except MissingFieldError:
        rejections.add(
            "text_field_missing",
            lambda: f"{where()} {reader.fields.missing_in(record)}",
            excerpt or repr(record),
        )
        return
    if len(reader.fields.names) > 1:
        reader.counts["records_of_several_fields"] += 1
        for name in absent:
            reader.counts[f"records_without_field_{name}"] += 1
    for text in texts:
        if found := reader.record_lines(text, where):
            batch.append(found)


def _values(reader: Reader) -> Iterator[tuple[int, Any]]:
    """The elements of the arrays and the other values of a file, each with its number from 1."""
    blocks = reader.characters()
    text = ""
    position = number = depth = 0
    ended = False

    def more() -> None:
        """Reads on, at least as much as there is: parsing a long value again costs little."""
        nonlocal text, position, ended
        parts = [text[position:]]
        wanted = max(len(parts[0]), 1)
        while wanted > 0:
            block = next(blocks, None)
            if block is None:
                ended = True
                break
            parts.append(block)
            wanted -= len(block)
        text, position = "".join(parts), 0

    def reject(reason: str) -> None:
        """Rejects what is left of the file."""
        lost = len(text) - position + sum(map(len, blocks))
        excerpt = text[position : position + _EXCERPT]
        reader.rejections.add(reason, f"value {number + 1}", excerpt, lost)

    while True:
        # Spaces, and in an array the commas between its elements.
        position = (_BETWEEN if depth else _SPACE).match(text, position).end()  # type: ignore[union-attr]
        if position == len(text):
            if ended:
                if depth:
                    reject("malformed_json")
                return
            more()
            continue
        if depth and text[position] == "]":
            depth = 0
            position += 1
            continue
        if not depth and text[position] == "[":
            depth = 1
            position += 1
            continue
        try:
            value, end = _DECODER.raw_decode(text, position)
            # A number at the end of the text may go on.
            complete = end < len(text) or ended or text[position] in "{["
        except json.JSONDecodeError as error:
            complete = False
            if len(text) - error.pos > 64 and not error.msg.startswith("Unterminated string"):
                reject("malformed_json")  # and not only cut off
                return
        except RecursionError:
            reject("malformed_json")
            return
        if complete:
            number += 1
            position = end
            yield number, value
        elif ended:
            reject("malformed_json")
            return
        elif len(text) - position > MAX_VALUE:
            reject("json_value_too_long")
            return
        else:
            more()


def is_json_lines(head: bytes) -> bool:
    """Whether the first line of a file is a JSON object, or the beginning of a very long one."""
    if not head.startswith(b"{"):
        return False
    line, line_end, _ = head.partition(b"\n")
    if not line_end and len(head) > _LONG_LINE:
        return _OPEN_OBJECT.match(head) is not None
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def is_json(head: bytes) -> bool:
    """Whether a file begins with a JSON array, or with an object that spans several lines."""
    if head.startswith(b"["):
        return _ARRAY.match(head) is not None
    line, line_end, _ = head.partition(b"\n")
    if not _OPEN_OBJECT.match(head):
        return False
    if b"}{" in line or b"} {" in line:
        text = line.decode("utf-8", "replace")
        with suppress(ValueError, RecursionError):  # objects one after another in a line
            return text[_DECODER.raw_decode(text)[1] :].lstrip().startswith("{")
    if not line_end:
        return False
    return _OPEN_LINE.match(line.rstrip()) is not None
