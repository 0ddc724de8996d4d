"""preprocess, split and records on two local processes and on two Dask workers, in turn."""

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import inputs
from bench.common.processes import Measured, alternate
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from lib.run import fingerprint
from lib.run.errors import UserError

# The most that Dask may add to the three stages together.
BAR = 0.15
_WORKERS = 2
_START_SECONDS = 60
_COLUMNS = {
    "name": "stage",
    "local_seconds": "processes s",
    "dask_seconds": "Dask s",
    "overhead": "overhead",
    "passed": "passed",
}


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Starts a scheduler and two workers in the project; gives the address."""
    file = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = {
        "scheduler": ["--port", "0", "--scheduler-file", file, *options],
        "worker": [
            *("--scheduler-file", file, "--nworkers", _WORKERS, "--nthreads", 1),
            *("--memory-limit", "2GiB", *options),
        ],
    }
    processes = []
    try:
        for what, words in commands.items():
            with (folder / f"{what}.log").open("wb") as log:
                command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *map(str, words)]
                processes.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
            deadline = time.monotonic() + _START_SECONDS
            while not file.exists():
                if time.monotonic() > deadline:
                    raise UserError(f"no Dask scheduler; see {folder}/scheduler.log")
                time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _on(project: Project, scheduler: str | None, stage: Callable[[], Measured]) -> Measured:
    project.set({"cluster": {"workers": _WORKERS, "scheduler": scheduler}})
    return stage()


def compare(
    name: str, project: Project, scheduler: str, stage: Callable[[], Measured], repeats: int
) -> Any:
    """One row of the table."""
    local, dask = alternate(
        partial(_on, project, None, stage), partial(_on, project, scheduler, stage), repeats
    )
    return _row(name, [run.wall_seconds for run in local], [run.wall_seconds for run in dask])


def _row(name: str, local: list[float], dask: list[float]) -> dict[str, Any]:
    middle = statistics.median(local), statistics.median(dask)
    return {
        "name": name,
        "local_seconds": middle[0],
        "dask_seconds": middle[1],
        "overhead": middle[1] / middle[0] - 1,
        "local_runs": local,
        "dask_runs": dask,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.data.dask", description=__doc__)
    parser.add_argument("--wikitext", type=Path, help="train file of WikiText-2")
    parser.add_argument("--tweets", type=Path, help="file with a tweet a line")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--megabytes", type=int, default=100, help="of text, in files of 8")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/dask", help="scratch")
    options = parser.parse_args()
    texts = {"wikitext": options.wikitext, "tweets": options.tweets}
    texts = {name: path for name, path in texts.items() if path}
    try:
        if not texts:
            raise UserError("no text; give --wikitext, --tweets or both")
        for path in (*texts.values(), options.vocab):
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
        for name, path in texts.items():
            text = options.work / f"{name}.txt"
            inputs.documents(name, path, text)
            megabytes = options.megabytes / len(texts)
            files = max(2, round(megabytes / 8))
            inputs.enlarged(text, megabytes, files, project.path("data/raw") / name)
        before = machine(["numpy", "distributed"])
        stages: dict[str, Callable[[], Measured]] = {
            "preprocess": project.preprocess,
            "split": partial(project.stage, "split", "data/corpus", "data/shards"),
            "records": project.records,
        }
        outputs = [project.folder / name for name in ("data/corpus", "data/shards", "data/records")]
        with cluster(project.folder) as scheduler:
            results = [
                compare(name, project, scheduler, stage, options.repeats)
                for name, stage in stages.items()
            ]
            # What Dask made last, and the same once more without it.
            digests = [fingerprint.of_path(path) for path in outputs]
            for stage in stages.values():
                _on(project, None, stage)
            if digests != [fingerprint.of_path(path) for path in outputs]:
                raise UserError("Dask's outputs are not those of the processes")
    except UserError as error:
        sys.exit(f"dask: error: {error}")
    total = _row(
        "together",
        [sum(runs) for runs in zip(*(row["local_runs"] for row in results), strict=True)],
        [sum(runs) for runs in zip(*(row["dask_runs"] for row in results), strict=True)],
    )
    total["passed"] = total["overhead"] <= BAR
    results.append(total)
    shutil.rmtree(options.work)
    print(table(results, _COLUMNS))
    print(f"{before['cores']} cores; load average {before['load_average']:.1f} before")
    if options.out:
        write_json(options.out, {"machine": before, "results": results})
    if not total["passed"]:
        sys.exit("dask: the bar is missed")


if __name__ == "__main__":
    main()
