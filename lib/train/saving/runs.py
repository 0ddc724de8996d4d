"""Training runs of a phase in scratch: what identifies a run, its record, and which is resumed.

    .scratch/pretrain/<phase>/
      <inputs and settings>-<code>/   a run that has not finished (lib.train.saving.checkpoint)
        run.json                      its record
        tokenizer/                    the files of a model directory besides config and weights
      finished/                       the last run that finished: its record and last checkpoint
      continue.json                   what `make continue` asked for, until a run has done it
    .scratch/accepted_code.json       pairs of training code that `make accept` declared equal

A run is identified by the digests of its records, initial weights and vocabulary, by the settings
that determine its result, and by its code: the listing of `lib.run.code_digest`. The same command
finds the folder of its run and resumes it; anything else is another run, which starts at step 0. A
run whose code differs is resumed after `make accept` only. `make continue` lets a run with another
length or learning rate go on from the last checkpoint of an earlier one.

`run.json` is for people and for the checks of this module. Its history has an entry for each
process that trained the run with something new: another machine, TensorFlow, code or interval.
"""

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.params import Pretrain
from lib.run import cost, fingerprint
from lib.run.atomic import new_directory, remove, write_text
from lib.run.code_digest import ROOT, listing
from lib.run.errors import UserError
from lib.run.stage import scratch
from lib.train.saving import checkpoint
from lib.train.saving.links import link

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
# Settings with which a run may be continued on purpose: they change neither data nor state.
CONTINUABLE = (
    "steps",
    "epochs",
    "learning_rate",
    "end_learning_rate",
    "schedule",
    "power",
    "warmup_steps",
    "weight_decay",
    "clip_norm",
)
FINISHED = "finished"
_CONTINUE = "continue.json"
TOKENIZER = "tokenizer"
RECORD = "run.json"


@dataclass(frozen=True)
class Identity:
    """What identifies a run.

    Attributes:
        inputs: digests of its records, initial weights and vocabulary; the format of checkpoints.
        settings: those that determine the weights.
        code: digest of the training code.
    """

    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    code: str

    @property
    def digest(self) -> str:
        """Of everything but the code, hexadecimal."""
        return fingerprint.of_values({**self.inputs, "settings": dict(self.settings)})

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
            "format": str(_FORMAT),
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


def last_trained(candidates: Iterable[Path]) -> Path | None:
    """The run whose newest checkpoint was written last; None if none has a checkpoint."""
    found = []
    for run in candidates:
        with suppress(FileNotFoundError):  # A run that trains replaces its checkpoints.
            for step in checkpoint.steps(run)[-1:]:
                found.append(((run / f"step-{step}").stat().st_mtime_ns, run))
    return max(found)[1] if found else None


def all_runs() -> list[Path]:
    """The runs of all phases, the finished ones included."""
    return sorted(path.parent for path in (scratch() / "pretrain").glob(f"*/[!.]*/{RECORD}"))


def code_of(run: Path) -> str:
    """Digest of the code of a run; empty if its record is lost."""
    return str(read_record(run).get("code", ""))


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


