"""Peak memory of each data stage's processes, on a text and on one four times as large.

The texts repeat the given one, with a unique number in each document, so that shards are full and
nothing is a duplicate. With two workers, the peaks of parent and worker are measured separately.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.common import cli, inputs
from bench.common.processes import Measured
from bench.common.project import Project
from bench.common.report import Row
from lib.run.errors import UserError

MAX_MIB, MAX_GROWTH = 400.0, 1.15
SAMPLE = 5_000_000  # sentences
_FILE_MEGABYTES = 16


def peaks(run: Measured) -> tuple[float, float | None]:
    """MiB of the first process (the parent) and of the largest other one, if there are others.

    Python's resource tracker is among the others; it is smaller than any worker.
    """
    own, *others = run.peaks_mib.values()
    if not others:
        return run.peak_mib, None  # The kernel's figure, which includes the last moment.
    return own, max(others)


def run_stages(project: Project, megabytes: int, text: Path) -> dict[str, Measured]:
    """Runs the four data stages on `text`, repeated up to `megabytes`."""
    shutil.rmtree(project.folder / "data/raw", ignore_errors=True)
    files = megabytes // _FILE_MEGABYTES
    inputs.write_enlarged(text, megabytes, files, project.path("data/raw"))
    stages: dict[str, Callable[[], Measured]] = {
        "preprocess": partial(project.preprocess, each=True),
        "sample5M": partial(project.stage, "sample5M", each=True),
        "split": partial(project.stage, "split", each=True),
        "records": partial(project.records, each=True),
    }
    runs = {}
    for name, stage in stages.items():
        cli.progress(f"{megabytes} MB: {name}")
        runs[name] = stage()
    shutil.rmtree(project.folder / "data/records")
    return runs


def compare(name: str, small: Measured, large: Measured) -> Row:
    """Result of one stage. Growth is that of the stage's largest process.

    It is not computed per process: with a single task, the parent does the worker's work itself.
    """
    (parent, worker), (large_parent, large_worker) = peaks(small), peaks(large)
    growth = max(large_parent, large_worker or 0) / max(parent, worker or 0)
    return {
        "name": name,
        "parent_mib": parent,
        "worker_mib": worker,
        "large_parent_mib": large_parent,
        "large_worker_mib": large_worker,
        "growth": growth,
        "passed": max(small.peak_mib, large.peak_mib) <= MAX_MIB and growth <= MAX_GROWTH,
    }


def large_sample(project: Project) -> Row:
    """Result of sample5M when it draws five million of six million sentences."""
    corpus = project.folder / "data/corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    with (corpus / "00000.txt").open("w", encoding="utf-8") as file:
        for number in range(SAMPLE * 6 // 5 // 4):
            file.write(f"In {number}, one.\nThen two.\nThen three.\nAnd four.\n\n")
    project.set({"sample5M": {"sentences": SAMPLE}})
    peak = project.stage("sample5M").peak_mib
    return {"name": f"sample5M, {SAMPLE:,}", "parent_mib": peak, "passed": peak <= MAX_MIB}


def main() -> None:
    parser = cli.make_parser("data.memory", __doc__, "wikitext", "tweets", required=["vocab"])
    cli.add(parser, "--megabytes", 64, "size of the small text")
    options = cli.parse(parser)
    if options.megabytes < _FILE_MEGABYTES:
        raise UserError(f"--megabytes {options.megabytes}: should be at least {_FILE_MEGABYTES}")
    results = []
    params = {
        "records": {"dupe_factor": 10},
        "phases": {"main": {"max_seq_length": 128}},
        "cluster": {"workers": 2},
    }
    project = Project(options.work / "project", params)
    project.use_vocabulary(options.vocab)
    for name, path in cli.given_texts(options).items():
        text = options.work / f"{name}.txt"
        inputs.write_documents(name, path, text)
        small = run_stages(project, options.megabytes, text)
        large = run_stages(project, 4 * options.megabytes, text)
        results += [compare(f"{name}: {one}", small[one], large[one]) for one in small]
    results.append(large_sample(project))
    shutil.rmtree(options.work)
    print(f"small text {options.megabytes} MB, threshold {MAX_MIB:g} MiB per process")
    cli.finish(options, results=results)


if __name__ == "__main__":
    cli.run_main(main)
