"""Peak memory of each data stage's processes, on an input and on one four times as large.

The input is the given text again and again, each document with a number of its own, so that the
shards are full and nothing is a duplicate. Two workers, so that parent and worker are told apart.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.common import inputs
from bench.common.processes import Measured
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from lib.run.errors import UserError

BAR_MIB, BAR_GROWTH = 400.0, 1.15
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
    """MiB of the first process (the parent) and of the largest of the others, if there are any.

    Python's own helper for shared resources is among the others; it is smaller than any worker.
    """
    own, *others = run.peaks_mib.values()
    if not others:
        return run.peak_mib, None  # The kernel's figure: it knows the last moment, too.
    return own, max(others)


def stages(project: Project, megabytes: int, text: Path) -> dict[str, Measured]:
    """Runs the four data stages on so much of `text` (blank lines between documents)."""
    shutil.rmtree(project.folder / "data/raw", ignore_errors=True)
    inputs.enlarged(text, megabytes, megabytes // _FILE_MEGABYTES, project.path("data/raw"))
    steps: dict[str, Callable[[], Measured]] = {
        "preprocess": lambda: project.preprocess(each=True),
        "sample5M": lambda: project.stage("sample5M", "data/corpus", "data/sample", each=True),
        "split": lambda: project.stage("split", "data/corpus", "data/shards", each=True),
        "records": lambda: project.records(each=True),
    }
    runs = {}
    for name, step in steps.items():
        print(f"memory: {megabytes} MB: {name}", file=sys.stderr, flush=True)
        runs[name] = step()
    shutil.rmtree(project.folder / "data/records")
    return runs


def growth(small: Measured, large: Measured) -> float:
    """How much more the larger input takes, in the largest process of the stage.

    Not process by process: with one task only, the parent does a worker's work itself.
    """
    return max(filter(None, peaks(large))) / max(filter(None, peaks(small)))


def compare(name: str, small: Measured, large: Measured) -> dict[str, Any]:
    """One row of the table."""
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
        "passed": max(small.peak_mib, large.peak_mib) <= BAR_MIB and ratio <= BAR_GROWTH,
    }


def large_sample(project: Project) -> dict[str, Any]:
    """sample5M where it has to choose five million sentences among six."""
    corpus = project.folder / "data/corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    with (corpus / "00000.txt").open("w", encoding="utf-8") as file:
        for number in range(SAMPLE * 6 // 5 // 4):
            file.write(f"In {number}, one.\nThen two.\nThen three.\nAnd four.\n\n")
    project.set({"sample5M": {"sentences": SAMPLE}})
    run = project.stage("sample5M", "data/corpus", "data/sample", each=True)
    passed = run.peak_mib <= BAR_MIB
    return {"name": f"sample5M, {SAMPLE:,}", "parent": run.peak_mib, "passed": passed}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.data.memory", description=__doc__)
    parser.add_argument("--wikitext", type=Path, help="train file of WikiText-2: long documents")
    parser.add_argument("--tweets", type=Path, help="text file, a tweet a line: short documents")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--megabytes", type=int, default=64, help="and four times as many")
    parser.add_argument("--dupe-factor", type=int, default=10, help="of the records (default 10)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/memory", help="scratch")
    options = parser.parse_args()
    try:
        given = {name: getattr(options, name) for name in ("wikitext", "tweets")}
        for name, path in [*given.items(), ("vocab", options.vocab)]:
            if path and not path.is_file():
                raise UserError(f"--{name}: no file {path}")
        if options.megabytes < _FILE_MEGABYTES:
            raise UserError(f"--megabytes {options.megabytes}: at least {_FILE_MEGABYTES}")
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
        for name, path in given.items():
            if path is None:
                print(f"skipped: {name} (give --{name})", flush=True)
                continue
            text = options.work / f"{name}.txt"
            inputs.documents(name, path, text)
            small = stages(project, options.megabytes, text)
            large = stages(project, 4 * options.megabytes, text)
            results += [compare(f"{name}: {one}", small[one], large[one]) for one in small]
        results.append(large_sample(project))
    except UserError as error:
        sys.exit(f"memory: error: {error}")
    shutil.rmtree(options.work)
    print(
        f"{options.megabytes} MB and {4 * options.megabytes} MB; at most {BAR_MIB:g} MiB a process"
    )
    print(table(results, _COLUMNS))
    if options.out:
        write_json(options.out, {"machine": machine(["numpy"]), "results": results})
    if not all(result["passed"] for result in results):
        sys.exit("memory: a bar is missed")


if __name__ == "__main__":
    main()
