"""Tables and lists in Markdown."""

from collections.abc import Iterable


def table(heading: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """One line a row; whole numbers get separators."""

    def line(cells: Iterable[object]) -> str:
        written = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
        # A bar within a cell would end it.
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in written) + " |"

    heading = list(heading)
    return "\n".join([line(heading), line(["---"] * len(heading)), *map(line, rows)])


def bullets(items: Iterable[str]) -> str:
    """A list, one line an item."""
    return "\n".join(f"- {item}" for item in items)


def in_words(key: str) -> str:
    """The name of a metric as people read it."""
    return key.replace("_", " ")
