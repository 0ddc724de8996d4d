"""Documents that are rows of a table: one column of CSV, TSV or Parquet files holds the text."""

import csv
import re
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from lib.text.documents import Documents
from lib.text.reading.lines import BLOCK_BYTES, MAX_LINE_BYTES
from lib.text.reading.raw_files import DAMAGED, RawFile, damage, open_raw
from lib.text.reading.rejections import Rejections

_ROWS = 1024
# A row of more lines than this has lost its closing quote.
_MAX_ROW_LINES = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n|\r|\n")


def text_lines(
    text: Any, rejections: Rejections, where: str | Callable[[], str], counts: Counter[str]
) -> list[str]:
    """The lines of one record's text that are not blank; none if it is rejected.

    Args:
        counts: `records_without_text` gets those that are null or blank.
    """
    if text is None or text == "":
        counts["records_without_text"] += 1
    elif not isinstance(text, str):
        rejections.add("text_not_a_string", where, repr(text))
    elif len(text) > MAX_LINE_BYTES:
        rejections.add("line_too_long", where, text)
    elif "\0" in text:
        rejections.add("nul_byte", where, text)
    elif not text.isascii() and _SURROGATE.search(text):
        rejections.add("invalid_unicode", where, text)
    else:
        lines = [line for line in _LINE_END.split(text) if line and not line.isspace()]
        counts["records_without_text"] += not lines
        return lines
    return []


def missing_field(text_field: str, names: Iterable[str]) -> str:
    """What is looked for and what is there instead, for the error."""
    shown = [" ".join(name.split())[:40] for name in islice(names, 20)]
    return f"(`{text_field}` is looked for, there are: {', '.join(shown)})"


def separated_records(
    lines: Iterable[tuple[int, list[str]]],
    delimiter: str,
    text_field: str,
    rejections: Rejections,
    name_of_line: Callable[[int], str],
    counts: Counter[str],
) -> Iterator[Documents]:
    """Rows of separated values with a header, quoted as in RFC 4180.

    Python's csv module rather than pandas reads them: it tells of each bad row, where pandas
    stops at a quote without its end and overlooks surplus fields when columns are chosen.
    """
    rows = _Rows(lines, delimiter, rejections, name_of_line)
    header = next(rows, None)
    if header is None:
        return
    if text_field not in header:
        rejections.add("text_field_missing", missing_field(text_field, header))
        return
    column = header.index(text_field)
    batch: Documents = []
    for row in rows:
        found = text_lines(row[column], rejections, rows.place, counts)
        if found:
            batch.append(found)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    yield batch


class _Rows:
    """Well-formed rows with as many fields as the first.

    A row that is not well-formed costs its first line only; parsing goes on with the next, since
    a lost quote would otherwise swallow all rows to the next quote. In TSV such a line is taken
    as it is if it then has the right number of fields.
    """

    def __init__(
        self,
        lines: Iterable[tuple[int, list[str]]],
        delimiter: str,
        rejections: Rejections,
        name_of_line: Callable[[int], str],
    ) -> None:
        self._lines = (
            (number, line) for first, block in lines for number, line in enumerate(block, first)
        )
        self._delimiter, self._rejections, self._name = delimiter, rejections, name_of_line
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
            except csv.Error:
                self._reader = self._new_reader()
            number, line = self._row_lines[0]
            if self._delimiter == "\t" and self._fields:
                # Many write quotes into such files as they are: "Nice" he said.
                literal = line.split("\t")
                if len(literal) == self._fields:
                    self._again.extendleft(reversed(self._row_lines[1:]))
                    del self._row_lines[1:]
                    return literal
            self._rejections.add("malformed_csv", partial(self._name, number), line)
            self._again.extendleft(reversed(self._row_lines[1:]))

    def place(self) -> str:
        """The name of the line at which the last row began."""
        return self._name(self._row_lines[0][0])

    def _new_reader(self) -> Any:
        return csv.reader(self._feed(), delimiter=self._delimiter, strict=True)

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


def read_parquet(
    file: RawFile, text_field: str, rejections: Rejections, counts: Counter[str]
) -> Iterator[Documents]:
    """Rows of a Parquet file, a thousand at a time."""
    import pyarrow
    from pyarrow import parquet

    with open_raw(file.path, file.compression) as stream, tempfile.TemporaryFile() as spool:
        seekable: Any = stream
        try:
            if file.compression != "none":  # A Parquet file is read from its end.
                shutil.copyfileobj(stream, spool, BLOCK_BYTES)
                seekable = spool
            # Without its own reading ahead, Arrow holds a page of the column, not a row group.
            table = parquet.ParquetFile(seekable, pre_buffer=False, buffer_size=BLOCK_BYTES)
            names = table.schema_arrow.names
            if text_field not in names:
                rejections.add("text_field_missing", missing_field(text_field, names))
                return
            number = 0
            for rows in table.iter_batches(_ROWS, columns=[text_field]):
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
                    if found := text_lines(value, rejections, where, counts):
                        batch.append(found)
                yield batch
        except DAMAGED as error:
            rejections.add(damage(error) if file.compression != "none" else "corrupt_parquet")
        except (pyarrow.ArrowException, ValueError):
            rejections.add("corrupt_parquet")
