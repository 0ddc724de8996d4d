"""Speed of the data stages with two workers over one, or with two Dask workers over two processes.

Measured alternately. A ratio is the time of one worker (or of local processes) over that of two (or
of Dask); on a busy machine two workers cannot be twice as fast. Outputs with Dask must be equal to
those without.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.common import cli, inputs
from bench.common.processes import Measured, alternate
from bench.common.project import Project
from bench.common.report import compare, read_json
from lib.run import fingerprint
from lib.run.errors import UserError

# Stage, with its phase if it takes one -> what it writes.
STAGES = {"preprocess": "data/corpus", "split": "data/shards", "records main": "data/records"}
# Smallest accepted ratio of a stage with two workers, and of all stages together with Dask.
THRESHOLDS, DASK_THRESHOLD = {"preprocess": 1.7, "records main": 1.7}, 1 / 1.15
_START_SECONDS = 60


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A Dask scheduler with two workers in `folder`; yields its address."""
    file = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = {
        "scheduler": ["--port", "0", "--scheduler-file", file, *options],
        "worker": [
            *("--scheduler-file", file, "--nworkers", 2, "--nthreads", 1),
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
        yield read_json(file)["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def make_project(work: Path, vocabulary: Path, texts: dict[str, Path], megabytes: int) -> Project:
    """A project with repeated texts in data/raw, in files of 8 MB, for examples of 128 tokens.

    Each text gets an equal part of `megabytes`.
    """
    project = Project(work / "project", {"phases": {"main": {"max_seq_length": 128}}})
    project.use_vocabulary(vocabulary)
    for name, path in texts.items():
        text = work / f"{name}.txt"
        inputs.write_documents(name, path, text)
        size = megabytes / len(texts)
        inputs.write_enlarged(text, size, max(2, round(size / 8)), project.path("data/raw") / name)
    return project


def together(stages: Iterable[Sequence[Measured]]) -> list[Measured]:
    """The runs of several stages, added up."""
    return [
        Measured(
            sum(run.wall_seconds for run in runs),
            sum(run.cpu_seconds for run in runs),
            max(run.peak_mib for run in runs),
        )
        for runs in zip(*stages, strict=True)
    ]


def main() -> None:
    parser = cli.make_parser("data.workers", __doc__, "wikitext", "tweets", required=["vocab"])
    parser.add_argument("--dask", action="store_true", help="Dask against local processes")
    cli.add(parser, "--megabytes", 256, "size of the text")
    cli.add_repeats(parser)
    options = cli.parse(parser)
    texts = cli.given_texts(options)
    project = make_project(options.work, options.vocab, texts, options.megabytes)
    digests: dict[str, set[str]] = {}

    def run(name: str, output: str, workers: int, scheduler: str | None) -> Measured:
        project.set({"cluster": {"workers": workers, "scheduler": scheduler}})
        measured = project.preprocess() if name == "preprocess" else project.stage(*name.split())
        digests.setdefault(name, set()).add(fingerprint.of_path(project.folder / output))
        return measured

    runs = {}
    with cluster(project.folder) if options.dask else contextlib.nullcontext() as scheduler:
        for name, output in STAGES.items():
            usual = partial(run, name, output, 2 if options.dask else 1, None)
            measured = partial(run, name, output, 2, scheduler)
            runs[name] = alternate(measured, usual, options.repeats)
    thresholds = {"together": DASK_THRESHOLD} if options.dask else THRESHOLDS
    runs["together"] = tuple(map(together, zip(*runs.values(), strict=True)))
    results = [compare(name, *both, thresholds.get(name)) for name, both in runs.items()]
    if different := [name for name, found in digests.items() if len(found) > 1]:
        raise UserError(f"{different[0]}: different outputs in different runs; look for the cause")
    shutil.rmtree(options.work)
    cli.finish(options, results=results)


if __name__ == "__main__":
    cli.run_main(main)
