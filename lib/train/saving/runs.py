"""Training runs of a phase in scratch: what identifies a run, its record, and which is resumed.

    .scratch/pretrain/<phase>/
      <inputs and settings>-<code>/   a run that has not finished (lib.train.saving.checkpoint)
        run.json                      its record
        tokenizer/                    the files of a model directory besides config and weights
      finished/                       the last run that finished: its record and last checkpoint
    .scratch/accepted_code.json       pairs of training code that `make accept` declared equal

A run is identified by the digests of its records, initial weights and vocabulary, by the settings
that determine its result, and by its code: the listing of `lib.run.code_digest`. The same command
finds the folder of its run and resumes it; anything else is another run, which starts at step 0. A
run whose code differs is resumed after `make accept` only.

`run.json` is for people and for the checks of this module. Its history has an entry for each
process that trained the run with something new: another machine, TensorFlow, code or interval.
"""

import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.params import Pretrain
from lib.run import cost, fingerprint
from lib.run.atomic import remove, write_text
from lib.run.code_digest import ROOT, listing
from lib.run.errors import UserError
from lib.run.stage import scratch
from lib.train.saving import checkpoint

# Raised by hand when checkpoints of an older version must not be resumed.
_FORMAT = 5
# Settings that decide what is logged and saved, but not the weights: they may change within a run.
INTERVALS = ("log_every", "evaluate_every", "max_dev_sequences", "save_model_every")
_NO_DIFFERENCE = (
    "checkpoint_every",
    "checkpoint_minutes",
    "checkpoint_dir",
    "keep_checkpoints",
    "tensorboard",
    "tpu",
)
FINISHED = "finished"
TOKENIZER = "tokenizer"
RECORD = "run.json"


@dataclass(frozen=True)
class Identity:
    """What identifies a run.

    Attributes:
        inputs: digests of its records, initial weights and vocabulary.
        settings: those that determine the weights.
        code: digest of the training code.
    """

    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    code: str

    @property
    def digest(self) -> str:
        """Of everything but the code, hexadecimal."""
        return fingerprint.of_values(
            {"format": _FORMAT, **self.inputs, "settings": dict(self.settings)}
        )

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"{self.digest}-{self.code[:12]}"


def identify(settings: Pretrain, records: str, init: Path, vocab: Path) -> Identity:
    """The identity of the run that is started now.

    Args:
        records: digest of the records.
        init: file or folder of the initial weights.
        vocab: folder of the vocabulary.
    """
    return Identity(
        {
            "records": records,
            "init": fingerprint.of_path(init),
            "vocab": fingerprint.of_path(vocab),
        },
        settings.model_dump(mode="json", exclude={*INTERVALS, *_NO_DIFFERENCE}),
        training_code(),
    )


def training_code() -> str:
    """Digest of the code that trains, hexadecimal; comments and docstrings do not count."""
    return fingerprint.of_values(listing(ROOT, "pretrain"))


def phase_folder(phase: str) -> Path:
    """The folder of the runs of a phase."""
    return scratch() / "pretrain" / phase


def unfinished(folder: Path) -> list[Path]:
    """The runs in the folder of a phase that have not finished."""
    return sorted(path for path in folder.glob("[!.]*") if path.name != FINISHED and path.is_dir())


def all_runs() -> list[Path]:
    """The runs of all phases, the finished ones included."""
    return sorted(path.parent for path in (scratch() / "pretrain").glob(f"*/[!.]*/{RECORD}"))


def code_of(run: Path) -> str:
    """Digest of the code of a run; empty if its record is lost."""
    return str(read_record(run).get("identity", {}).get("code", ""))


# Accepted code.


def _accepted_file() -> Path:
    return scratch() / "accepted_code.json"


def accept_code(old: str, new: str) -> None:
    """Declares two versions of the training code equal: runs of the old one may be resumed."""
    pairs = _accepted_pairs()
    if (old, new) not in pairs:
        text = json.dumps(sorted({*pairs, (old, new)}), indent=1) + "\n"
        write_text(_accepted_file(), text)


def is_accepted(old: str, new: str) -> bool:
    """Whether runs of the code `old` may be resumed by the code `new`."""
    known = {new}
    pairs = _accepted_pairs()
    while more := {before for before, after in pairs if after in known} - known:
        known |= more
    return old in known


def _accepted_pairs() -> set[tuple[str, str]]:
    try:
        pairs = json.loads(_accepted_file().read_bytes())
        return {(str(old), str(new)) for old, new in pairs}
    except FileNotFoundError:
        return set()
    except (ValueError, TypeError):
        raise UserError(
            f"{_accepted_file()}: not readable; delete it, and run `make accept` again"
        ) from None


