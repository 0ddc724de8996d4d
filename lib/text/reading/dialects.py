"""Dialects of separated values: found out from the first lines of a file, or set in params.yaml."""

import csv
import re
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictBool, StrictStr

DELIMITERS = ",;\t|"
_PERFECT = (2.0, 1.0)
NAMES = {"\t": "tab", " ": "space"}


def _delimiter(value: str) -> str:
    if value != "auto" and (len(value) != 1 or value in "\"'\\\r\n\0"):
        raise ValueError('should be auto or one character, such as ";" or "\\t"')
    return value


def _quote(value: str) -> str:
    if value not in ("auto", "none") and (len(value) != 1 or value in "\\\r\n\0"):
        raise ValueError('should be auto, none or one character, such as "\'"')
    return value


class Dialect(BaseModel):
    """The section `preprocess.csv` of params.yaml: how rows of csv and tsv files are written.

    Attributes:
        delimiter: between fields.
        quote: around fields that contain delimiters or line ends.
        escape: how a quote within such a field is written: doubled (none), or with a backslash.
        header: whether the first row has the names of columns. Without one, they are 1, 2, 3, ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: Annotated[StrictStr, AfterValidator(_delimiter)] = "auto"
    quote: Annotated[StrictStr, AfterValidator(_quote)] = "auto"
    escape: Literal["auto", "none", "backslash"] = "auto"
    header: StrictBool = True

    def __str__(self) -> str:
        delimiter = NAMES.get(self.delimiter, self.delimiter)
        quote = "no quotes" if self.quote == "none" else f"quotes {self.quote}"
        return f"delimiter {delimiter}, {quote}, escape {self.escape}"

    def reader(self, lines: Any, spaced: bool = False) -> Any:
        """A csv.reader for a dialect without `auto`; it raises csv.Error for malformed rows.

        Args:
            spaced: whether there is a space after each delimiter, which is no part of a field.
        """
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=None if self.quote == "none" else self.quote,
            quoting=csv.QUOTE_NONE if self.quote == "none" else csv.QUOTE_MINIMAL,
            escapechar="\\" if self.escape == "backslash" else None,
            skipinitialspace=spaced,
            strict=True,
        )

    def is_spaced(self, lines: Sequence[str]) -> bool:
        """Whether a space follows every delimiter of the first line, as in `id, text, stars`."""
        first = next((line for line in lines if line), "").split(self.delimiter)
        return len(first) > 1 and all(field[:1] == " " for field in first[1:])


def find_dialect(
    lines: Sequence[str], whole: bool, columns: Sequence[str], usual: str, wanted: Dialect
) -> Dialect:
    """The dialect of a file, without `auto`.

    It is the usual one (RFC 4180, with the delimiter of the file's suffix) if the header then has
    the columns and every row as many fields. Otherwise, of all dialects, it is the one with the
    columns and the fewest malformed rows; ties go to the more usual one.

    Args:
        lines: the first lines of the file, without their ends.
        whole: whether these are all its lines.
        columns: that are looked for.
        usual: the delimiter of the file's suffix.
        wanted: what params.yaml says.
    """
    delimiters = usual + DELIMITERS.replace(usual, "")
    choices = product(
        ("none", "backslash") if wanted.escape == "auto" else (wanted.escape,),
        ('"', "'") if wanted.quote == "auto" else (wanted.quote,),
        delimiters if wanted.delimiter == "auto" else (wanted.delimiter,),
    )
    best, best_score = wanted, (-1.0, 0.0)
    text = "\n".join(lines)
    for escape, quote, delimiter in choices:
        if escape == "backslash" and wanted.escape == "auto" and "\\" + quote not in text:
            continue
        if quote == "'" and wanted.quote == "auto" and not _is_quoted(lines, delimiter):
            continue
        dialect = wanted.model_copy(
            update={"escape": escape, "quote": quote, "delimiter": delimiter}
        )
        score = _score(lines, whole, columns, dialect)
        if score == _PERFECT:
            if escape == "none" and wanted.escape == "auto" and f"\\{quote}" in text:
                # Outside quotes as well, nobody writes \" for a backslash and a quote.
                other = dialect.model_copy(update={"escape": "backslash"})
                if _score(lines, whole, columns, other) == _PERFECT:
                    return other
            return dialect
        if score > best_score:
            best, best_score = dialect, score
    return best


def _is_quoted(lines: Sequence[str], delimiter: str) -> bool:
    """Whether a fifth of the lines has a field in single quotes."""
    edge = re.escape(delimiter)
    field = re.compile(f"(?:^|{edge})'[^']*'(?:{edge}|$)")
    return 5 * sum(field.search(line) is not None for line in lines) >= len(lines)


def _score(
    lines: Sequence[str], whole: bool, columns: Sequence[str], dialect: Dialect
) -> tuple[float, float]:
    """How well a dialect fits: 2 with the columns, 1 with several others, 0 with a single one...

    ...and the fraction of rows that are well-formed.
    """
    header: list[str] | None = None
    good = bad = start = 0
    lone = [line + "\n" for line in lines]
    spaced = dialect.is_spaced(lines)
    while start < len(lone):
        rows = dialect.reader(lone[start:] if start else lone, spaced)
        number = 0
        try:
            for row in rows:
                number = rows.line_num
                if not row:
                    continue
                header = header or row
                good += len(row) == len(header)
                bad += len(row) != len(header)
            break
        except csv.Error:
            if rows.line_num + start >= len(lone) and not whole:
                break  # the row that the end of the excerpt cuts
            bad += 1
            start += number + 1  # at the line after the one at which the bad row begins
            if bad > 50:
                break
    if header is None:
        return 0.0, 0.0
    if dialect.header:
        found = all(column in map(str.strip, header) for column in columns)
    else:
        found = all(column.isdigit() and 0 < int(column) <= len(header) for column in columns)
    kind = 2.0 if found and (dialect.header or len(header) > 1) else float(len(header) > 1)
    return kind, good / max(good + bad, 1)
