"""The input pipeline alone on one core: how many examples a second it could give to a trainer.

The records are made by the real stages. Each kind of records is read in a process of its own that
may use one core only.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import inputs
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from lib.run.errors import UserError

_BUFFER = 20_000
_COLUMNS = {
    "name": "records",
    "batch_size": "batch",
    "examples_per_sequence": "examples a row",
    "rows_per_second": "rows/s",
    "examples_per_second": "examples/s",
    "bar": "bar",
    "passed": "passed",
    "examples_per_cpu_second": "per s of CPU",
}


@dataclass(frozen=True)
class Case:
    """One kind of records, by its keys in params.yaml.

    Attributes:
        bar: examples a second; only of WikiText at 128 tokens.
    """

    name: str
    masking: str = "static"
    whole_word_mask: bool = False
    packing: bool = False
    bar: float | None = None

    def params(self) -> dict[str, Any]:
        return {
            "masking": self.masking,
            "whole_word_mask": self.whole_word_mask,
            "packing": self.packing,
        }


CASES = (
    Case("static", bar=60_000),
    Case("dynamic", "dynamic", bar=30_000),
    Case("dynamic, whole words", "dynamic", whole_word_mask=True),
    Case("packed", packing=True),
    Case("packed, dynamic", "dynamic", packing=True),
    Case("packed, dynamic, whole words", "dynamic", whole_word_mask=True, packing=True),
)
LENGTHS = {"wikitext": 128, "tweets": 96}


def make_records(project: Project, text: str, source: Path, vocabulary: Path) -> None:
    """Text shards and a vocabulary; the records are made case by case."""
    project.use_vocabulary(vocabulary)
    inputs.documents(text, source, project.path("data/raw/text.txt"))
    project.preprocess()
    project.stage("split", "data/corpus", "data/shards")


def measure(records: Path, vocabulary: Path, batch_size: int, rows: int) -> dict[str, float]:
    """Reads so many rows in a new process on one core."""
    command = [
        sys.executable,
        "-m",
        "bench.training.input_pipeline",
        "--measure",
        records,
        vocabulary,
    ]
    command += [str(batch_size), str(rows)]
    # The machinery of TensorFlow makes a thread for each core that it sees.
    core = max(os.sched_getaffinity(0))
    run = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if run.returncode:
        raise UserError(f"{records}: cannot be read: {run.stderr.strip()[-500:]}")
    figures: dict[str, float] = json.loads(run.stdout)
    return figures


def read(records: Path, vocabulary: Path, batch_size: int, rows: int) -> dict[str, float]:
    """Rows a second, and rows a second of processor time."""
    from lib.records.manifest import read_manifest
    from lib.train.input import training_batches
    from lib.vocab.tokenizer import WordPieceTokenizer

    manifest = read_manifest(records)
    count = max(1, rows // batch_size)
    batches = training_batches(
        records,
        manifest,
        WordPieceTokenizer.load(vocabulary),
        batch_size=batch_size,
        steps=10 * count,  # far from the end, so that nothing is cut short
        buffer=_BUFFER,
        seed=1,
    )

    def seconds(number: int) -> np.ndarray:
        """Wall and processor time for so many batches.

        Consumed within TensorFlow: what Python's loop over batches costs is the trainer's.
        """
        started = np.array([time.perf_counter(), time.process_time()])
        batches.take(number).reduce(0, lambda total, batch: total + batch["input_ids"][0, 1])
        return np.array([time.perf_counter(), time.process_time()]) - started

    # Starting up and filling the shuffle buffer are in both.
    start_up = count // 10
    wall, cpu = seconds(count + start_up) - seconds(start_up)
    read_rows = count * batch_size
    split = manifest.splits["train"]
    return {
        "rows_per_second": read_rows / wall,
        "rows_per_cpu_second": read_rows / cpu,
        "examples_per_sequence": split.examples / split.sequences,
    }


def figures(text: str, case: Case, batch_size: int, runs: list[dict[str, float]]) -> dict[str, Any]:
    """One row of the table: medians."""
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    examples = medians["rows_per_second"] * medians["examples_per_sequence"]
    bar = case.bar if text == "wikitext" else None
    return {
        "name": f"{text}: {case.name}",
        "batch_size": batch_size,
        **medians,
        "examples_per_second": examples,
        "examples_per_cpu_second": medians["rows_per_cpu_second"]
        * medians["examples_per_sequence"],
        "bar": bar,
        "passed": None if bar is None else examples >= bar,
        "runs": [run["rows_per_second"] for run in runs],
    }


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        records, vocabulary, batch_size, rows = sys.argv[2:]
        print(json.dumps(read(Path(records), Path(vocabulary), int(batch_size), int(rows))))
        return
    parser = argparse.ArgumentParser(
        prog="python -m bench.training.input_pipeline", description=__doc__
    )
    parser.add_argument("--wikitext", type=Path, help="train file of WikiText-2: at 128 tokens")
    parser.add_argument("--tweets", type=Path, help="text file, a tweet a line: at 96 tokens")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--rows", type=int, default=100_000, help="to read in a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/input", help="scratch")
    options = parser.parse_args()
    results = []
    before = machine(["numpy", "tensorflow"])
    try:
        for text, length in LENGTHS.items():
            source = getattr(options, text)
            if source is None:
                print(f"skipped: {text} (give --{text})", flush=True)
                continue
            for path in (source, options.vocab):
                if not path.is_file():
                    raise UserError(f"no file {path}; give a path that is there")
            project = Project(
                options.work / text,
                {
                    "preprocess": {"input": "data/raw", "document": "blank_line"},
                    "records": {"dupe_factor": 5 if text == "wikitext" else 1},
                    "phases": {"main": {"max_seq_length": length}},
                },
            )
            make_records(project, text, source, options.vocab)
            for case in CASES:
                project.set({"records": case.params()})
                project.records()
                folders = project.path("data/records/main"), project.path("data/vocab")
                for batch_size in options.batch_sizes:
                    runs = [
                        measure(*folders, batch_size, options.rows) for _ in range(options.repeats)
                    ]
                    results.append(figures(text, case, batch_size, runs))
    except UserError as error:
        sys.exit(f"input_pipeline: error: {error}")
    shutil.rmtree(options.work, ignore_errors=True)
    print(table(results, _COLUMNS))
    print(f"one core; load average {before['load_average']:.1f} before")
    if options.out:
        write_json(options.out, {"machine": before, "results": results})
    if not all(result["passed"] in (True, None) for result in results):
        sys.exit("input_pipeline: a bar is missed")


if __name__ == "__main__":
    main()
