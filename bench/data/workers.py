"""preprocess and records with one worker and with two, in turn: how much faster two are."""

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import inputs
from bench.common.processes import Measured, alternate
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from lib.run.errors import UserError

BAR = 1.7
_COLUMNS = {
    "name": "stage",
    "one_seconds": "one worker s",
    "two_seconds": "two s",
    "ratio": "ratio",
    "passed": "passed",
}


def _with_workers(project: Project, workers: int, stage: Callable[[], Measured]) -> Measured:
    project.set({"cluster": {"workers": workers}})
    return stage()


def compare(name: str, project: Project, stage: Callable[[], Measured], repeats: int) -> Any:
    """One row of the table."""
    runs = alternate(
        partial(_with_workers, project, 1, stage),
        partial(_with_workers, project, 2, stage),
        repeats,
    )
    one, two = (statistics.median(run.wall_seconds for run in side) for side in runs)
    return {
        "name": name,
        "one_seconds": one,
        "two_seconds": two,
        "ratio": one / two,
        "passed": one / two >= BAR,
        "one_runs": [run.wall_seconds for run in runs[0]],
        "two_runs": [run.wall_seconds for run in runs[1]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.data.workers", description=__doc__)
    parser.add_argument("--wikitext", type=Path, required=True, help="train file of WikiText-2")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--megabytes", type=int, default=256, help="of text, in files of 16")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/workers", help="scratch")
    options = parser.parse_args()
    try:
        for path in (options.wikitext, options.vocab):
            if not path.is_file():
                raise UserError(f"no file {path}; give a path that is there")
        project = Project(
            options.work / "project",
            {
                "preprocess": {"input": "data/raw", "document": "blank_line"},
                "phases": {"main": {"max_seq_length": 128}},
            },
        )
        project.use_vocabulary(options.vocab)
        text = options.work / "text.txt"
        inputs.documents("wikitext", options.wikitext, text)
        files = max(2, options.megabytes // 16)
        inputs.enlarged(text, options.megabytes, files, project.path("data/raw"))
        before = machine(["numpy"])
        results = [compare("preprocess", project, project.preprocess, options.repeats)]
        project.stage("split", "data/corpus", "data/shards")
        results.append(compare("records", project, project.records, options.repeats))
    except UserError as error:
        sys.exit(f"workers: error: {error}")
    shutil.rmtree(options.work)
    print(table(results, _COLUMNS))
    print(
        f"{before['cores']} cores; load average {before['load_average']:.1f} before: "
        "on a busy machine two workers cannot be twice as fast"
    )
    if options.out:
        write_json(options.out, {"machine": before, "results": results})
    if not all(result["passed"] for result in results):
        sys.exit("workers: a bar is missed")


if __name__ == "__main__":
    main()
