"""Record of a training run, `run.json` in its folder, for people and for the checks of runs.

    {
      "phase": "main",
      "inputs": {"records": "f0eb...", "init": "f508...", "vocab": "f508...", "format": "5"},
      "settings": {"steps": 8000, "learning_rate": 0.002, ...},
      "code": "af6e...",
      "config": {"architecture": "bert", "vocab_size": 7800, ...},
      "special_ids": {"pad_token_id": 0}, "tokenizer": {"vocab.txt": "c714..."},
      "total_steps": 8000, "training_sequences": 51200, "record_settings": {...},
      "from_scratch": true, "earlier": {"steps": 0, "sequences": 0, "skipped": 0},
      "finished": false,
      "history": [{"step": 0, "processor": "...", "tensorflow": "2.21.0", "log_every": "100", ...}],
      "continued": {},
      "digest": "65e2..."
    }

The history has an entry for each process that trained the run with something new: another machine,
TensorFlow, code or interval. The digest is that of all other values.
"""

import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.run import cost, fingerprint
from lib.run.atomic import remove, write_text
from lib.train.saving import checkpoint
from lib.train.saving.identity import INTERVALS, Identity

RECORD = "run.json"


def read(run: Path) -> dict[str, Any]:
    """The record of a run; empty if there is none, or with a note if it is damaged."""
    path = run / RECORD
    try:
        values = dict(json.loads(path.read_bytes()))
        if values.pop("digest") != fingerprint.of_values(values):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        print(f"pretrain: {path}: damaged; what it recorded of the run is lost", file=sys.stderr)
        return {}
    return values


def write(run: Path, values: Mapping[str, Any]) -> None:
    """Writes the record of a run, with a digest of itself."""
    digest = fingerprint.of_values(dict(values))
    write_text(run / RECORD, json.dumps({**values, "digest": digest}, indent=1) + "\n")


def begin(run: Path, phase: str, identity: Identity, facts: Mapping[str, Any]) -> None:
    """Writes what identifies a run into its record; what happened to it stays.

    Args:
        facts: what else `lib.commands.finish` needs to export a model.
    """
    before = read(run)
    write(
        run,
        {
            "phase": phase,
            "inputs": dict(identity.inputs),
            "settings": dict(identity.settings),
            "code": identity.code,
            **facts,
            "finished": False,
            "history": before.get("history", []),
            "continued": before.get("continued", {}),
        },
    )


def start(run: Path, step: int, now: Mapping[str, str]) -> None:
    """Records what this process trains with from a step on; differences from before are printed.

    Args:
        now: name -> value: machine, TensorFlow, code, intervals.
    """
    record = read(run)
    # What earlier processes made after this step was lost, so that they do not count.
    history = [entry for entry in record.get("history", ()) if entry["step"] < step]
    before = history[-1] if history else now
    if not history or {**before, "step": step} != {**now, "step": step}:
        history.append({"step": step, **now})
        write(run, {**record, "history": history})
    for name, text in _differing(before, now).items():
        effect = "; the weights may differ from those of a run without this change"
        effect = "" if name in INTERVALS else effect
        print(f"pretrain: {name} changed at step {step:,}: {text}{effect}", file=sys.stderr)


def changes(history: list[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What changed within a run: step -> name -> old and new value; empty for most runs."""
    found = {}
    for before, after in itertools.pairwise(history):
        if differing := _differing(before, after):
            found[f"after_step_{after['step']}"] = differing
    return found


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Old and new value of what both entries of a history have, and have differently."""
    return {
        name: f"{before[name]} -> {value}"
        for name, value in after.items()
        if name != "step" and name in before and before[name] != value
    }


def code_of(run: Path) -> str:
    """Digest of the code of a run; empty if its record is lost."""
    return str(read(run).get("code", ""))


def clear(run: Path) -> None:
    """Removes everything that a run could resume, while it is locked."""
    for step in checkpoint.steps(run):
        checkpoint.drop(run / f"step-{step}")
    for name in (checkpoint.MODELS, RECORD, cost.FILE):
        remove(run / name)
