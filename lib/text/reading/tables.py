"""Documents that are rows of a table: one column of a CSV, TSV or Parquet file holds the text."""

import csv
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

from lib.text.documents import Documents
from lib.text.reading.compression import DAMAGED, damage, open_raw
from lib.text.reading.dialects import Dialect, find_dialect
from lib.text.reading.json_records import add_record
from lib.text.reading.lines import BLOCK_BYTES, MAX_LINE_BYTES
from lib.text.reading.parquet_pages import (
    TooLong,
    Value,
    column_values,
    footer_bytes,
    is_readable,
    read_footer,
)
from lib.text.reading.reader import Reader

_BATCH_ROWS = 1024
_BATCH_CHARACTERS = 1 << 18
# Arrow does not read larger footers: it would take 17 times their size in memory.
_FOOTER_BYTES = 8 << 20
# Bytes of a row group that Arrow holds at once.
_GROUP_BYTES = 32 << 20
# No longer text has at most 4 Mi characters.
_MAX_VALUE_BYTES = 4 * MAX_LINE_BYTES
_DIALECT_LINES = 500
_DELIMITER_HINT = re.compile('"?sep=(.)"?', re.IGNORECASE)
# A row of more lines than this has lost its closing quote.
_MAX_ROW_LINES = 10_000


def read_separated(delimiter: str, reader: Reader) -> Iterator[Documents]:
    """A document per row of separated values; the dialect is found out from the first lines.

    Python's csv module rather than pandas parses them: it reports each bad row, where pandas stops
    at a quote without its end and ignores surplus fields when columns are selected.

    Args:
        delimiter: the usual one of the format.
    """
    blocks = reader.blocks()
    beginning = list(islice(blocks, 1))
    if not beginning:
        return
    head = beginning[0][1]
    wanted = reader.options.csv
    if head and (hint := _DELIMITER_HINT.fullmatch(head[0])):
        # Excel's own first line; the blank line in its place is no row, and keeps line numbers.
        head[0] = ""
        if wanted.delimiter == "auto":
            wanted = wanted.model_copy(update={"delimiter": hint[1]})
    whole = reader.chunk.file.compression == "none" and reader.chunk.file.size <= BLOCK_BYTES
    names = reader.fields.names
    excerpt = head[:_DIALECT_LINES]
    whole = whole and len(excerpt) == len(head)
    dialect = find_dialect(excerpt, whole, names, delimiter, wanted)
    rows = _Rows(reader, dialect, dialect.is_spaced(excerpt), chain(beginning, blocks))
    first = next(rows, None)
    if first is None:
        return
    if wanted.header:
        header = [name.strip() for name in first]
    else:
        header = [str(number + 1) for number in range(len(first))]
    missing = [name for name in names if name not in header]
    if missing:
        shown = f"{reader.fields.missing(header)} with {dialect}"
        if wanted.header and not _looks_like_header(first):
            shown += "; without a header, set preprocess.csv.header: false and preprocess."
            shown += "text_field to the number of the column"
        reader.reject_file("text_field_missing", shown)
        return
    column, *others = [header.index(name) for name in names]
    texts = (
        [row[column], *(row[other] for other in others)] if others else row[column]
        for row in (rows if wanted.header else chain([first], rows))
    )
    yield from _batches(reader.record_lines(text, rows.position) for text in texts)


def _batches(documents: Iterable[list[str]]) -> Iterator[Documents]:
    """Documents in batches of bounded size, without those that have no lines."""
    batch: Documents = []
    size = 0
    for document in documents:
        if document:
            batch.append(document)
            size += sum(map(len, document))
        if len(batch) == _BATCH_ROWS or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    yield batch


def _looks_like_header(row: list[str]) -> bool:
    """Whether a first row may have the names of columns: none is long or a number."""
    return all(len(name) <= 60 and not name.replace(".", "").isdigit() for name in row)


