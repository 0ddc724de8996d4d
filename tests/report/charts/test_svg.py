"""Charts that stages write as SVG files."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from lib.report.charts.svg import draw_bars, draw_counts, draw_lines


def test_charts_are_well_formed_and_reproducible(tmp_path):
    def draw(folder: Path) -> None:
        folder.mkdir()
        draw_lines(
            folder / "a.svg", "Loss & <more>", "x", "y", {"a": ([1, 2], [3, 4]), "b": ([1], [2])}
        )
        draw_bars(folder / "b.svg", "Bars", "x", "y", ["1-9", "10-99"], [2.0, 3.0], ["5", "6"])
        draw_counts(
            folder / "c.svg", "Pairs", "x", "y", ("one", "two"), np.array([[1, 2], [3, 40]])
        )

    draw(tmp_path / "one")
    draw(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        text = "".join(root.itertext())
        assert not re.search(r"20\d\d-\d\d|Matplotlib v", text)
    assert "Loss & <more>" in "".join(
        ElementTree.parse(tmp_path / "one/a.svg").getroot().itertext()
    )
