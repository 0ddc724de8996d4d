"""Training runs of a phase in scratch: which is resumed, and what stays of a finished one.

    .scratch/pretrain/<phase>/
      <inputs and settings>-<code>/   a run that has not finished (lib.train.saving.checkpoint)
        run.json                      its record
        tokenizer/                    the files of a model directory besides config and weights
      finished/                       the last run that finished: its record and last checkpoint
      continue.json                   what `make continue` asked for, until a run has done it
    .scratch/accepted_code.json       pairs of training code that `make accept` declared equal

The same command finds the folder of its run (`identity.py`) and resumes it; anything else is
another run, which starts at step 0. A run whose code differs is resumed after `make accept` only
(`accepted_code.py`). `make continue` lets a run with another length or learning rate go on from the
last checkpoint of an earlier one (`continuing.py`).
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lib.run import fingerprint
from lib.run.atomic import remove
from lib.run.errors import UserError
from lib.run.stage import scratch
from lib.train.saving import accepted_code, checkpoint, continuing, run_record
from lib.train.saving.identity import Identity

FINISHED = "finished"
TOKENIZER = "tokenizer"


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
    return sorted(
        path.parent for path in (scratch() / "pretrain").glob(f"*/[!.]*/{run_record.RECORD}")
    )


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
        shutil.rmtree(leftover, ignore_errors=True)
    asked = continuing.asked(run, identity)
    if from_start:
        with checkpoint.exclusive(run):
            run_record.clear(run)
        if asked:
            remove(run.parent / continuing.FILE)
            print("pretrain: forced to start at step 0; `make continue` is void", file=sys.stderr)
        return
    if asked:
        source, replaced = asked
        continuing.take_up(run, source, identity, replaced)
        remove(run.parent / continuing.FILE)
        return
    if intervals is not None and not checkpoint.steps(run):
        _take_up_finished(run, identity, intervals)
    for other in _by_other_code(run):
        with checkpoint.exclusive(other):
            pass  # No other process trains it: that one would write the same outputs.
        if accepted_code.is_accepted(run_record.code_of(other), identity.code):
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
    record = run_record.read(finished)
    if not record or continuing.differences(finished, identity):
        return
    last = record["history"][-1]
    same = all(last.get(name) == value for name, value in intervals.items())
    if same and _is_recorded(record):
        return
    if not accepted_code.is_accepted(record["code"], identity.code):
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
        checkpoint.drop(run)
        os.replace(other, run)


def finish(run: Path, weights: Path) -> None:
    """Makes a run, while it is locked, the finished one of its phase, with its last checkpoint.

    Args:
        weights: the file of the trained model, an output of the stage.
    """
    checkpoint.keep_newest(run, 1)
    md5 = fingerprint.of_file(weights)
    run_record.write(run, {**run_record.read(run), "finished": True, "model_md5": md5})
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
            checkpoint.drop(run)
    except UserError:
        return