class _Rows:
    """Well-formed rows with as many fields as the first row.

    Of a malformed row only the first line is rejected, and parsing resumes at the next line:
    otherwise a lost quote would swallow all rows up to the next quote. In TSV files such a line is
    accepted as it is if it has the right number of fields without regard to quotes.
    """

    def __init__(
        self,
        reader: Reader,
        dialect: Dialect,
        spaced: bool,
        blocks: Iterable[tuple[int, list[str]]],
    ) -> None:
        self._lines = (
            (number, line) for first, block in blocks for number, line in enumerate(block, first)
        )
        self._dialect, self._spaced = dialect, spaced
        self._rejections = reader.rejections
        self._line_name = reader.chunk.line
        self._again: deque[tuple[int, str]] = deque()
        self._row_lines: list[tuple[int, str]] = []
        self._reader = self._new_reader()
        self._fields = 0

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        while True:
            self._row_lines.clear()
            try:
                row = next(self._reader)
                if not row:
                    continue
                self._fields = self._fields or len(row)
                if len(row) == self._fields:
                    return row
                problem = f"{len(row)} fields, but the first row has {self._fields}"
            except csv.Error as error:
                self._reader = self._new_reader()
                problem = str(error)
            number, line = self._row_lines[0]
            if self._dialect.delimiter == "\t" and self._fields:
                # Many TSV files have quotes that enclose nothing: "Nice" he said.
                literal = line.split("\t")
                if len(literal) == self._fields:
                    self._again.extendleft(reversed(self._row_lines[1:]))
                    del self._row_lines[1:]
                    return literal
            where = f"{self._line_name(number)} ({problem}; read with {self._dialect})"
            self._rejections.add("malformed_csv", where, line)
            self._again.extendleft(reversed(self._row_lines[1:]))

    def position(self) -> str:
        """Name of the first line of the last row, for errors."""
        return self._line_name(self._row_lines[0][0])

    def _new_reader(self) -> Any:
        return self._dialect.reader(self._feed(), self._spaced)

    def _feed(self) -> Iterator[str]:
        size = 0
        while True:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                return
            size = size + len(line[1]) if self._row_lines else len(line[1])
            self._row_lines.append(line)
            if len(self._row_lines) > _MAX_ROW_LINES or size > MAX_LINE_BYTES:
                raise csv.Error("a quote without its end")
            yield line[1] + "\n"


csv.field_size_limit(2 * MAX_LINE_BYTES)


def read_parquet(reader: Reader) -> Iterator[Documents]:
    """A document per row of a Parquet file."""
    import pyarrow  # Slow to import: only where there is such a file.
    from pyarrow import parquet

    file, fields = reader.chunk.file, reader.fields
    number = rows = 0
    with open_raw(file.path, file.compression) as stream, tempfile.TemporaryFile() as spool:
        seekable: Any = stream
        try:
            if file.compression != "none":  # Parquet has its index at the end of the file.
                shutil.copyfileobj(stream, spool, BLOCK_BYTES)
                seekable = spool
            if footer_bytes(seekable) > _FOOTER_BYTES:
                yield from _read_wide(reader, seekable)
                return
            # Without read-ahead Arrow holds one page of the column, not a row group.
            table = parquet.ParquetFile(seekable, pre_buffer=False, buffer_size=BLOCK_BYTES)
            names = table.schema_arrow.names
            columns = fields.columns(names)
            if not columns:
                reader.reject_file("text_field_missing", fields.missing(names))
                return
            rows = table.metadata.num_rows
            leaf = _text_column(table, fields.names)
            for group in range(table.num_row_groups):
                if leaf is not None:
                    column = table.metadata.row_group(group).column(leaf)
                    values = _arrow_values(table, group, column)
                    if values is None and is_readable(column):
                        level = table.schema.column(leaf).max_definition_level
                        values = column_values(seekable, column, level, _MAX_VALUE_BYTES)
                    if values is not None:
                        yield from _batches(_text_documents(reader, values, number))
                        number += column.num_values
                        continue
                batch_rows = _rows_at_once(table.metadata.row_group(group), columns)
                for some in table.iter_batches(batch_rows, row_groups=[group], columns=columns):
                    batch: Documents = []
                    for record in some.to_pylist():
                        number += 1
                        add_record(reader, record, partial(str, f"row {number}"), "", batch)
                    yield batch
        except DAMAGED as error:
            reason = damage(error) if file.compression != "none" else "corrupt_parquet"
            reader.reject_file(reason, read=number / rows if rows else 0)
        except (pyarrow.ArrowException, ValueError, LookupError, TypeError):
            reader.reject_file("corrupt_parquet", read=number / rows if rows else 0)


