"""What the stages have left in results/: read as it is, None or nothing where there is none."""

import base64
import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lib.params import Params
from lib.report.charts.curves import Curve, chart, thinned
from lib.report.markup import element, figure, folded, table, words
from lib.run.errors import UserError
from lib.run.json_files import read_object

_SVG = "{http://www.w3.org/2000/svg}"
# Of a table in a CSV file that nobody drew.
_SHOWN_ROWS = 40
# Of a chart that has others beside it.
SMALL = (440, 250)


@dataclass(frozen=True)
class Results:
    """The folder with one folder of results a stage, and the params of the project.

    Attributes:
        folder: results/.
        params: as params.yaml has them now.
    """

    folder: Path
    params: Params

    def metrics(self, stage: str) -> dict[str, Any] | None:
        """The metrics of a stage (`split`, `pretrain/main`).

        Raises:
            UserError: the file is not JSON.
        """
        path = self.folder / stage / "metrics.json"
        return read_object(path) if path.exists() else None

    def fill_mask(self) -> list[dict[str, Any]] | None:
        """The fill-mask examples of evaluate.

        Raises:
            UserError: the file is not JSON.
        """
        path = self.folder / "evaluate/fill_mask.json"
        try:
            return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
        except ValueError as failure:
            raise UserError(f"{path}: not valid JSON ({failure}); run evaluate again") from None

    def text(self, name: str) -> str | None:
        """A text file, with its line ends as they are."""
        path = self.folder / name
        return path.read_bytes().decode("utf-8", "replace") if path.exists() else None

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV or TSV file by the names of its columns."""
        lines = io.StringIO(self.text(name) or "", newline="")
        return list(csv.DictReader(lines, delimiter="\t" if name.endswith(".tsv") else ","))

    def curve(self, name: str, x: str, y: str) -> Curve:
        """Points of two columns of a CSV or TSV file; rows that hold no numbers are left out."""
        points = []
        for row in self.rows(name):
            try:
                point = float(row[x]), float(row[y])
            except (KeyError, TypeError, ValueError):
                continue
            if all(map(math.isfinite, point)):
                points.append(point)
        return thinned(points)

    def drawn(
        self, name: str, x: tuple[str, str], y: str, caption: str, picture: str | None
    ) -> Element | None:
        """The picture of a table that a stage has drawn, else a chart of two of its columns.

        Args:
            x: the column from left to right, and what it is.
            picture: where the stage that draws it puts it, if one does.
        """
        if picture and (self.folder / picture).exists():
            return self.image(self.folder / picture)
        curve = self.curve(name, x[0], y)
        if not curve:
            return None
        distribution = min(value for _, value in curve) >= 0
        return figure(caption, chart({words(y): curve}, x[1], filled=distribution, size=SMALL))

    def files(self, folder: str, pattern: str) -> list[Path]:
        """Files of such a name anywhere below a folder, by path."""
        return sorted((self.folder / folder).rglob(pattern))

    def image(self, path: Path) -> Element:
        """An SVG file as an image within the page.

        As an image, and not as a part of the page, it can run nothing and load nothing, and its
        ids and styles stay its own (SVG Integration, secure static mode).
        """
        content = path.read_bytes()
        try:
            root = ElementTree.fromstring(content)
        except ElementTree.ParseError as failure:
            name = path.relative_to(self.folder).as_posix()
            return element("p", f"{name}: not an SVG image ({failure})", class_="missing")
        title = (root.findtext(f"{_SVG}title") or "").strip()
        name = title or words(path.stem.replace("-", " "))
        data = f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
        # Many an image shows its title itself.
        shown = title in {(text.text or "").strip() for text in root.iter(f"{_SVG}text")} - {""}
        return figure(None if shown else name, element("img", src=data, alt=name))

    def images(self, folder: str, skip: Iterable[str] = ()) -> list[Element]:
        """SVG images below a folder, by name, except those that match a pattern in `skip`."""
        paths = self.files(folder, "*.svg")
        return [self.image(path) for path in paths if not any(map(path.match, skip))]

    def tables(self, folder: str) -> list[Element]:
        """The CSV files below a folder; those that were drawn are folded away, or left out if
        they are long."""
        shown: list[Element] = []
        pictured: list[Element] = []
        for path in self.files(folder, "*.csv"):
            rows = self.rows(path.relative_to(self.folder).as_posix())
            is_drawn, is_long = path.with_suffix(".svg").exists(), len(rows) > _SHOWN_ROWS
            if not rows or (is_drawn and is_long):
                continue
            cells = [[row[name] or "" for name in rows[0]] for row in rows[:_SHOWN_ROWS]]
            more = f" (the first {_SHOWN_ROWS} of {len(rows):,} rows)" if is_long else ""
            made = table([words(name) for name in rows[0]], cells)
            (pictured if is_drawn else shown).append(figure(words(path.stem) + more, made))
        return shown + ([folded("The pictures in numbers", pictured)] if pictured else [])
