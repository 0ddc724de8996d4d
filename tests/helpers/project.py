"""A copy of this project with text of its own, to run the real pipeline in."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import yaml

from lib.commands.recipe import copy_project, merge
from tests.helpers.params import default_values

TINY = {
    "preprocess": {"input": "data/raw", "document": "blank_line"},
    "sample5M": {"heldout_sentences": 200},
    "vocab": {"size": 300},
    "split": {"dev_fraction": 0.1, "test_fraction": 0.1, "lines_per_shard": 150},
    "records": {"dupe_factor": 1},
    "phases": {"main": {"max_seq_length": 32}},
    "pretrain": {
        "model": {
            "num_hidden_layers": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.1,
        },
        "steps": 40,
        "batch_size": 4,
        "warmup_steps": 4,
        "log_every": 10,
        "evaluate_every": 20,
        "checkpoint_every": 10,
        "save_model_every": 20,
        "shuffle_buffer": 50,
    },
    "evaluate": {"max_examples": 50, "fill_mask_examples": 2},
}

# Who commits in a clone that has no git settings.
PERSON = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "someone"), ("EMAIL", "someone@example.org"))
}

_SUBJECTS = ["the pilot", "a small engine", "our grandmother", "every student", "the harbour"]
_VERBS = ["watches", "repairs", "has forgotten", "slowly paints", "never finds"]
_OBJECTS = ["the old bridge", "a letter from Izmir", "two silver coins", "the northern light"]


def sentences(count: int, seed: int) -> list[str]:
    """Short English sentences by a grammar, each with a number of its own."""
    draw = random.Random(seed)
    return [
        f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_OBJECTS)} "
        f"{number} times.".capitalize()
        for number in range(count)
    ]


def write_text(folder: Path, documents: int = 120) -> None:
    """Two files of documents of several sentences, a blank line after each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (("one.txt", 1), ("two.txt", 2)):
        lines = sentences(documents * 4, seed)
        texts = [" ".join(lines[start : start + 4]) for start in range(0, len(lines), 4)]
        (folder / name).write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def environment() -> dict[str, str]:
    """Environment variables of a command that runs in a separate project."""
    values = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "DVC_NO_ANALYTICS": "1"}
    # Of an outer dvc run: it would send checkpoints to another project's scratch.
    values.pop("DVC_ROOT", None)
    values["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return values


class Project:
    """The copy; commands run in it with this Python's environment first on the path."""

    def __init__(self, folder: Path, settings: dict = TINY) -> None:
        self.folder = folder
        self.environment = environment()
        copy_project(folder)
        self._write(default_values())
        self.set(settings)

    def set(self, changes: dict) -> None:
        values = yaml.safe_load((self.folder / "params.yaml").read_text(encoding="utf-8"))
        merge(values, changes)
        self._write(values)

    def _write(self, values: dict) -> None:
        text = yaml.safe_dump(values, sort_keys=False)
        (self.folder / "params.yaml").write_text(text, encoding="utf-8")

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str, code: int | None = 0, timeout: float = 240) -> str:
        """Output of a command; its exit code must be `code` unless that is None."""
        process = self.start(*command)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"still running: {command}\n{process.communicate()[0]}") from None
        assert code is None or process.returncode == code, output
        return output

    def stage(self, name: str, *arguments: str, code: int | None = 0) -> str:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments, code=code)

    def stages_run(self) -> list[str]:
        """The stages that `dvc repro` runs, sorted."""
        return sorted(re.findall(r"Running stage '([^']+)'", self.run("dvc", "repro")))

    def processes(self, module: str) -> list[int]:
        """Ids of the processes that run a Python module in the project's folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                here = (process / "cwd").resolve() == self.folder.resolve()
            except OSError:
                continue
            if here and module.encode() in words and b"-m" in words:
                found.append(int(process.name))
        return found

    def make_records(self) -> None:
        """Runs the data stages on data/raw."""
        self.stage("preprocess", "data/raw", "data/corpus")
        self.stage("sample5M", "data/corpus", "data/sample")
        self.stage("vocab", "data/sample", "data/sample", "data/vocab")
        self.stage("split", "data/corpus", "data/shards")
        self.stage("records", "main", "data/shards", "data/vocab", "data/records/main")


def training(model: str) -> tuple[str, ...]:
    """The command that trains `main` from scratch, into a folder of the caller's choice."""
    folders = ("data/records/main", "data/vocab", "data/vocab", model)
    return (sys.executable, "-m", "stages.pretrain", "main", *folders)
