"""Continues a training run on purpose, with another length or learning rate: `make continue`.

The checkpoint of the last finished run of a phase, or of one that has not finished, becomes the
start of the run of the present params.yaml: raise phases.PHASE.steps, or change the learning rate,
first. The next `dvc repro` goes on from there, once. What changed is in
results/pretrain/PHASE/metrics.json and in the model card. Only the settings of length and rate may
differ; records, vocabulary, initial weights, sizes, batches and the seed must be the same.
"""

import argparse
import sys
from pathlib import Path

from lib.params import load_params
from lib.records.manifest import MANIFEST, read_manifest
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.run.paths import RECORDS, VOCAB
from lib.run.phases import run_length, training_settings
from lib.train.saving import checkpoint, continuing, runs
from lib.train.saving.identity import identify


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.continue_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("phase", help="its name in params.yaml")
    try:
        print(f"continue: {continue_run(parser.parse_args().phase)}")
    except (UserError, OSError) as error:
        sys.exit(f"continue: error: {error}")


def continue_run(phase: str) -> str:
    """Lets the next run of a phase go on from the last checkpoint; returns a line about it.

    Raises:
        UserError: there is none that could be continued with the present parameters.
    """
    params = load_params()
    params.check_phase(phase)
    settings = training_settings(params.pretrain, params.phases[phase])
    records = RECORDS / phase
    manifest = read_manifest(records)
    identity = identify(
        settings,
        fingerprint.of_file(records / MANIFEST),
        Path(params.phases[phase].init),
        VOCAB,
    )
    folder = runs.phase_folder(phase)
    source = runs.last_trained([folder / runs.FINISHED, *runs.unfinished(folder)])
    if source is None:
        raise UserError(f"{folder}: no checkpoint of a run of phase {phase}; start one: dvc repro")
    found = continuing.check(source, identity)
    if not found:
        then = "dvc repro resumes it"
        if source.name == runs.FINISHED:
            then = f"raise phases.{phase}.steps, or change its learning rate, first"
        raise UserError(f"{source}: was trained with the same parameters; {then}")
    steps, _ = run_length(settings, manifest.splits["train"].sequences)
    made = checkpoint.steps(source)[-1]
    if steps <= made:
        raise UserError(
            f"phases.{phase}.steps: {steps:,} steps, but {source} has made {made:,}; set more"
        )
    continuing.ask(folder, source, identity)
    changed = ", ".join(f"{name} {text}" for name, text in found.items())
    return f"the next dvc repro goes on from step {made:,} of {source} with {changed}"


if __name__ == "__main__":
    main()
