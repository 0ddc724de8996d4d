"""Exports the models of a run that has not finished: killed, stopped, diverged, or still training.

The newest readable checkpoint becomes models/unfinished/PHASE/last, and the best model up to it
models/unfinished/PHASE/best: Hugging Face model directories, which are no output of the pipeline.
Nothing of the run is changed.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import safe_open

from lib.checkpoints.huggingface import write_model
from lib.model.config import config_from_record
from lib.run.atomic import new_directory
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.run.paths import UNFINISHED_MODELS
from lib.train.saving import checkpoint, digests, run_record, runs
from lib.train.saving.saved_models import best_model

_ATTEMPTS = 5


def main() -> None:
    parser = new_parser("lib.commands.finish", __doc__)
    parser.add_argument("phase", help="its name in params.yaml")
    phase = parser.parse_args().phase
    with one_line_errors("finish"):
        for line in finish(phase, UNFINISHED_MODELS / phase):
            print(f"finish: {line}")


def finish(phase: str, target: Path) -> Iterator[str]:
    """Exports the models of the run of a phase that was trained last.

    Args:
        target: a folder that gets the folders `last` and `best`.

    Yields:
        Lines about what was written and left out.

    Raises:
        UserError: there is no run with a readable checkpoint, or the disk is full.
    """
    folder = runs.phase_folder(phase)
    for attempt in range(_ATTEMPTS):
        run = runs.last_trained(runs.unfinished(folder))
        if run is None:
            raise UserError(
                f"{folder}: no unfinished run of phase {phase} has a checkpoint (a finished run "
                f"has its models in models/{phase} and models/saved/{phase})"
            )
        try:
            lines = _export(phase, run, target)
        except FileNotFoundError:
            # While it trains, it replaces its checkpoints.
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        yield from lines
        return


def _export(phase: str, run: Path, target: Path) -> list[str]:
    lines = []
    record = run_record.read(run)
    if digests.difference(run / runs.TOKENIZER, record.get("tokenizer", {})) is not None:
        raise UserError(
            f"{run}: {run_record.RECORD} or the tokenizer is damaged; run the same command as "
            "before, which writes them again"
        )
    step = 0
    for step in reversed(checkpoint.steps(run)):
        reason = checkpoint.damage(run, step)
        if reason is None:
            break
        if not (run / f"step-{step}").is_dir():
            raise FileNotFoundError(run / f"step-{step}")
        lines.append(f"{run}/step-{step}: damaged checkpoint ({reason}), left out")
    else:
        raise UserError(
            f"{run}: all checkpoints are damaged ({reason})" if step else f"{run}: gone"
        )
    models = checkpoint.models_of(run, step)
    config = config_from_record(record["config"])
    facts: dict[str, Any] = {}
    with safe_open(run / f"step-{step}" / checkpoint.ARRAYS, framework="numpy") as file:
        weights = {each.name: file.get_tensor(each.name) for each in config.parameter_table()}
        names = file.keys()
        for name in names:
            if name.startswith(("final/", "best/")):
                facts[name.split("/")[-1]] = float(file.get_tensor(name))
    with new_directory(target) as temporary:
        last = temporary / "last"
        shutil.copytree(run / runs.TOKENIZER, last)
        # Earlier versions had the first of them only.
        ids = record.get("special_ids") or {"pad_token_id": record["pad_token_id"]}
        write_model(last, config, weights, ids)
        best = best_model(int(facts["step"]))
        expected = models.get(best)
        if expected is not None:
            with suppress(shutil.Error):
                shutil.copytree(run / checkpoint.MODELS / best, temporary / "best")
            if digests.difference(temporary / "best", expected):
                raise FileNotFoundError(run / checkpoint.MODELS / best)
    loss = facts.get("dev_mlm_loss")
    evaluated = f"dev MLM loss {loss:.3f} when last evaluated" if loss else "not evaluated yet"
    lines.append(
        f"{phase}: step {step:,} of {record['total_steps']:,}, {evaluated} -> {target / 'last'}"
    )
    if expected is not None:
        lines.append(
            f"{phase}: best model so far, step {int(facts['step']):,}, dev MLM loss "
            f"{facts['loss']:.3f} -> {target / 'best'}"
        )
    return lines


if __name__ == "__main__":
    main()
