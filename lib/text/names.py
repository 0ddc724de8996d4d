"""Names of files in messages: each in one line, and of many only the first."""

import os
from collections.abc import Sequence
from pathlib import Path


def shown_name(file: Path | str) -> str:
    """The name of a file in one line: line ends and the like, and what is not UTF-8, escaped."""
    name = os.fsencode(file).decode("utf-8", "backslashreplace")
    return name if name.isprintable() else escaped(name)


def escaped(text: str) -> str:
    """Text in one line: characters that cannot be printed as escapes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def some_of(names: Sequence[str], most: int = 5) -> str:
    """The first names and the number of the others: `a, b, c and 1,234 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
