"""Continues a training run on purpose, with another length or learning rate: `make continue`.

The checkpoint of the last finished run of a phase, or of one that has not finished, becomes the
start of the run of the present params.yaml: raise phases.PHASE.steps, or change the learning rate,
first. The next `dvc repro` goes on from there, once. What changed is in
results/pretrain/PHASE/metrics.json and in the model card. Only the settings of length and rate may
differ, and the text of the records, if they were made with the same settings and the same
vocabulary; initial weights, sizes, batches and the seed must be the same.
"""

from pathlib import Path

from lib.model.config import config_from_record
from lib.params import load_params
from lib.records.manifest import MANIFEST, Manifest, read_manifest, record_settings
from lib.run import fingerprint
from lib.run.atomic import new_directory
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.run.paths import RECORDS, STATES, VOCAB
from lib.run.phases import run_length, training_settings
from lib.train.saving import checkpoint, continuing, kept_state, run_record, runs
from lib.train.saving.identity import Identity, identify
from lib.train.saving.links import link
from lib.train.saving.tokenizer_files import digests_of
from lib.vocab.loading import load_tokenizer


def main() -> None:
    parser = new_parser("lib.commands.continue_run", __doc__)
    parser.add_argument("phase", help="its name in params.yaml")
    with one_line_errors("continue"):
        print(f"continue: {continue_run(parser.parse_args().phase)}")


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
    if source is None and kept_state.has_state(STATES / phase):
        # An output, for example pulled: DVC deletes it before it runs the stage.
        source = folder / runs.FINISHED
        with new_directory(source) as temporary:
            link(STATES / phase, temporary)
    if source is None:
        raise UserError(f"{folder}: no checkpoint of a run of phase {phase}; start one: dvc repro")
    replaced = replaced_inputs(source, records, manifest, identity)
    found = continuing.check(source, identity, replaced)
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
    continuing.ask(folder, source, identity, replaced)
    changed = ", ".join(f"{name} {text}" for name, text in found.items())
    return f"the next dvc repro goes on from step {made:,} of {source} with {changed}"


def replaced_inputs(
    source: Path, records: Path, manifest: Manifest, identity: Identity
) -> dict[str, str]:
    """Inputs that may differ from those of an earlier run, because only the text has changed.

    Returns:
        What to record of each: of the records their number; of the folder of the vocabulary, where
        the vocabulary itself is the same, nothing.
    """
    found = continuing.differences(source, identity)
    record = run_record.read(source)
    if "records" not in found or record.get("record_settings") != record_settings(records):
        return {}
    before, now = record["training_sequences"], manifest.splits["train"].sequences
    replaced = {"records": f"{before:,} -> {now:,} training sequences"}
    config = config_from_record(record["config"])
    if digests_of(config, load_tokenizer(VOCAB)) == record["tokenizer"]:
        # For example, data/vocab has the number of occurrences of each token.
        replaced["vocab"] = ""
        if record["from_scratch"]:
            replaced["init"] = ""
    return replaced


if __name__ == "__main__":
    main()