def begin(run: Path, phase: str, identity: Identity, facts: Mapping[str, Any]) -> None:
    """Writes what identifies a run into its record; what happened to it stays.

    Args:
        facts: what else `lib.commands.finish` needs to export a model.
    """
    before = read_record(run)
    write_record(
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
    record = read_record(run)
    # What earlier processes made after this step was lost, so that they do not count.
    history = [entry for entry in record.get("history", ()) if entry["step"] < step]
    before = history[-1] if history else now
    if not history or {**before, "step": step} != {**now, "step": step}:
        history.append({"step": step, **now})
        write_record(run, {**record, "history": history})
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


# Which run is resumed.


def prepare(
    run: Path,
    identity: Identity,
    from_start: bool = False,
    intervals: Mapping[str, str] | None = None,
) -> None:
    """Gives the folder of a run the checkpoints that it is to resume, if there are any.

    They are its own, those of the same run by accepted code, or those that `make continue` named.
    If there is the same run by other code that is not accepted, a line says so.

    Args:
        from_start: resume nothing.
        intervals: of this process, if dvc runs it. Then the finished run is taken up again, to
            write its outputs, if only these have changed, or if dvc has not recorded its end.

    Raises:
        UserError: `make continue` named a run that cannot be continued any more.
    """
    for leftover in run.parent.glob(".*.dropped"):
        checkpoint.remove_quietly(leftover)
    asked = _asked_to_continue(run.parent)
    asked = asked if asked.get("target") == identity.digest else {}
    if from_start:
        with checkpoint.exclusive(run):
            clear(run)
        if asked:
            remove(run.parent / _CONTINUE)
            print("pretrain: forced to start at step 0; `make continue` is void", file=sys.stderr)
        return
    if asked:
        _continue(run, run.parent / asked["source"], identity)
        remove(run.parent / _CONTINUE)
        return
    if intervals is not None and not checkpoint.steps(run):
        _take_up_finished(run, identity, intervals)
    for other in _by_other_code(run):
        with checkpoint.exclusive(other):
            pass  # No other process trains it: that one would write the same outputs.
        if is_accepted(code_of(other), identity.code):
            _rename(other, run)
        elif checkpoint.steps(other) and not checkpoint.steps(run):
            print(
                f"pretrain: the training code has changed since step "
                f"{checkpoint.steps(other)[-1]:,} of this run: it starts at step 0 (to resume it "
                "instead, stop, run `make accept`, and repeat the command)",
                file=sys.stderr,
            )


def _take_up_finished(run: Path, identity: Identity, intervals: Mapping[str, str]) -> None:
    finished = run.parent / FINISHED
    if not finished.is_dir():
        return
    record = read_record(finished)
    if not record or differences(finished, identity):
        return
    last = record["history"][-1]
    same = all(last.get(name) == value for name, value in intervals.items())
    if (same and _is_recorded(record)) or not is_accepted(record["code"], identity.code):
        return
    _rename(finished, run)
    print(
        "pretrain: this run has finished: its outputs are written from its last checkpoint "
        "(to train again: `dvc repro -f`)",
        file=sys.stderr,
    )


def _is_recorded(record: Mapping[str, Any]) -> bool:
    """Whether dvc.lock has the model of a finished run."""
    with suppress(OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, KeyError):
        lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
        outs = lock["stages"][f"pretrain@{record['phase']}"]["outs"]
        return any(out.get("md5") == record["model_md5"] for out in outs)
    return False


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


# Continuing on purpose.


def ask_to_continue(folder: Path, source: Path, identity: Identity) -> None:
    """Lets the next run of a phase with this identity go on from the last checkpoint of another."""
    values = {"source": source.name, "target": identity.digest}
    write_text(folder / _CONTINUE, json.dumps(values, indent=1) + "\n")


def _asked_to_continue(folder: Path) -> dict[str, str]:
    path = folder / _CONTINUE
    try:
        values = json.loads(path.read_bytes())
        return {name: str(values[name]) for name in ("source", "target")}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not readable; delete it, and run `make continue` again") from None


def differences(source: Path, identity: Identity) -> dict[str, str]:
    """The inputs and settings in which a run differs: name -> old and new value."""
    record = read_record(source)
    pairs = [(record.get("inputs", {}), identity.inputs)]
    pairs += [(record.get("settings", {}), identity.settings)]
    return {
        name: f"{json.dumps(old.get(name))} -> {json.dumps(value)}"
        for old, new in pairs
        for name, value in new.items()
        if old.get(name) != value
    }


def check_continuable(source: Path, identity: Identity) -> dict[str, str]:
    """Whether a run can be continued with another identity; returns `differences`.

    Raises:
        UserError: it cannot; the message says what to do.
    """
    found = differences(source, identity)
    if wrong := [name for name in found if name not in CONTINUABLE]:
        raise UserError(
            f"{source}: cannot be continued: {', '.join(wrong)} differs from the run there; only "
            f"{', '.join(CONTINUABLE)} may"
        )
    if not is_accepted(code_of(source), identity.code):
        raise UserError(
            f"{source}: the training code has changed since; run `make accept` to continue the run "
            "with the present code"
        )
    return found


def _continue(run: Path, source: Path, identity: Identity) -> None:
    """Copies the last checkpoint of a run, its models and its record into the folder of another."""
    if not source.is_dir():
        raise UserError(
            f"{source}: is gone; run `make continue` again, or delete {_CONTINUE} there"
        )
    with checkpoint.exclusive(source), checkpoint.exclusive(run):
        found = check_continuable(source, identity)
        step = checkpoint.newest(source)
        if not step:
            raise UserError(f"{source}: has no checkpoint any more; delete {_CONTINUE} next to it")
        clear(run)
        record = read_record(source)
        changes_by_step = {**record.get("continued", {}), f"after_step_{step}": found}
        write_record(run, {**record, "continued": changes_by_step})
        if (source / cost.FILE).exists():
            link(source / cost.FILE, run / cost.FILE)
        for name in checkpoint.models_of(source, step):
            link(source / checkpoint.MODELS / name, run / checkpoint.MODELS / name)
        with new_directory(run / f"step-{step}") as temporary:
            link(source / f"step-{step}", temporary)
    print(f"pretrain: continues the run of {step:,} steps in {source}", file=sys.stderr)


def clear(run: Path) -> None:
    """Removes everything that a run could resume, while it is locked."""
    checkpoint.drop_all(run)
    for name in (checkpoint.MODELS, RECORD, cost.FILE):
        remove(run / name)


def finish(run: Path, weights: Path) -> None:
    """Makes a run, while it is locked, the finished one of its phase, with its last checkpoint.

    Args:
        weights: the file of the trained model, an output of the stage.
    """
    checkpoint.keep_newest(run, 1)
    md5 = fingerprint.of_file(weights)
    write_record(run, {**read_record(run), "finished": True, "model_md5": md5})
    drop_finished(run.parent)
    # The one from before may be in use: then that is the one that stays.
    kept = run.parent / FINISHED
    if kept.exists():
        kept = run.with_name(f".{run.name}.dropped")
    os.replace(run, kept)
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
