"""Markdown tables and lists."""

from collections.abc import Iterable


def table(heading: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table; whole numbers get thousands separators."""

    def line(cells: Iterable[object]) -> str:
        written = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
        # An unescaped | would end the cell.
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in written) + " |"

    heading = list(heading)
    return "\n".join([line(heading), line(["---"] * len(heading)), *map(line, rows)])


def bullets(items: Iterable[str]) -> str:
    """A list, one line per item."""
    return "\n".join(f"- {item}" for item in items)


def in_words(key: str) -> str:
    """A key of a results file in words: `html_entities` as `html entities`."""
    return key.replace("_", " ")
