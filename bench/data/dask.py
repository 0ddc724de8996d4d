"""Overhead of Dask: preprocess, split and records on two Dask workers against two local processes.

Measured alternately; the outputs of both must be equal.
"""

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

from bench.common import cli
from bench.common.processes import Measured, alternate
from bench.common.project import Project, enlarged_project
from bench.common.report import machine, table, write_json
from lib.run import fingerprint
from lib.run.errors import UserError

# Largest accepted overhead over the three stages together.
THRESHOLD = 0.15
_WORKERS = 2
_FILE_MEGABYTES = 8
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
    """A Dask scheduler with two workers in `folder`; yields its address."""
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
        for role, words in commands.items():
            with (folder / f"{role}.log").open("wb") as log:
                command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *map(str, words)]
                processes.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
            deadline = time.monotonic() + _START_SECONDS
            while not file.exists():
                if time.monotonic() > deadline:
                    raise UserError(f"the Dask scheduler did not start; see {folder}/scheduler.log")
                time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _run(project: Project, scheduler: str | None, stage: Callable[[], Measured]) -> Measured:
    project.set({"cluster": {"workers": _WORKERS, "scheduler": scheduler}})
    return stage()


def compare(
    name: str, project: Project, scheduler: str, stage: Callable[[], Measured], repeats: int
) -> Any:
    """Result of one stage."""
    local, dask = alternate(
        partial(_run, project, None, stage), partial(_run, project, scheduler, stage), repeats
    )
    return _result(name, [run.wall_seconds for run in local], [run.wall_seconds for run in dask])


def _result(name: str, local: list[float], dask: list[float]) -> dict[str, Any]:
    local_median, dask_median = statistics.median(local), statistics.median(dask)
    return {
        "name": name,
        "local_seconds": local_median,
        "dask_seconds": dask_median,
        "overhead": dask_median / local_median - 1,
        "local_runs": local,
        "dask_runs": dask,
    }


def main() -> None:
    parser = cli.make_parser("data.dask", __doc__)
    cli.add_inputs(parser, "wikitext", "tweets", "vocab", required=("vocab",))
    parser.add_argument(
        "--megabytes", type=int, default=100, help="size of the text (default 100), in files of 8"
    )
    cli.add_repeats(parser)
    cli.add_outputs(parser, "dask")
    options = parser.parse_args()
    cli.check_files(options, "wikitext", "tweets", "vocab")
    texts = {name: getattr(options, name) for name in ("wikitext", "tweets")}
    texts = {name: path for name, path in texts.items() if path}
    if not texts:
        raise UserError("no text; give --wikitext, --tweets or both")
    project = enlarged_project(
        options.work, options.vocab, texts, options.megabytes, _FILE_MEGABYTES
    )
    conditions = machine(["numpy", "distributed"])
    stages: dict[str, Callable[[], Measured]] = {
        "preprocess": project.preprocess,
        "split": partial(project.stage, "split"),
        "records": project.records,
    }
    outputs = [project.folder / name for name in ("data/corpus", "data/shards", "data/records")]
    with cluster(project.folder) as scheduler:
        results = [
            compare(name, project, scheduler, stage, options.repeats)
            for name, stage in stages.items()
        ]
        # The outputs are Dask's now; make them again without it.
        digests = [fingerprint.of_path(path) for path in outputs]
        for stage in stages.values():
            _run(project, None, stage)
        if digests != [fingerprint.of_path(path) for path in outputs]:
            raise UserError("Dask and local processes wrote different outputs")
    total = _result(
        "together",
        [sum(runs) for runs in zip(*(row["local_runs"] for row in results), strict=True)],
        [sum(runs) for runs in zip(*(row["dask_runs"] for row in results), strict=True)],
    )
    total["passed"] = total["overhead"] <= THRESHOLD
    results.append(total)
    shutil.rmtree(options.work)
    print(table(results, _COLUMNS))
    print(f"{conditions['cores']} cores; load average before: {conditions['load_average']:.1f}")
    if options.out:
        write_json(options.out, {"machine": conditions, "results": results})
    cli.exit_if_failed(results)


if __name__ == "__main__":
    cli.run_main(main)
