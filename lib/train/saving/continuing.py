"""Continuing a run on purpose, with another length or learning rate (`make continue`).

The command leaves `continue.json` in the folder of the phase, which the run that it names takes up
once: it copies the last checkpoint of the earlier run, with its models and its record.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from lib.run import cost
from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.train.saving import accepted_code, checkpoint, run_record
from lib.train.saving.identity import CONTINUABLE, Identity, recorded_model
from lib.train.saving.links import link

FILE = "continue.json"


def ask(
    folder: Path, source: Path, identity: Identity, replaced: Mapping[str, str] | None = None
) -> None:
    """Lets the next run of a phase with this identity go on from the last checkpoint of another.

    Args:
        replaced: inputs that may differ, each with what to record of that.
    """
    values = {"source": source.name, "target": identity.digest, "replaced": replaced or {}}
    write_text(folder / FILE, json.dumps(values, indent=1) + "\n")


def asked(run: Path, identity: Identity) -> tuple[Path, dict[str, str]] | None:
    """The run from which this one was asked to go on, and `replaced` of `ask`; None: from none."""
    path = run.parent / FILE
    try:
        values = json.loads(path.read_bytes())
        source, target = str(values["source"]), str(values["target"])
        replaced = dict(values.get("replaced", {}))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not readable; delete it, and run `make continue` again") from None
    return (run.parent / source, replaced) if target == identity.digest else None


def differences(source: Path, identity: Identity) -> dict[str, str]:
    """The inputs and settings in which a run differs: name -> old and new value."""
    record = run_record.read(source)
    pairs = [(record.get("inputs", {}), identity.inputs)]
    settings = record.get("settings", {})
    if "model" in settings:
        model = recorded_model(settings["model"], identity.settings["model"])
        settings = {**settings, "model": model}
    pairs += [(settings, identity.settings)]
    return {
        name: f"{json.dumps(old.get(name))} -> {json.dumps(value)}"
        for old, new in pairs
        for name, value in new.items()
        if old.get(name) != value
    }


def check(
    source: Path, identity: Identity, replaced: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Whether a run can be continued with another identity; returns `differences`.

    Args:
        replaced: see `ask`.

    Raises:
        UserError: it cannot; the message says what to do.
    """
    found = differences(source, identity)
    if replaced:
        found = {name: replaced.get(name, text) for name, text in found.items()}
        found = {name: text for name, text in found.items() if text}
    if wrong := [name for name in found if name not in {*CONTINUABLE, *(replaced or ())}]:
        advice = "; docs/training.md says how to keep the vocabulary" if "vocab" in wrong else ""
        raise UserError(
            f"{source}: cannot be continued: {', '.join(wrong)} differs from the run there; only "
            f"{', '.join(CONTINUABLE)} may, and the text that the records are made from{advice}"
        )
    if not accepted_code.is_accepted(run_record.code_of(source), identity.code):
        raise UserError(
            f"{source}: the training code has changed since; run `make accept` to continue the run "
            "with the present code"
        )
    return found


def take_up(
    run: Path, source: Path, identity: Identity, replaced: Mapping[str, str] | None = None
) -> None:
    """Copies the last checkpoint of a run, its models and its record into the folder of another."""
    if not source.is_dir():
        raise UserError(f"{source}: is gone; run `make continue` again, or delete {FILE} there")
    with checkpoint.exclusive(source), checkpoint.exclusive(run):
        found = check(source, identity, replaced)
        step = checkpoint.newest(source)
        if not step:
            raise UserError(f"{source}: has no checkpoint any more; delete {FILE} next to it")
        run_record.clear(run)
        record = run_record.read(source)
        changes_by_step = {**record.get("continued", {}), f"after_step_{step}": found}
        if "records" in found:
            # The new records are read from their beginning.
            position = -step * record["settings"]["batch_size"]
            record["earlier"] = {**record["earlier"], "sequences": position}
        run_record.write(run, {**record, "continued": changes_by_step})
        if (source / cost.FILE).exists():
            link(source / cost.FILE, run / cost.FILE)
        checkpoint.copy(source, run, step)
    print(f"pretrain: continues the run of {step:,} steps in {source}", file=sys.stderr)
