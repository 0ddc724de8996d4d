"""Cost of preprocess on raw text of unusual shapes: ratios of time to the usual shape, peak memory.

Small files are compared with one file of the same text, and text without blank lines with the same
text with them; both sides run alternately. Tables with long cells, and with many columns, are only
measured for their memory. The text is made of random words.
"""

import csv
import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow
from pyarrow import parquet

from bench.common import cli
from bench.common.processes import Measured, alternate, median
from bench.common.project import Project
from bench.common.report import Row

SHAPES = ("files", "lines", "cells", "columns")
MAX_MIB = 400.0
_MEGABYTE = 1_000_000
_CELL_CHARACTERS = 510_000
_FOLDER_FILES = 1000


def sentences(seed: int) -> Iterator[str]:
    """Endless sentences of 12 random words; no two are the same."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=3 + n % 7)) for n in range(5000)]
    number = 0
    while True:
        number += 1
        yield f"{' '.join(draw.choices(words, k=12)).capitalize()} {number}."


def documents(characters: int, each: int) -> Iterator[str]:
    """Documents of about `each` characters, one sentence per line, `characters` in all."""
    found = sentences(1)
    for _ in range(characters // each):
        lines, size = [], 0
        while size < each:
            lines.append(next(found))
            size += len(lines[-1]) + 1
        yield "\n".join(lines) + "\n"


def write_small_files(folder: Path, count: int) -> None:
    """Writes files of one kilobyte each, a thousand per folder."""
    for number, text in enumerate(documents(count * 1000, 1000)):
        path = folder / f"{number // _FOLDER_FILES:04d}" / f"{number:06d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_one_file(folder: Path, characters: int, separator: str = "\n") -> None:
    """Writes documents of one kilobyte to one file."""
    folder.mkdir(parents=True)
    with (folder / "text.txt").open("w", encoding="utf-8") as stream:
        for text in documents(characters, 1000):
            stream.write(text + separator)
    # Without blank lines, all of the text above is one document; a corpus needs some.
    with (folder / "more.txt").open("w", encoding="utf-8") as stream:
        for number in range(20_000):
            stream.write(f"Short document {number}.\n\n")


def cells(megabytes: int) -> Iterator[str]:
    """Long texts, as in tables of books."""
    return documents(megabytes * _MEGABYTE, _CELL_CHARACTERS)


def write_separated(path: Path, delimiter: str, megabytes: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(cells(megabytes)))


def write_json_lines(path: Path, megabytes: int) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for text in cells(megabytes):
            stream.write(json.dumps({"text": text}) + "\n")


def write_parquet(path: Path, megabytes: int) -> None:
    parquet.write_table(pyarrow.table({"text": list(cells(megabytes))}), path)


def write_nested_parquet(path: Path, megabytes: int) -> None:
    rows = pyarrow.StructArray.from_arrays([pyarrow.array(list(cells(megabytes)))], ["text"])
    parquet.write_table(pyarrow.table({"doc": rows}), path)


def write_repeated_parquet(path: Path, megabytes: int) -> None:
    """Writes a file of some kilobytes in which one long text is repeated."""
    text = next(cells(1))
    count = megabytes * _MEGABYTE // len(text)
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, "int32"), [text])
    parquet.write_table(pyarrow.table({"text": texts}), path, store_schema=False)


def write_wide_parquet(path: Path, columns: int) -> None:
    """Writes a table of many columns, one of which has text."""
    names = ["text", *(f"column {number}" for number in range(1, columns))]
    number = pyarrow.array([1] * 3)
    arrays = [pyarrow.array(list(documents(3000, 1000))), *[number] * (columns - 1)]
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), path)


class Bench:
    """Runs preprocess on texts of many shapes."""

    def __init__(self, work: Path, repeats: int) -> None:
        shutil.rmtree(work, ignore_errors=True)
        self._project = Project(work / "project", {})
        self._repeats = repeats

    def _text(self, name: str, write: Callable[[Path], object]) -> Path:
        folder = self._project.path(f"texts/{name}")
        cli.progress(name)
        shutil.rmtree(folder, ignore_errors=True)
        write(folder)
        return folder

    def _preprocess(self, raw: Path, **settings: object) -> Measured:
        self._project.set({"preprocess": {"input": str(raw), **settings}})
        return self._project.preprocess()

    def ratio(
        self,
        name: str,
        write: Callable[[Path], object],
        write_usual: Callable[[Path], object],
        threshold: float,
    ) -> Row:
        """Time of a shape against that of the usual one."""
        folders = self._text("shape", write), self._text("usual", write_usual)
        shape, usual = (partial(self._preprocess, folder) for folder in folders)
        runs, usual_runs = alternate(shape, usual, self._repeats)
        for folder in folders:
            shutil.rmtree(folder)
        own, other = median(runs), median(usual_runs)
        ratio = own.wall_seconds / other.wall_seconds
        peak = max(run.peak_mib for run in runs)
        return {
            "name": name,
            "seconds": own.wall_seconds,
            "usual_seconds": other.wall_seconds,
            "ratio": ratio,
            "cpu_ratio": own.cpu_seconds / other.cpu_seconds,
            "threshold": threshold,
            "peak_mib": peak,
            "passed": ratio <= threshold and peak <= MAX_MIB,
        }

    def memory(
        self, name: str, file: str, write: Callable[[Path], object], **settings: object
    ) -> Row:
        """Peak memory on one file."""

        def write_file(folder: Path) -> None:
            folder.mkdir()
            write(folder / file)
            with (folder / "more.txt").open("w", encoding="utf-8") as stream:
                stream.writelines(f"Short document {number}.\n\n" for number in range(100))

        raw = self._text(name, write_file)
        run = self._preprocess(raw, **settings)
        shutil.rmtree(raw)
        peak = run.peak_mib
        seconds = run.wall_seconds
        return {"name": name, "seconds": seconds, "peak_mib": peak, "passed": peak <= MAX_MIB}


def main() -> None:
    parser = cli.make_parser("data.shapes", __doc__)
    cli.add(parser, "--files", 100_000, "small files")
    cli.add(parser, "--megabytes", 1000, "text without blank lines")
    cli.add(parser, "--cells", 300, "MB of long cells")
    cli.add(parser, "--columns", 1_000_000, "columns of a table")
    cli.add(parser, "--only", [*SHAPES], "shapes to measure", SHAPES)
    cli.add_repeats(parser)
    options = cli.parse(parser)
    bench = Bench(options.work, options.repeats)
    results = []
    if "files" in options.only:
        small = partial(write_small_files, count=options.files)
        one = partial(write_one_file, characters=options.files * 1000)
        results.append(bench.ratio(f"{options.files:,} files of 1 KB", small, one, 3.0))
    if "lines" in options.only:
        size = options.megabytes * _MEGABYTE
        without = partial(write_one_file, characters=size, separator="")
        usual = partial(write_one_file, characters=size)
        results.append(bench.ratio("no blank lines", without, usual, 1.5))
    if "cells" in options.only:
        size = options.cells
        csv_file = partial(write_separated, delimiter=",", megabytes=size)
        tsv_file = partial(write_separated, delimiter="\t", megabytes=size)
        nested = partial(write_nested_parquet, megabytes=size)
        repeated = partial(write_repeated_parquet, megabytes=8 * size)
        results += [
            bench.memory("csv", "x.csv", csv_file),
            bench.memory("tsv", "x.tsv", tsv_file),
            bench.memory("jsonl", "x.jsonl", partial(write_json_lines, megabytes=size)),
            bench.memory("parquet", "x.parquet", partial(write_parquet, megabytes=size)),
            bench.memory("parquet, nested", "x.parquet", nested, text_field="doc.text"),
            bench.memory("parquet, repeated", "x.parquet", repeated, text_field="text"),
        ]
    if "columns" in options.only:
        wide = partial(write_wide_parquet, columns=options.columns)
        name = f"parquet, {options.columns:,} columns"
        results.append(bench.memory(name, "x.parquet", wide, text_field="text"))
    shutil.rmtree(options.work)
    cli.finish(options, results=results)


if __name__ == "__main__":
    cli.run_main(main)
