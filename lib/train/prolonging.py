"""Longer runs that go on from the last state of a shorter one, of the same phase.

A phase with the schedule `constant` keeps its last state (`lib.train.saving.kept_state`). If a new
run of the phase differs from that one only in length and later learning rates, so that the steps
made are the same to the bit, it goes on from there. After 2,000 steps:

    steps: 3000                                           goes on
    steps: 3000, schedule: polynomial, decay_steps: 500   goes on: the rate falls after step 2,500
    steps: 3000, schedule: polynomial                     step 0: the rate would have fallen before
    steps: 3000, seed: 2                                  step 0

The state is on this machine if the phase was trained here, or as an output in DVC's cache if it was
pulled. DVC deletes the outputs of a stage before it runs the stage, but dvc.lock still has them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml
from pydantic import ValidationError

from lib.params import Pretrain
from lib.run import cost
from lib.run.atomic import remove
from lib.run.phases import run_length
from lib.train.learning_rates import learning_rates
from lib.train.saving import (
    accepted_code,
    checkpoint,
    continuing,
    kept_state,
    run_record,
    runs,
)
from lib.train.saving.identity import RATES, Identity
from lib.train.saving.links import link
from lib.train.saving.saved_models import STATE

# A state has more files than this; without one there is a note.
_FEWEST_FILES = 2


def prolong(
    run: Path,
    identity: Identity,
    settings: Pretrain,
    sequences: int,
    workers: int,
    output: Path,
) -> None:
    """Gives a run without checkpoints those of a shorter run that it would have begun with.

    Args:
        run: its folder.
        sequences: training sequences in the records.
        workers: number of workers, on which the order of the records may depend.
        output: the folder of the phase's state, `models/state/PHASE`.
    """
    with checkpoint.exclusive(run):
        if checkpoint.steps(run):
            return
        found = [
            (checkpoint.steps(folder)[-1], folder)
            for folder in _states(run, output)
            if _begins(folder, identity, settings, sequences, workers)
        ]
        if found:
            step, folder = max(found, key=lambda each: each[0])
            _take_up(run, folder, step)
            names = ", ".join(continuing.differences(folder, identity))
            print(
                f"pretrain: goes on from step {step:,}, the last one of a run that differs in "
                f"{names} only",
                file=sys.stderr,
            )
        remove(_checked_out(run))


def _checked_out(run: Path) -> Path:
    # Under a name that is removed by the next run of the phase if this process is killed.
    return run.with_name(".state.dropped")


def _states(run: Path, output: Path) -> Iterator[Path]:
    """Folders with a state of the phase: of its finished run, its output, and DVC's cache."""
    for folder in (run.parent / runs.FINISHED / checkpoint.MODELS / STATE, output):
        if kept_state.has_state(folder):
            yield folder
    target = _checked_out(run)
    if not kept_state.has_state(output) and _from_cache(output, target):
        yield target


def _begins(
    folder: Path, identity: Identity, settings: Pretrain, sequences: int, workers: int
) -> bool:
    """Whether the run in a folder made the same steps as the first ones of this run would be."""
    record = run_record.read(folder)
    step = checkpoint.steps(folder)[-1]
    if not record or record.get("total_steps") != step:
        return False
    differing = continuing.differences(folder, identity)
    if not differing or not differing.keys() <= set(RATES):
        return False
    try:
        before = Pretrain.model_validate(
            {**settings.model_dump(), **{key: record["settings"].get(key) for key in RATES}}
        )
        rates = [learning_rates(each, *run_length(each, sequences)) for each in (before, settings)]
    except (ValidationError, ValueError):
        return False
    if step > run_length(settings, sequences)[0]:
        return False
    if any(rates[0](number) != rates[1](number) for number in range(1, step + 1)):
        return False
    if kept_state.number(folder, "workers") != workers:
        return False
    if reason := checkpoint.damage(folder, step):
        print(f"pretrain: {folder}: damaged state ({reason}), not used", file=sys.stderr)
        return False
    if not accepted_code.is_accepted(record["code"], identity.code):
        print(
            f"pretrain: the training code has changed since the {step:,} steps from which this run "
            "could go on: it starts at step 0 (to go on instead, stop, restore the outputs with "
            "`dvc checkout`, run `make accept`, and repeat the command)",
            file=sys.stderr,
        )
        return False
    return True


def _take_up(run: Path, folder: Path, step: int) -> None:
    run_record.clear(run)
    run_record.write(run, run_record.read(folder))
    # Known on the machine only that trained it.
    finished = run.parent / runs.FINISHED
    if folder.is_relative_to(finished) and (finished / cost.FILE).exists():
        link(finished / cost.FILE, run / cost.FILE)
    checkpoint.copy(folder, run, step)


def _from_cache(output: Path, target: Path) -> bool:
    """Checks a phase's state out of DVC's cache into a folder; False if there is none."""
    with suppress(OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, KeyError):
        lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
        outs = lock["stages"][f"pretrain@{output.name}"]["outs"]
        (out,) = (out for out in outs if out["path"] == output.as_posix())
        if out["nfiles"] < _FEWEST_FILES:
            return False
        cache = _cache()
        try:
            files = json.loads(_object(cache, out["md5"]).read_bytes())
            remove(target)
            for file in files:
                path = target / file["relpath"]
                path.parent.mkdir(parents=True, exist_ok=True)
                link(_object(cache, file["md5"]), path)
        except FileNotFoundError:
            print(
                f"pretrain: {output}: dvc.lock has the last state of an earlier run, but DVC's "
                f"cache has not; if this run should go on from it, stop, get it with `dvc fetch "
                f"{output}`, and repeat the command",
                file=sys.stderr,
            )
            return False
        return kept_state.has_state(target)
    return False


def _cache() -> Path:
    """The folder of DVC's cache.

    Raises:
        OSError: DVC cannot tell.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(done.stderr)
    return Path(done.stdout.strip())


def _object(cache: Path, md5: str) -> Path:
    return cache / "files/md5" / md5[:2] / md5[2:]
