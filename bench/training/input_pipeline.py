"""Throughput of the training input pipeline alone on one core, in examples per second.

The records are made by the real stages. Each kind of records is read in its own process, pinned to
one core.
"""

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

from bench import ROOT
from bench.common import cli, inputs
from bench.common.project import Project
from bench.common.report import machine, table, write_json
from lib.run.errors import UserError

_SHUFFLE_BUFFER = 20_000
_COLUMNS = {
    "name": "records",
    "batch_size": "batch",
    "examples_per_sequence": "examples/sequence",
    "sequences_per_second": "sequences/s",
    "examples_per_second": "examples/s",
    "threshold": "threshold",
    "passed": "passed",
    "examples_per_cpu_second": "examples/CPU s",
}


@dataclass(frozen=True)
class Case:
    """One kind of records, named as in section records of params.yaml.

    Attributes:
        threshold: smallest accepted number of examples per second, for WikiText at 128 tokens only.
    """

    name: str
    masking: str = "static"
    whole_word_mask: bool = False
    packing: bool = False
    threshold: float | None = None

    def params(self) -> dict[str, Any]:
        return {
            "masking": self.masking,
            "whole_word_mask": self.whole_word_mask,
            "packing": self.packing,
        }


CASES = (
    Case("static", threshold=60_000),
    Case("dynamic", "dynamic", threshold=30_000),
    Case("dynamic, whole words", "dynamic", whole_word_mask=True),
    Case("packed", packing=True),
    Case("packed, dynamic", "dynamic", packing=True),
    Case("packed, dynamic, whole words", "dynamic", whole_word_mask=True, packing=True),
)
LENGTHS = {"wikitext": 128, "tweets": 96}


def make_shards(project: Project, name: str, source: Path, vocabulary: Path) -> None:
    """Prepares text shards and the vocabulary; each case makes its own records."""
    project.use_vocabulary(vocabulary)
    inputs.write_documents(name, source, project.path("data/raw/text.txt"))
    project.stages("preprocess", "split")


def measure(records: Path, vocabulary: Path, batch_size: int, sequences: int) -> dict[str, float]:
    """Reads records in a new process on one core."""
    command = [
        sys.executable,
        "-m",
        "bench.training.input_pipeline",
        "--measure",
        records,
        vocabulary,
    ]
    command += [str(batch_size), str(sequences)]
    # TensorFlow starts a thread for each core that it sees.
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


def read(records: Path, vocabulary: Path, batch_size: int, sequences: int) -> dict[str, float]:
    """Sequences per second of wall time and of processor time."""
    from lib.records.manifest import read_manifest
    from lib.train.input import training_batches
    from lib.vocab.tokenizer import WordPieceTokenizer

    manifest = read_manifest(records)
    count = max(1, sequences // batch_size)
    batches = training_batches(
        records,
        manifest,
        WordPieceTokenizer.load(vocabulary),
        batch_size=batch_size,
        steps=10 * count,  # more than are read, so that the data set does not end
        buffer=_SHUFFLE_BUFFER,
        seed=1,
    )

    def seconds(number: int) -> np.ndarray:
        """Wall and processor time of reading batches.

        Consumed within TensorFlow: the cost of a Python loop over batches belongs to the trainer.
        """
        started = np.array([time.perf_counter(), time.process_time()])
        batches.take(number).reduce(0, lambda total, batch: total + batch["input_ids"][0, 1])
        return np.array([time.perf_counter(), time.process_time()]) - started

    # Start-up and filling the shuffle buffer are part of both and cancel out.
    start_up = count // 10
    wall, cpu = seconds(count + start_up) - seconds(start_up)
    split = manifest.splits["train"]
    return {
        "sequences_per_second": count * batch_size / wall,
        "sequences_per_cpu_second": count * batch_size / cpu,
        "examples_per_sequence": split.examples / split.sequences,
    }


def summarise(
    text: str, case: Case, batch_size: int, runs: list[dict[str, float]]
) -> dict[str, Any]:
    """Medians of the runs of one case."""
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    each = medians["examples_per_sequence"]
    examples = medians["sequences_per_second"] * each
    threshold = case.threshold if text == "wikitext" else None
    return {
        "name": f"{text}: {case.name}",
        "batch_size": batch_size,
        **medians,
        "examples_per_second": examples,
        "examples_per_cpu_second": medians["sequences_per_cpu_second"] * each,
        "threshold": threshold,
        "passed": None if threshold is None else examples >= threshold,
        "runs": [run["sequences_per_second"] for run in runs],
    }


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        records, vocabulary, batch_size, sequences = sys.argv[2:]
        result = read(Path(records), Path(vocabulary), int(batch_size), int(sequences))
        print(json.dumps(result))
        return
    parser = cli.make_parser("training.input_pipeline", __doc__)
    cli.add_inputs(parser, "wikitext", "tweets", "vocab", required=("vocab",))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    parser.add_argument(
        "--sequences", type=int, default=100_000, help="sequences to read per run (default 100,000)"
    )
    cli.add_repeats(parser)
    cli.add_outputs(parser, "input")
    options = parser.parse_args()
    cli.check_files(options, "wikitext", "tweets", "vocab")
    results = []
    conditions = machine(["numpy", "tensorflow"])
    for text, length in LENGTHS.items():
        source = getattr(options, text)
        if source is None:
            print(f"skipped: {text} (give --{text})", flush=True)
            continue
        project = Project(
            options.work / text,
            {
                "preprocess": {"input": "data/raw", "document": "blank_line"},
                "records": {"dupe_factor": 5 if text == "wikitext" else 1},
                "phases": {"main": {"max_seq_length": length}},
            },
        )
        make_shards(project, text, source, options.vocab)
        for case in CASES:
            project.set({"records": case.params()})
            project.records()
            folders = project.path("data/records/main"), project.path("data/vocab")
            for batch_size in options.batch_sizes:
                runs = [
                    measure(*folders, batch_size, options.sequences) for _ in range(options.repeats)
                ]
                results.append(summarise(text, case, batch_size, runs))
    shutil.rmtree(options.work, ignore_errors=True)
    print(table(results, _COLUMNS))
    print(f"one core; load average before: {conditions['load_average']:.1f}")
    if options.out:
        write_json(options.out, {"machine": conditions, "results": results})
    cli.exit_if_failed(results)


if __name__ == "__main__":
    cli.run_main(main)
