"""Documents that are rows of a table: one column of a CSV, TSV or Parquet file holds the text."""

import csv
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
from lib.text.reading.reader import Reader

_BATCH_ROWS = 1024
_BATCH_CHARACTERS = 1 << 18
_DIALECT_LINES = 500
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
    whole = reader.chunk.file.compression == "none" and reader.chunk.file.size <= BLOCK_BYTES
    names = reader.fields.names
    wanted = reader.options.csv
    excerpt = head[:_DIALECT_LINES]
    whole = whole and len(excerpt) == len(head)
    dialect = find_dialect(excerpt, whole, names, delimiter, wanted)
    rows = _Rows(reader, dialect, chain(beginning, blocks))
    first = next(rows, None)
    if first is None:
        return
    header = first if wanted.header else [str(number + 1) for number in range(len(first))]
    missing = [name for name in names if name not in header]
    if missing:
        shown = f"{reader.fields.missing(header)} with {dialect}"
        if wanted.header and not _looks_like_header(first):
            shown += "; without a header, set preprocess.csv.header: false and preprocess."
            shown += "text_field to the number of the column"
        reader.reject_file("text_field_missing", shown)
        return
    columns = [header.index(name) for name in names]
    batch: Documents = []
    size = 0
    for row in rows if wanted.header else chain([first], rows):
        text = row[columns[0]] if len(columns) == 1 else [row[column] for column in columns]
        found = reader.record_lines(text, rows.position)
        if found:
            batch.append(found)
            size += sum(map(len, found))
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
        self, reader: Reader, dialect: Dialect, blocks: Iterable[tuple[int, list[str]]]
    ) -> None:
        self._lines = (
            (number, line) for first, block in blocks for number, line in enumerate(block, first)
        )
        self._dialect, self._rejections = dialect, reader.rejections
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
            self._rejections.add("malformed_csv", partial(self._where, number, problem), line)
            self._again.extendleft(reversed(self._row_lines[1:]))

    def position(self) -> str:
        """Name of the first line of the last row, for errors."""
        return self._line_name(self._row_lines[0][0])

    def _where(self, number: int, problem: str) -> str:
        return f"{self._line_name(number)} ({problem}; read with {self._dialect})"

    def _new_reader(self) -> Any:
        return self._dialect.reader(self._feed())

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

    file, fields, rejections = reader.chunk.file, reader.fields, reader.rejections
    with open_raw(file.path, file.compression) as stream, tempfile.TemporaryFile() as spool:
        seekable: Any = stream
        try:
            if file.compression != "none":  # Parquet has its index at the end of the file.
                shutil.copyfileobj(stream, spool, BLOCK_BYTES)
                seekable = spool
            # Without read-ahead Arrow holds one page of the column, not a row group.
            table = parquet.ParquetFile(seekable, pre_buffer=False, buffer_size=BLOCK_BYTES)
            names = table.schema_arrow.names
            columns = fields.columns(names)
            if not columns:
                reader.reject_file("text_field_missing", fields.missing(names))
                return
            number = 0
            for rows in table.iter_batches(_BATCH_ROWS, columns=columns):
                if fields.names != (rows.schema.names[0],):
                    batch: Documents = []
                    for record in rows.to_pylist():
                        number += 1
                        where = f"row {number}"
                        add_record(reader, record, partial(str, where), "", batch)
                    yield batch
                    continue
                column = rows.column(0)
                if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(
                    column.type
                ):
                    # As bytes: Arrow does not check that text is UTF-8, and fails on it later.
                    column = column.view(
                        pyarrow.binary()
                        if pyarrow.types.is_string(column.type)
                        else pyarrow.large_binary()
                    )
                batch = []
                for value in column.to_pylist():
                    number += 1
                    where = f"row {number}"
                    if isinstance(value, bytes):
                        try:
                            value = value.decode()
                        except UnicodeDecodeError:
                            rejections.add("invalid_utf8", where, value)
                            continue
                    if found := reader.record_lines(value, where):
                        batch.append(found)
                yield batch
        except DAMAGED as error:
            reader.reject_file(damage(error) if file.compression != "none" else "corrupt_parquet")
        except (pyarrow.ArrowException, ValueError):
            reader.reject_file("corrupt_parquet")
