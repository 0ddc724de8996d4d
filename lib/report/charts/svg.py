"""Charts as SVG files, drawn by matplotlib; the same data give the same bytes on any machine.

Text is kept as text and shown in a font of the reader: the files are small and do not depend on
fonts of this machine (matplotlib measures text with its own).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.run.atomic import new_file

_STYLE: dict[str, Any] = {
    # Otherwise the ids of clip paths and markers are random.
    "svg.hashsalt": "domain-bert",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
}
_WIDTH, _HEIGHT = 6.4, 3.6  # Inches of 72 points.
# Okabe and Ito (2008): can be distinguished with any kind of colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_COUNT_COLOUR = "#555555"

Curve = tuple[Sequence[float], Sequence[float]]


def draw_lines(
    path: Path, title: str, x_label: str, y_label: str, curves: Mapping[str, Curve]
) -> None:
    """A line chart: each curve has a name and points (x, y)."""

    def draw(axes: Axes) -> None:
        for number, (name, (x, y)) in enumerate(curves.items()):
            marker = "o" if len(x) < 30 else ""
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(x, y, label=name, marker=marker, markersize=3, color=colour)
        if len(curves) > 1:
            axes.legend(frameon=False)

    _draw(path, title, x_label, y_label, draw)


def draw_bars(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    names: Sequence[object],
    heights: Sequence[float],
    notes: Sequence[str] = (),
) -> None:
    """A bar chart, with a note above each bar if there are any."""

    def draw(axes: Axes) -> None:
        positions = np.arange(len(names))
        bars = axes.bar(positions, heights, 0.8, color=_COLOURS[0])
        if notes:
            axes.bar_label(bars, notes, padding=2, fontsize=8, color=_COUNT_COLOUR)
        # There is room for about twelve names.
        labelled = positions[:: -(-len(positions) // 12) or 1]
        axes.set_xticks(labelled, [str(names[position]) for position in labelled])
        axes.grid(visible=False, axis="x")

    _draw(path, title, x_label, y_label, draw)


def draw_counts(
    path: Path, title: str, x_label: str, y_label: str, names: Sequence[str], counts: np.ndarray
) -> None:
    """A confusion matrix: `counts` [row, column] with the same names for rows and columns."""

    def draw(axes: Axes) -> None:
        axes.imshow(counts, cmap="Blues", vmin=0)
        axes.grid(visible=False)
        positions = range(len(names))
        axes.set_xticks(positions, names)
        axes.set_yticks(positions, names)
        for row in positions:
            for column in positions:
                dark = counts[row, column] > counts.max() / 2
                text = f"{int(counts[row, column]):,}"
                colour = "white" if dark else "black"
                axes.text(column, row, text, ha="center", va="center", color=colour)

    _draw(path, title, x_label, y_label, draw)


def _draw(path: Path, title: str, x_label: str, y_label: str, draw: Callable[[Axes], None]) -> None:
    # On top of the defaults, not of the settings of this user.
    with style.context(["default", _STYLE]):
        figure = Figure((_WIDTH, _HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        with new_file(path) as temporary:
            # Neither the date nor the version of matplotlib.
            metadata = {"Date": None, "Creator": None, "Title": title}
            figure.savefig(temporary, format="svg", metadata=metadata)