def _read_wide(reader: Reader, stream: Any) -> Iterator[Documents]:
    """The documents of a file with very many columns or row groups, one of which has the text."""
    name = reader.fields.names[0]
    footer = read_footer(stream, name)
    if (
        len(reader.fields.names) > 1
        or not footer.chunks
        or not all(map(is_readable, footer.chunks))
    ):
        reader.reject_file("wide_parquet", reader.fields.missing(footer.names))
        return
    number = 0
    for chunk in footer.chunks:
        values = column_values(stream, chunk, footer.max_definition, _MAX_VALUE_BYTES)
        yield from _batches(_text_documents(reader, values, number))
        number += chunk.num_values


def _text_column(table: Any, names: tuple[str, ...]) -> int | None:
    """The number of the column of a single text field that is in no list; None for other fields."""
    if len(names) != 1:
        return None
    for number in range(len(table.schema.names)):
        column = table.schema.column(number)
        if column.path == names[0]:
            kind = column.logical_type.type
            is_text = column.physical_type == "BYTE_ARRAY" and kind in ("STRING", "NONE", "JSON")
            return number if is_text and column.max_repetition_level == 0 else None
    return None


def _arrow_values(table: Any, group: int, column: Any) -> Iterator[Value] | None:
    """The values of a text column in a row group; None if Arrow should not or cannot read them.

    They are read as bytes: Arrow does not check that text is UTF-8, and fails on it later.

    Args:
        column: pyarrow's metadata of the column in this row group.
    """
    import pyarrow

    name = column.path_in_schema
    index = table.schema_arrow.get_field_index(name)  # -1: in an object
    if index < 0 or column.total_uncompressed_size > _GROUP_BYTES:
        return None
    kind = table.schema_arrow.field(index).type
    bytes_of = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}
    if kind not in bytes_of:
        return None
    rows = _rows_at_once(table.metadata.row_group(group), [name])
    batches = table.iter_batches(rows, row_groups=[group], columns=[name])
    return chain.from_iterable(some.column(0).view(bytes_of[kind]).to_pylist() for some in batches)


def _text_documents(reader: Reader, values: Iterator[Value], before: int) -> Iterator[list[str]]:
    """The lines of each value of a column, `before` rows of which have been read."""
    for number, value in enumerate(values, before + 1):
        where = f"row {number}"
        text: str | None = None
        if isinstance(value, TooLong):
            beginning = value.beginning.decode("utf-8", "replace")
            reader.reject_record("line_too_long", where, beginning, value.size)
            continue
        if value is not None:
            try:
                text = value.decode()
            except UnicodeDecodeError:
                reader.rejections.add("invalid_utf8", where, value)
                continue
        yield reader.record_lines(text, where)


def _rows_at_once(group: Any, columns: list[str]) -> int:
    """Rows of a row group that Arrow may hold at once.

    With a dictionary every row may have the largest value, which is at most the size of the column.
    """
    size, has_dictionary = 1, False
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema.partition(".")[0] in columns or column.path_in_schema in columns:
            size += column.total_uncompressed_size
            has_dictionary |= column.has_dictionary_page
    rows = _GROUP_BYTES // 2 if has_dictionary else _GROUP_BYTES * group.num_rows
    return max(1, min(_BATCH_ROWS, rows // size))
