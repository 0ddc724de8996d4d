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
from pathlib import Path

import numpy as np

from bench import ROOT
from bench.common import cli, inputs
from bench.common.project import Project
from bench.common.report import Row
from lib.run.errors import UserError

# Kinds of records.
CASES = (
    "static",
    "dynamic",
    "dynamic, whole words",
    "packed",
    "packed, dynamic",
    "packed, dynamic, whole words",
)
# Smallest accepted number of examples per second, for WikiText at 128 tokens only.
THRESHOLDS = {"static": 60_000, "dynamic": 30_000}
LENGTHS = {"wikitext": 128, "tweets": 96}


def measure(records: Path, vocabulary: Path, batch_size: int, sequences: int) -> dict[str, float]:
    """Reads records in a new process on one core."""
    command = [sys.executable, "-m", "bench.training.input_pipeline", "--measure", records]
    command += [vocabulary, str(batch_size), str(sequences)]
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
    """Examples per second of wall time and of processor time."""
    from bench.training.our_steps import record_batches
    from lib.records.manifest import read_manifest

    count = max(1, sequences // batch_size)
    # More steps than are read, so that the data set does not end.
    batches = record_batches(records, vocabulary, batch_size, 10 * count)

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
    split = read_manifest(records).splits["train"]
    each = split.examples / split.sequences
    return {
        "examples_per_sequence": each,
        "sequences_per_second": count * batch_size / wall,
        "examples_per_second": each * count * batch_size / wall,
        "examples_per_cpu_second": each * count * batch_size / cpu,
    }


def summarise(text: str, case: str, batch_size: int, runs: list[dict[str, float]]) -> Row:
    """Medians of the runs of one case."""
    row: Row = {"name": f"{text}: {case}", "batch_size": batch_size}
    row |= {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    if case in THRESHOLDS and text == "wikitext":
        threshold = THRESHOLDS[case]
        row |= {"threshold": threshold, "passed": row["examples_per_second"] >= threshold}
    return row | {"runs": [run["sequences_per_second"] for run in runs]}


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        records, vocabulary, batch_size, sequences = sys.argv[2:]
        result = read(Path(records), Path(vocabulary), int(batch_size), int(sequences))
        print(json.dumps(result))
        return
    texts = ("wikitext", "tweets")
    parser = cli.make_parser("training.input_pipeline", __doc__, *texts, required=["vocab"])
    cli.add(parser, "--batch-sizes", [32, 256], "sequences per batch")
    cli.add(parser, "--sequences", 100_000, "sequences to read per run")
    cli.add_repeats(parser)
    options = cli.parse(parser)
    results = []
    for text, source in cli.given_texts(options).items():
        params = {
            "records": {"dupe_factor": 5 if text == "wikitext" else 1},
            "phases": {"main": {"max_seq_length": LENGTHS[text]}},
        }
        project = Project(options.work / text, params)
        project.use_vocabulary(options.vocab)
        inputs.write_documents(text, source, project.path("data/raw/text.txt"))
        project.stages("preprocess", "split")
        for case in CASES:
            settings = {
                "masking": "dynamic" if "dynamic" in case else "static",
                "whole_word_mask": "whole words" in case,
                "packing": "packed" in case,
            }
            project.set({"records": settings})
            project.records()
            folders = project.path("data/records/main"), project.path("data/vocab")
            for batch_size in options.batch_sizes:
                runs = [
                    measure(*folders, batch_size, options.sequences) for _ in range(options.repeats)
                ]
                results.append(summarise(text, case, batch_size, runs))
    shutil.rmtree(options.work, ignore_errors=True)
    cli.finish(options, results=results)


if __name__ == "__main__":
    cli.run_main(main)
