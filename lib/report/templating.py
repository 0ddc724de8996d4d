"""The jinja2 environment of the report's templates and of the model card's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(folder: Path, *, autoescape: bool, **filters: Callable[..., str]) -> Environment:
    """Templates of a folder, with these filters; an unknown name in one of them is an error."""
    # Here, because evaluate needs it only at its end: the import takes 0.04 s.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    created = Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    created.filters |= filters
    return created
