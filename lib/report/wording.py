"""How keys and values of results files are written for people."""

from collections.abc import Iterator, Mapping
from typing import Any


def words(key: str) -> str:
    """A key in words: `documents_in` as `documents in`."""
    return key.replace("_", " ")


def number(value: object, name: str = "") -> str:
    """A value as people read it; fractions, recognised by their names, in per cent."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if name.endswith(("fraction", "fill")) or "accuracy" in name:
            return f"{value:.2%}"
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Values of any depth with their names in words: `deep: count`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{words(name)}: ")
        else:
            items = value if isinstance(value, list) else [value]
            yield prefix + words(name), " to ".join(number(item, name) for item in items)
