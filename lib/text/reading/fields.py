"""The text of a record: preprocess.text_field, a name, a path into nested objects, or several.

    text                 the field `text`
    article.text         the field `text` of the object in `article`; a list on the way is followed
                         into each of its elements, and the texts found are joined
    data[].text          each element of the list (or value of the object) `data` is a document of
                         its own; `data[]` if they are strings, `[].text` in the record itself
    [title, body]        several fields, joined by line ends in this order

A field may hold a string, or a list of strings (joined by line ends). A field whose name contains
a dot is found by its name.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from lib.text.names import some_of

_EACH = "[]"
SHOWN = 20
_NAME_CHARACTERS = 40
_DEPTH = 6
_NESTED = 6

# What software writes for a missing value; no document consists of it. From the defaults of pandas.
MISSING_VALUES = frozenset(
    ("nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "null", "NULL")
) | {"None", "\\N"}


class MissingFieldError(Exception):
    """A record has none of the fields."""


@dataclass(frozen=True)
class TextFields:
    """Where the text of a record is.

    Attributes:
        names: of the fields, as in preprocess.text_field.
    """

    names: tuple[str, ...] = ("text",)

    def __str__(self) -> str:
        return ", ".join(self.names)

    @cached_property
    def base(self) -> tuple[str, ...]:
        """The lists whose elements are documents: ("data",) of `data[].text`."""
        return lists_in(self.names[0])

    @cached_property
    def relative(self) -> tuple[str, ...]:
        """The names within such an element: ("text",) of `data[].text`."""
        return tuple(name.split(_EACH)[-1].removeprefix(".") for name in self.names)

    def of(self, record: dict[str, Any]) -> tuple[list[Any], list[str]]:
        """The text of each document of a record, and the fields that a record as a document lacks.

        A text is a string, None, or something nested.

        Raises:
            MissingFieldError: no such field.
        """
        if len(self.names) == 1 and self.names[0] in record:
            return [record[self.names[0]]], []
        elements = [record]
        for name in self.base:
            elements = [each for element in elements for each in _elements(element, name)]
        texts = []
        values: list[Any] = []
        for element in elements:
            values = [_at(element, name) for name in self.relative]
            found = [value for value in values if value is not _NONE]
            if not found:
                raise MissingFieldError
            texts.append(found if len(found) > 1 else found[0])
        pairs = zip(self.names, values, strict=True)
        return texts, [] if self.base else [name for name, value in pairs if value is _NONE]

    def columns(self, names: Iterable[str]) -> list[str]:
        """The columns of a table that the fields are in."""
        paths = self.base[:1] or self.relative
        return [name for name in names if any(_begins(path, name) for path in paths)]

    def missing(self, names: Iterable[str]) -> str:
        """Names the fields that were looked for and the existing ones, for an error."""
        names = list(names)
        shown = some_of(list(map(short, names)), SHOWN)
        same = [name for name in names if name.strip().lower() == self.names[-1].lower()]
        hint = f"; set preprocess.text_field: {short(same[0])}" if same else ""
        return f"(looked for `{self}` among: {shown}{hint})"

    def missing_in(self, record: dict[str, Any]) -> str:
        """The same for a record that may be nested: names the paths to similar fields."""
        if "_data_files" in record:
            return (
                "(a folder that Hugging Face's datasets saved; write the data set with "
                "Dataset.to_json or to_parquet)"
            )
        wanted = self.relative[-1].rpartition(".")[2].lower()
        paths = [path for path in _paths(record) if path.rpartition(".")[2].lower() == wanted]
        message = self.missing(record)
        if "set preprocess.text_field" in message:
            return message
        if not paths:
            nested = [path for path in _paths(record) if "." in path]
            more = f"; there is text in {', '.join(nested[:_NESTED])}" if nested else ""
            return f"{message[:-1]}{more})"
        hint = " or ".join(paths[:4])
        if any("[]" in path for path in paths):
            hint += "; without [], the elements of the list are joined into one document"
        return f"{message[:-1]}; set preprocess.text_field: {hint})"


def _begins(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def lists_in(name: str) -> tuple[str, ...]:
    """The paths before each `[]` of a name: ("a", "b.c") of `a[].b.c[].d`."""
    return tuple(part.removeprefix(".") for part in name.split(_EACH)[:-1])


def text_of(value: Any) -> str | None:
    """A string, or a list of strings (nested ones as well) joined by line ends.

    Raises:
        TypeError: something else is there; its message says what.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, list):
        texts = [text_of(each) for each in value]
        return "\n".join(text for text in texts if text is not None)
    raise TypeError(_described(value))


def _described(value: Any) -> str:
    if isinstance(value, bool):
        return f"found {str(value).lower()}, which is not a string"
    if isinstance(value, int | float):
        return f"found the number {value}, which is not a string"
    if isinstance(value, dict):
        if not value:
            return "found an empty object"
        names = some_of(list(map(short, value)), SHOWN)
        texts = [path for path in _paths(value) if "[]" not in path]
        hint = f"; add .{texts[0]} to preprocess.text_field" if texts else ""
        return f"found an object with the fields {names}{hint}"
    return f"found a value of type {type(value).__name__}, which is not a string"


def short(name: str) -> str:
    """A field's name as shown in errors."""
    return " ".join(str(name).split())[:_NAME_CHARACTERS]


class _None:
    """No such field (None is a value)."""


_NONE = _None()


def _at(value: Any, path: str) -> Any:
    """The value at a path, a list of values where there is a list on the way, or _NONE."""
    if not path:
        return value
    if isinstance(value, list):
        found = [each for element in value if (each := _at(element, path)) is not _NONE]
        return found if found or not value else _NONE
    if not isinstance(value, dict):
        return _NONE
    if path in value:
        return value[path]
    first, dot, rest = path.partition(".")
    return _at(value[first], rest) if dot and first in value else _NONE


def _elements(record: Any, name: str) -> list[Any]:
    found = _at(record, name)
    if found is _NONE:
        raise MissingFieldError
    if isinstance(found, dict):
        return list(found.values())
    return found if isinstance(found, list) else [found]


def _paths(value: Any, depth: int = 0) -> Iterator[str]:
    """Paths to strings and lists of strings, in the first element of every list of objects."""
    if depth > _DEPTH or not isinstance(value, dict):
        return
    for name, inner in islice(value.items(), 200):
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            yield from (f"{short(name)}[].{path}" for path in _paths(inner[0], depth + 1))
        elif isinstance(inner, dict):
            yield from (f"{short(name)}.{path}" for path in _paths(inner, depth + 1))
        elif isinstance(inner, str) or (
            isinstance(inner, list) and inner and isinstance(inner[0], str)
        ):
            yield short(name)
