"""Results of the stages as the report shows them: only those that are current."""

import base64
import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from lib.params import Params
from lib.report.wording import words
from lib.run.errors import UserError
from lib.run.json_files import read_object

_SVG = "{http://www.w3.org/2000/svg}"
_MAX_TABLE_LINES = 40
# Tables that are not shown.
_FOR_PROGRAMS = ("documents.csv",)
METRICS = "metrics.json"


class Image(NamedTuple):
    """An SVG file as a `data:` URI; `failure`: why it is not one."""

    name: str
    shows_name: bool
    uri: str
    failure: str = ""


class Table(NamedTuple):
    """A CSV file; its first lines, if it is long."""

    name: str
    rows: list[list[str]]
    has_chart: bool


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

    def why_outdated(self, path: Path) -> str | None:
        """Why the results of a file's stage are outdated; None if they are not.

        A stage that has not finished has no metrics.json: DVC removes it at the start. Curves that
        the stage has written so far are then shown.
        """
        stage, *rest = path.relative_to(self.folder).parts
        if rest and f"{stage}@{rest[0]}" in self.outdated:
            stage = f"{stage}@{rest[0]}"
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

    def absence(self, stage: str) -> str:
        """A note in place of missing or outdated results of a stage (`pretrain/main`)."""
        name = " of ".join(stage.split("/"))
        why = self.why_outdated(self.folder / stage / METRICS)
        return f"{name}: {why}; run dvc repro" if why else f"{name} has not run yet; run dvc repro"

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
        """The content of a text file, with its line ends unchanged."""
        path = self.folder / name
        return path.read_bytes().decode("utf-8", "replace") if self.exists(path) else None

    def images(self, folder: str, skip: Iterable[str] = ()) -> list[Image]:
        """The SVG files below a folder, by name, except those that match a pattern in `skip`."""
        paths = self._files(folder, "*.svg")
        return [self._image(path) for path in paths if not any(map(path.match, skip))]

    def tables(self, folder: str) -> list[Table]:
        """The CSV files below a folder. Long ones that also have a chart are left out."""
        found = []
        for path in self._files(folder, "*.csv"):
            if path.name in _FOR_PROGRAMS:
                continue
            text = self.text(path.relative_to(self.folder).as_posix()) or ""
            lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
            heading, *rows = lines or [[]]
            has_chart, is_long = path.with_suffix(".svg").exists(), len(rows) > _MAX_TABLE_LINES
            if rows and not (has_chart and is_long):
                name = words(path.stem)
                if is_long:
                    name += f" (the first {_MAX_TABLE_LINES} of {len(rows):,} lines)"
                shown = [[words(name) for name in heading], *rows[:_MAX_TABLE_LINES]]
                found.append(Table(name, shown, has_chart))
        return found

    def _files(self, folder: str, pattern: str) -> list[Path]:
        return [path for path in sorted((self.folder / folder).rglob(pattern)) if self.exists(path)]

    def _image(self, path: Path) -> Image:
        """An SVG file for an <img>.

        As an image, and not as a part of the page, it can neither run nor load anything, and its
        ids and styles stay separate (SVG Integration, secure static mode).
        """
        content = path.read_bytes()
        try:
            root = ElementTree.fromstring(content)
        except ElementTree.ParseError as failure:
            name = path.relative_to(self.folder).as_posix()
            return Image(name, False, "", f"not an SVG image ({failure})")
        title = (root.findtext(f"{_SVG}title") or "").strip()
        uri = f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
        # Many images show their title themselves.
        shown = {(text.text or "").strip() for text in root.iter(f"{_SVG}text")}
        return Image(title or words(path.stem.replace("-", " ")), title in shown - {""}, uri)
