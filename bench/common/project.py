"""Copies of the project in which the real stages run on a benchmark's own text."""

import csv
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bench import ROOT
from bench.common import inputs
from bench.common.processes import Measured, measure
from bench.common.report import read_json, write_json
from lib.commands.recipe import merge
from lib.run.errors import UserError
from lib.vocab.export import write_tokenizer

# What the peers have: sentence pairs masked once, random initial weights.
BASE: dict[str, dict[str, Any]] = {
    "records": {
        "masked_lm_prob": 0.15,
        "short_seq_prob": 0.1,
        "dupe_factor": 5,
        "whole_word_mask": False,
        "next_sentence": True,
        "masking": "static",
        "packing": False,
    },
    "pretrain": {
        "model": {"architecture": "bert", "num_attention_heads": 4, "intermediate_size": 512},
        "initialization": "normal",
        "steps": 8000,
        "batch_size": 32,
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "warmup_steps": 400,
        "evaluate_every": 2000,
    },
    "cluster": {"workers": 1},
}
# The file with the result of `Project.calibrate`.
CALIBRATION = "calibration.json"
# The benchmark's own text: by default a blank line is between documents.
RAW = {"input": "data/raw", "document": "blank_line"}


class Project:
    """A copy of the project. Its stages use this Python and, by default, `RAW` and `BASE`."""

    def __init__(self, folder: Path, params: dict[str, Any] | None = None) -> None:
        """
        Args:
            folder: deleted first if it exists, unless there are no params.
            params: keys of params.yaml to change in the copy, besides those of `RAW` and `BASE`.
                None: the copy that an earlier call has made.
        """
        self.folder = folder.absolute()
        self.environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        for name in ("DVC_ROOT", "DASK_SCHEDULER_ADDRESS"):
            self.environment.pop(name, None)
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        if params is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        recipe = self.folder / "bench.yaml"
        recipe.write_text(yaml.safe_dump({"preprocess": RAW, **BASE}), encoding="utf-8")
        command = [sys.executable, "-m", "lib.commands.recipe", recipe, "--in", self.folder]
        copied = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if copied.returncode:
            raise UserError(f"cannot copy the project: {(copied.stderr or copied.stdout).strip()}")
        # Not part of the recipe: a recipe's phases replace those of params.yaml completely.
        self.set(params)

    def params(self) -> dict[str, Any]:
        """The copy's params.yaml."""
        text = (self.folder / "params.yaml").read_text(encoding="utf-8")
        values: dict[str, Any] = yaml.safe_load(text)
        return values

    def set(self, changes: dict[str, Any]) -> None:
        """Changes keys of the copy's params.yaml."""
        path = self.folder / "params.yaml"
        values = self.params()
        merge(values, changes)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def stage(self, name: str, *arguments: str, each: bool = False) -> Measured:
        """Runs one stage; `arguments` is the phase or the task, for the stages that take one."""
        command = [sys.executable, "-m", f"stages.{name}", *arguments]
        return measure(command, self.folder, self.environment, each)

    def stages(self, *names: str) -> None:
        """Runs stages without arguments, one after the other."""
        for name in names:
            self.stage(name)

    def preprocess(self, each: bool = False) -> Measured:
        """Runs preprocess without the cleaned text that an earlier run has cached."""
        shutil.rmtree(self.folder / ".scratch", ignore_errors=True)
        return self.stage("preprocess", each=each)

    def records(self, phase: str = "main", each: bool = False) -> Measured:
        return self.stage("records", phase, each=each)

    def prepare_text(self) -> None:
        """Runs the stages from preprocess to split."""
        self.stages("preprocess", "sample5M", "vocab", "split")

    def pretrain(self, *options: str) -> None:
        self.stage("pretrain", "main", *options)

    def metrics(self, stage: str) -> dict[str, Any]:
        """The metrics of a stage or, as in `probe/hashtags`, of one of its runs."""
        return read_json(self.folder / "results" / stage / "metrics.json")

    def probe(self, task: str) -> dict[str, Any]:
        """Fine-tunes on a task, prints what the stage has printed and its runs; the metrics."""
        self.stage("probe", task)
        for path in ("output.log", f"results/probe/{task}/runs.csv"):
            print((self.folder / path).read_text(encoding="utf-8"))
        return self.metrics(f"probe/{task}")

    def step_seconds(self) -> float:
        """Median duration of a step in the last run of the phase main, without its start."""
        path = self.folder / "results/cost/training-main.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            rates = [float(row["steps_per_second"]) for row in csv.DictReader(stream)]
        return 1 / statistics.median(rates[1:])

    def calibrate(self, settings: dict[str, Any]) -> float:
        """Seconds per step, measured once by a short run with these values of `pretrain`."""
        result = self.folder / CALIBRATION
        if not result.exists():
            params = self.params()
            self.set({"pretrain": settings})
            self.pretrain("--from-start")
            self.set(params)
            # The curves of the run itself are not there yet.
            shutil.rmtree(self.folder / "results/pretrain")
            write_json(result, {"seconds": self.step_seconds()})
        return float(read_json(result)["seconds"])

    def copy_text(self, other: Path) -> None:
        """Copies what the stages before records have made in another copy of the project."""
        for part in ("data/corpus", "data/sample", "data/vocab", "data/shards", "results/vocab"):
            shutil.copytree(other / part, self.folder / part)

    def path(self, name: str) -> Path:
        """A path in the copy; creates the folder that contains it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def use_vocabulary(self, vocabulary: Path) -> None:
        """Writes data/vocab from an uncased vocab.txt."""
        folder = self.path("data/vocab")
        folder.mkdir(exist_ok=True)
        tokens = inputs.read_vocabulary(vocabulary)
        write_tokenizer(folder, tokens, lowercase=True, strip_accents=True, max_length=512)

    def use_shard(self, text: Path) -> None:
        """Writes data/shards with one training shard; dev and test get its first two documents."""
        self.path("data/shards/train/x").parent.mkdir(exist_ok=True)
        shutil.copyfile(text, self.path("data/shards/train/00000.txt"))
        with text.open("rb") as stream:
            start = stream.read(1 << 20).split(b"\n\n")[:2]
        for split in ("dev", "test"):
            self.path(f"data/shards/{split}/00000.txt").write_bytes(b"\n\n".join(start) + b"\n\n")


def is_prepared(marker: Path, settings: str) -> bool:
    """Whether an earlier call has prepared a folder with these settings: its marker has them."""
    return marker.exists() and marker.read_text(encoding="utf-8") == settings
