"""A ModernBERT and a BERT on a tagging task, pretrained on the same text for the same time.

Both have about as many parameters, the same vocabulary, records, optimizer and learning rate. The
BERT is pretrained for --steps; the ModernBERT makes as many steps as fit into the processor time
that these take, found by short runs of both. Then both, and the ModernBERT without pretraining, are
fine-tuned to tag words, with several seeds. Machines with other load give other numbers of steps.
"""

import shutil
from pathlib import Path

from bench.common import cli, inputs
from bench.common.project import Project
from bench.training.architectures import BERT, MODERNBERT, model_settings, small_model
from lib.run.errors import UserError

_TASK = "tags"
_CALIBRATION_STEPS = 300


def pretrain(
    project: Project, rate: float, architecture: str, steps: int, calibration: bool
) -> None:
    settings = {
        "model": model_settings(small_model(architecture)),
        "optimizer": "muon",
        "learning_rate": rate,
        "steps": steps,
        "batch_size": 32,
        "warmup_steps": 0.05,
        "log_every": 50 if calibration else 100,
        "evaluate_every": steps,
        "max_dev_sequences": 64 if calibration else None,
        "checkpoint_every": steps,
    }
    project.set({"pretrain": settings})
    project.pretrain()


def main() -> None:
    parser = cli.make_parser("training.probe_architectures", __doc__, required=["wikitext"])
    parser.add_argument(
        "--tagged",
        type=Path,
        required=True,
        help="folder with CoNLL-U files named train and test: their parts of speech are predicted",
    )
    cli.add(parser, "--steps", 3000, "steps of the BERT")
    cli.add(parser, "--rate", 8e-3, "learning rate of pretraining")
    cli.add(parser, "--fine-tuning-rate", 1e-3, "learning rate of fine-tuning")
    cli.add(parser, "--seeds", 3, "of fine-tuning")
    options = cli.parse(parser)
    if not options.tagged.is_dir():
        raise UserError(f"--tagged {options.tagged}: no such folder; give one with CoNLL-U files")
    task = {
        "kind": "tagging",
        "data": "data/labelled/tags",
        "text_field": 2,
        "label_field": 4,  # the part of speech
        "model": "models/main",
        "baseline": "models/base/bert",
        "epochs": 3,
        "batch_size": 32,
        "learning_rate": options.fine_tuning_rate,
        "max_seq_length": 128,
        "seeds": options.seeds,
    }
    params = {
        "vocab": {"size": 8000},
        "records": {"next_sentence": False, "dupe_factor": 1},
        "phases": {"main": {"max_seq_length": 128}},
        "probe": {"tasks": {_TASK: task}},
    }
    project = Project(options.work, params)
    inputs.write_wikitext(options.wikitext, project.path("data/raw/text.txt"))
    project.prepare_text()
    project.records()
    seconds = {}
    for name in (BERT, MODERNBERT):
        pretrain(project, options.rate, name, _CALIBRATION_STEPS, True)
        seconds[name] = project.step_seconds()
    fitting = round(options.steps * seconds[BERT] / seconds[MODERNBERT])
    steps = {BERT: options.steps, MODERNBERT: fitting}
    cli.progress(f"seconds per step {seconds}, steps {steps}")
    losses = {}
    for name in (BERT, MODERNBERT):
        pretrain(project, options.rate, name, steps[name], False)
        losses[name] = project.metrics("pretrain/main")
        if name == BERT:
            shutil.copytree(project.folder / "models/main", project.path("models/base/bert"))
    shutil.copytree(options.tagged, project.path(f"data/labelled/{_TASK}"))
    metrics = project.probe(_TASK)
    cli.finish(options, {"steps": steps, "pretraining": losses, "metrics": metrics})


if __name__ == "__main__":
    cli.run_main(main)