# Records.


def read_record(run: Path) -> dict[str, Any]:
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


def write_record(run: Path, values: Mapping[str, Any]) -> None:
    """Writes the record of a run, with a digest of itself."""
    digest = fingerprint.of_values(dict(values))
    write_text(run / RECORD, json.dumps({**values, "digest": digest}, indent=1) + "\n")


def begin(run: Path, phase: str, identity: Identity) -> None:
    """Writes what identifies a run into its record; the history stays."""
    parts = {"inputs": dict(identity.inputs), "settings": dict(identity.settings)}
    history = read_record(run).get("history", [])
    write_record(
        run,
        {
            "phase": phase,
            "identity": {**parts, "code": identity.code},
            "finished": False,
            "history": history,
        },
    )


def start(run: Path, step: int, now: Mapping[str, str]) -> None:
    """Records what this process trains with from a step on; differences from before are printed.

    Args:
        now: name -> value: machine, TensorFlow, code, intervals.
    """
    record = read_record(run)
    # What earlier processes made after this step was lost, so that they do not count.
    history = [entry for entry in record.get("history", ()) if entry["step"] < step]
    before = history[-1] if history else now
    if not history or {**before, "step": step} != {**now, "step": step}:
        history.append({"step": step, **now})
        write_record(run, {**record, "history": history})
    differing = {name: f"{before.get(name)} -> {now[name]}" for name in sorted(now)}
    differing = {name: text for name, text in differing.items() if before.get(name) != now[name]}
    for name, text in differing.items():
        effect = "; the weights may differ from those of a run without this change"
        effect = "" if name in INTERVALS else effect
        print(f"pretrain: {name} changed at step {step:,}: {text}{effect}", file=sys.stderr)


def changes(history: list[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What changed within a run: step -> name -> old and new value; empty for most runs."""
    found = {}
    for before, after in itertools.pairwise(history):
        found[f"after_step_{after['step']}"] = {
            name: f"{before.get(name)} -> {value}"
            for name, value in after.items()
            if name != "step" and before.get(name) != value
        }
    return found


# Which run is resumed.


def prepare(run: Path, identity: Identity) -> None:
    """Gives the folder of a run the checkpoints of the same run by accepted code, if there are any.

    If there is the same run by other code that is not accepted, a line says so.
    """
    for leftover in run.parent.glob(".*.dropped"):
        checkpoint.remove_quietly(leftover)
    for other in _by_other_code(run):
        if is_accepted(code_of(other), identity.code):
            _rename(other, run)
        elif checkpoint.steps(other) and not checkpoint.steps(run):
            print(
                f"pretrain: the training code has changed since step "
                f"{checkpoint.steps(other)[-1]:,} of this run: it starts at step 0 (to resume it "
                "instead, stop, run `make accept`, and repeat the command)",
                file=sys.stderr,
            )


def _by_other_code(run: Path) -> Iterator[Path]:
    for other in unfinished(run.parent):
        if other != run and other.name.partition("-")[0] == run.name.partition("-")[0]:
            yield other


def _rename(other: Path, run: Path) -> None:
    """Makes `other` the folder of the run, unless `run` has got further itself."""
    with checkpoint.exclusive(other), checkpoint.exclusive(run):
        if checkpoint.newest(other) <= checkpoint.newest(run):
            return
        dropped = run.with_name(f".{run.name}.dropped")
        os.replace(run, dropped)
        os.replace(other, run)
        remove(dropped)


def clear(run: Path) -> None:
    """Removes everything that a run could resume, while it is locked."""
    checkpoint.drop_all(run)
    for name in (checkpoint.MODELS, RECORD, cost.FILE):
        remove(run / name)


def finish(run: Path) -> None:
    """Makes a run, while it is locked, the finished one of its phase, with its last checkpoint."""
    for step in checkpoint.steps(run)[:-1]:
        checkpoint.drop(run, step)
    write_record(run, {**read_record(run), "finished": True})
    drop_finished(run.parent)
    os.replace(run, run.parent / FINISHED)
    for other in _by_other_code(run):
        _remove_unless_in_use(other)


def drop_finished(folder: Path) -> None:
    """Removes the finished run of a phase, unless another process uses it."""
    if (folder / FINISHED).is_dir():
        _remove_unless_in_use(folder / FINISHED)


def _remove_unless_in_use(run: Path) -> None:
    try:
        with checkpoint.exclusive(run):
            dropped = run.with_name(f".{run.name}.dropped")
            remove(dropped)
            os.replace(run, dropped)
            # On some network file systems, files that are open elsewhere cannot be removed.
            checkpoint.remove_quietly(dropped)
    except UserError:
        return
