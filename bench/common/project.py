"""A copy of the project in which the real stages run on text of the benchmark's choosing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bench.common.processes import Measured, measure
from lib.commands.recipe import merge
from lib.run.errors import UserError
from lib.vocab.export import write_tokenizer

ROOT = Path(__file__).parents[2]


class Project:
    """The copy. Its stages run with this Python, one worker unless told otherwise."""

    def __init__(self, folder: Path, params: dict[str, Any]) -> None:
        """
        Args:
            folder: made anew, whatever was there.
            params: sections and keys in which its params.yaml differs from the project's own.
        """
        self.folder = folder.absolute()
        self.environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        for name in ("DVC_ROOT", "DASK_SCHEDULER_ADDRESS"):
            self.environment.pop(name, None)
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        recipe = self.folder / "bench.yaml"
        recipe.write_text("cluster: {workers: 1}\n", encoding="utf-8")
        command = [sys.executable, "-m", "lib.commands.recipe", recipe, "--in", self.folder]
        made = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if made.returncode:
            raise UserError(f"cannot copy the project: {(made.stderr or made.stdout).strip()}")
        # Not by the recipe: its phases would replace those of params.yaml, all keys of them.
        self.set(params)

    def set(self, changes: dict[str, Any]) -> None:
        """Changes keys of its params.yaml."""
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        merge(values, changes)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def stage(self, *words: str, each: bool = False) -> Measured:
        """Runs `python -m stages.WORDS`."""
        command = [sys.executable, "-m", f"stages.{words[0]}", *words[1:]]
        return measure(command, self.folder, self.environment, each)

    def preprocess(self, each: bool = False) -> Measured:
        """Runs preprocess on data/raw, without what an earlier run has cleaned already."""
        shutil.rmtree(self.folder / ".scratch", ignore_errors=True)
        return self.stage("preprocess", "data/raw", "data/corpus", each=each)

    def records(self, each: bool = False) -> Measured:
        """Runs records of the phase `main`."""
        return self.stage(
            "records", "main", "data/shards", "data/vocab", "data/records/main", each=each
        )

    def path(self, name: str) -> Path:
        """A file or folder of it, with the folder above it made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def use_vocabulary(self, vocabulary: Path) -> None:
        """Makes data/vocab of an uncased vocab.txt."""
        folder = self.path("data/vocab")
        folder.mkdir(exist_ok=True)
        pieces = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        write_tokenizer(folder, pieces, lowercase=True, strip_accents=True, max_length=512)

    def use_shard(self, text: Path) -> None:
        """Makes data/shards of one training shard; dev and test get its first two documents."""
        self.path("data/shards/train/x").parent.mkdir(exist_ok=True)
        shutil.copyfile(text, self.path("data/shards/train/00000.txt"))
        with text.open("rb") as stream:
            start = stream.read(1 << 20).split(b"\n\n")[:2]
        for split in ("dev", "test"):
            self.path(f"data/shards/{split}/00000.txt").write_bytes(b"\n\n".join(start) + b"\n\n")
