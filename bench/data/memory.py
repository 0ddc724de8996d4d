"""Peak memory of each data stage's processes, on a text and on one four times as large.

The texts repeat the given one, with a unique number in each document, so that shards are full and
nothing is a duplicate. With two workers, the peaks of parent and worker are measured separately.
"""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import cli, inputs
from bench.common.processes import Measured
from bench.common.project import Project
from bench.common.report import machine, table, write_json
from lib.run.errors import UserError

MAX_MIB, MAX_GROWTH = 400.0, 1.15
SAMPLE = 5_000_000  # sentences
_FILE_MEGABYTES = 16
_COLUMNS = {
    "name": "stage",
    "parent": "parent MiB",
    "worker": "worker MiB",
    "large_parent": "large: parent",
    "large_worker": "large: worker",
    "growth": "growth",
    "passed": "passed",
}


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
        print(f"memory: {megabytes} MB: {name}", file=sys.stderr, flush=True)
        runs[name] = stage()
    shutil.rmtree(project.folder / "data/records")
    return runs


def growth(small: Measured, large: Measured) -> float:
    """Ratio of the stage's largest process on the large text to that on the small one.

    Not per process: with a single task, the parent does the worker's work itself.
    """
    return max(filter(None, peaks(large))) / max(filter(None, peaks(small)))


def compare(name: str, small: Measured, large: Measured) -> dict[str, Any]:
    """Result of one stage."""
    parent, worker = peaks(small)
    large_parent, large_worker = peaks(large)
    ratio = growth(small, large)
    return {
        "name": name,
        "parent": parent,
        "worker": worker,
        "large_parent": large_parent,
        "large_worker": large_worker,
        "growth": ratio,
        "passed": max(small.peak_mib, large.peak_mib) <= MAX_MIB and ratio <= MAX_GROWTH,
    }


def large_sample(project: Project) -> dict[str, Any]:
    """Result of sample5M when it draws five million of six million sentences."""
    corpus = project.folder / "data/corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    with (corpus / "00000.txt").open("w", encoding="utf-8") as file:
        for number in range(SAMPLE * 6 // 5 // 4):
            file.write(f"In {number}, one.\nThen two.\nThen three.\nAnd four.\n\n")
    project.set({"sample5M": {"sentences": SAMPLE}})
    run = project.stage("sample5M", each=True)
    passed = run.peak_mib <= MAX_MIB
    return {"name": f"sample5M, {SAMPLE:,}", "parent": run.peak_mib, "passed": passed}


def main() -> None:
    parser = cli.make_parser("data.memory", __doc__)
    cli.add_inputs(parser, "wikitext", "tweets", "vocab", required=("vocab",))
    parser.add_argument(
        "--megabytes", type=int, default=64, help="size of the small text (default 64)"
    )
    parser.add_argument(
        "--dupe-factor", type=int, default=10, help="records.dupe_factor (default 10)"
    )
    cli.add_outputs(parser, "memory")
    options = parser.parse_args()
    cli.check_files(options, "wikitext", "tweets", "vocab")
    if options.megabytes < _FILE_MEGABYTES:
        raise UserError(f"--megabytes {options.megabytes}: should be at least {_FILE_MEGABYTES}")
    results = []
    project = Project(
        options.work / "project",
        {
            "preprocess": {"input": "data/raw", "document": "blank_line"},
            "records": {"dupe_factor": options.dupe_factor},
            "phases": {"main": {"max_seq_length": 128}},
            "cluster": {"workers": 2},
        },
    )
    project.use_vocabulary(options.vocab)
    for name in ("wikitext", "tweets"):
        path = getattr(options, name)
        if path is None:
            print(f"skipped: {name} (give --{name})", flush=True)
            continue
        text = options.work / f"{name}.txt"
        inputs.write_documents(name, path, text)
        small = run_stages(project, options.megabytes, text)
        large = run_stages(project, 4 * options.megabytes, text)
        results += [compare(f"{name}: {one}", small[one], large[one]) for one in small]
    results.append(large_sample(project))
    shutil.rmtree(options.work)
    print(
        f"{options.megabytes} MB and {4 * options.megabytes} MB; "
        f"threshold {MAX_MIB:g} MiB per process"
    )
    print(table(results, _COLUMNS))
    if options.out:
        write_json(options.out, {"machine": machine(["numpy"]), "results": results})
    cli.exit_if_failed(results)


if __name__ == "__main__":
    cli.run_main(main)
