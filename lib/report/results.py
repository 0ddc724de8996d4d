"""Results of the stages as the report shows them: only those that are current."""

import base64
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lib.params import Params
from lib.report.charts.lines import Curve, line_chart, thin_out
from lib.report.markup import element, figure, folded, table, words
from lib.run.errors import UserError
from lib.run.json_files import read_object

_SVG = "{http://www.w3.org/2000/svg}"
_MAX_TABLE_LINES = 40
# Tables that are not shown.
_FOR_PROGRAMS = ("documents.csv",)
# Width and height of a chart next to others.
SMALL = (440, 250)
METRICS = "metrics.json"


@dataclass(frozen=True)
class Results:
    """The folder results/: one folder for each stage.

    Files of a stage that is outdated count as missing.

    Attributes:
        folder: results/.
        params: the current params.yaml.
        outdated: why, by stage: see `lib.report.outdated.outdated_stages`.
    """

    folder: Path
    params: Params
    outdated: Mapping[str, str] = field(default_factory=dict)

    def stage_of(self, path: Path) -> str:
        """The stage that writes a file: `split`, `pretrain@main`."""
        first, *rest = path.relative_to(self.folder).parts
        with_item = "@".join([first, *rest[:1]])
        return with_item if with_item in self.outdated else first

    def why_outdated(self, path: Path) -> str | None:
        """Why the results of a file's stage are outdated; None if they are not.

        A stage that has not finished has no metrics.json: DVC removes it at the start. Curves that
        the stage has written so far are then shown.
        """
        stage = self.stage_of(path)
        metrics = self.folder / stage.replace("@", "/") / METRICS
        return self.outdated.get(stage) if metrics.exists() else None

    def exists(self, path: Path) -> bool:
        """Whether a file is there and current."""
        return path.exists() and not self.why_outdated(path)

    def metrics(self, stage: str) -> dict[str, Any] | None:
        """The metrics of a stage (`split`, `pretrain/main`), if they are current.

        Raises:
            UserError: the file is not JSON.
        """
        path = self.folder / stage / METRICS
        return read_object(path) if self.exists(path) else None

    def absence(self, stage: str) -> Element:
        """A note in place of missing or outdated results of a stage (`pretrain/main`)."""
        name = " of ".join(stage.split("/"))
        why = self.why_outdated(self.folder / stage / METRICS)
        text = f"{name}: {why}; run dvc repro" if why else f"{name} has not run yet; run dvc repro"
        return element("p", text, class_="missing")

    def fill_mask(self) -> list[dict[str, Any]] | None:
        """The fill-mask examples of evaluate, if it has finished and they are current.

        Raises:
            UserError: the file is not JSON.
        """
        path = self.folder / "evaluate/fill_mask.json"
        if not self.exists(path) or not self.exists(path.with_name(METRICS)):
            return None
        try:
            return list(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as failure:
            raise UserError(f"{path}: not valid JSON ({failure}); run evaluate again") from None

    def text(self, name: str) -> str | None:
        """A text file, with its line ends unchanged."""
        path = self.folder / name
        return path.read_bytes().decode("utf-8", "replace") if self.exists(path) else None

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV or TSV file by the names of its columns."""
        lines = io.StringIO(self.text(name) or "", newline="")
        return list(csv.DictReader(lines, delimiter="\t" if name.endswith(".tsv") else ","))

    def curve(self, name: str, x: str, y: str) -> Curve:
        """Points of two columns of a CSV or TSV file, thinned out for a chart."""
        return thin_out(self.points(name, x, y))

    def points(self, name: str, x: str, y: str) -> list[tuple[float, float]]:
        """All points of two columns of a CSV or TSV file; rows without numbers are left out."""
        points = []
        for row in self.rows(name):
            try:
                point = float(row[x]), float(row[y])
            except (KeyError, TypeError, ValueError):
                continue
            if all(map(math.isfinite, point)):
                points.append(point)
        return points

    def drawn(
        self, name: str, x: tuple[str, str], y: str, caption: str, picture: str | None
    ) -> Element | None:
        """A chart of a table: the SVG file that a stage drew, otherwise a new one of two columns.

        Args:
            x: the column of the horizontal axis, and its label.
            picture: path of the SVG file, if a stage draws one.
        """
        if picture and self.exists(self.folder / picture):
            return self.image(self.folder / picture)
        curve = self.curve(name, x[0], y)
        if not curve:
            return None
        distribution = min(value for _, value in curve) >= 0
        return figure(caption, line_chart({words(y): curve}, x[1], filled=distribution, size=SMALL))

    def files(self, folder: str, pattern: str) -> list[Path]:
        """Current files below a folder that match a pattern, sorted by path."""
        return [path for path in sorted((self.folder / folder).rglob(pattern)) if self.exists(path)]

    def image(self, path: Path) -> Element:
        """An SVG file as an image within the page.

        As an image, and not as a part of the page, it can neither run nor load anything, and its
        ids and styles stay separate (SVG Integration, secure static mode).
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
        # Many images show their title themselves.
        shown = title in {(text.text or "").strip() for text in root.iter(f"{_SVG}text")} - {""}
        return figure(None if shown else name, element("img", src=data, alt=name))

    def images(self, folder: str, skip: Iterable[str] = ()) -> list[Element]:
        """SVG images below a folder, by name, except those that match a pattern in `skip`."""
        paths = self.files(folder, "*.svg")
        return [self.image(path) for path in paths if not any(map(path.match, skip))]

    def tables(self, folder: str) -> list[Element]:
        """The CSV files below a folder.

        Those that also have a chart are folded, or left out if they are long.
        """
        shown: list[Element] = []
        with_chart: list[Element] = []
        for path in self.files(folder, "*.csv"):
            if path.name in _FOR_PROGRAMS:
                continue
            rows = self.rows(path.relative_to(self.folder).as_posix())
            is_drawn, is_long = path.with_suffix(".svg").exists(), len(rows) > _MAX_TABLE_LINES
            if not rows or (is_drawn and is_long):
                continue
            cells = [[row[name] or "" for name in rows[0]] for row in rows[:_MAX_TABLE_LINES]]
            more = f" (the first {_MAX_TABLE_LINES} of {len(rows):,} lines)" if is_long else ""
            content = table([words(name) for name in rows[0]], cells)
            (with_chart if is_drawn else shown).append(figure(words(path.stem) + more, content))
        return shown + ([folded("The charts as tables", with_chart)] if with_chart else [])
