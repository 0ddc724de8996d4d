"""A ModernBERT and a BERT on a tagging task, pretrained on the same text for the same time.

Both have about as many parameters, the same vocabulary, records, optimizer and learning rate. The
BERT is pretrained for --steps; the ModernBERT makes as many steps as fit into the processor time
that these take, found by short runs of both. Then both, and the ModernBERT without pretraining, are
fine-tuned to tag words, with several seeds. Machines with other load give other numbers of steps.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from bench.common import cli, inputs
from bench.common.project import Project
from bench.common.report import machine, write_json
from bench.training.architectures import BERT, MODERNBERT, model_settings, small_model
from lib.run.errors import UserError

_TASK = "tags"
_CALIBRATION_STEPS = 300
# The part of speech is the fourth column of CoNLL-U.
_WORD_COLUMN, _TAG_COLUMN = 2, 4


def pretrain_settings(
    options: argparse.Namespace, architecture: str, steps: int, calibration: bool
) -> dict[str, Any]:
    """The section `pretrain` of params.yaml."""
    return {
        "model": model_settings(small_model(architecture)),
        "optimizer": "muon",
        "learning_rate": options.rate,
        "steps": steps,
        "batch_size": 32,
        "warmup_steps": 0.05,
        "log_every": 50 if calibration else 100,
        "evaluate_every": steps,
        "max_dev_sequences": 64 if calibration else None,
        "checkpoint_every": steps,
    }


def step_seconds(project: Project, options: argparse.Namespace, architecture: str) -> float:
    """Median duration of a step in a short run, without its first part."""
    settings = pretrain_settings(options, architecture, _CALIBRATION_STEPS, True)
    project.set({"pretrain": settings})
    project.stage("pretrain", "main")
    return project.step_seconds()


def main() -> None:
    parser = cli.make_parser("training.probe_architectures", __doc__)
    cli.add_inputs(parser, "wikitext", required=("wikitext",))
    parser.add_argument(
        "--tagged",
        type=Path,
        required=True,
        help="folder with CoNLL-U files named train and test: their parts of speech are predicted",
    )
    parser.add_argument("--steps", type=int, default=3000, help="of the BERT (default 3000)")
    parser.add_argument("--rate", type=float, default=8e-3, help="of pretraining (default 8e-3)")
    parser.add_argument("--fine-tuning-rate", type=float, default=1e-3, help="default 1e-3")
    parser.add_argument("--seeds", type=int, default=3, help="of fine-tuning (default 3)")
    cli.add_outputs(parser, "probe-architectures")
    options = parser.parse_args()
    cli.check_files(options, "wikitext")
    if not options.tagged.is_dir():
        raise UserError(f"--tagged {options.tagged}: no such folder; give one with CoNLL-U files")
    conditions = machine(["numpy", "tensorflow"])
    task = {
        "kind": "tagging",
        "data": "data/labelled/tags",
        "text_field": _WORD_COLUMN,
        "label_field": _TAG_COLUMN,
        "model": "models/main",
        "baseline": "models/base/bert",
        "epochs": 3,
        "batch_size": 32,
        "learning_rate": options.fine_tuning_rate,
        "max_seq_length": 128,
        "seeds": options.seeds,
    }
    project = Project(
        options.work,
        {
            "preprocess": {"input": "data/raw", "document": "blank_line"},
            "vocab": {"size": 8000},
            "records": {"next_sentence": False, "dupe_factor": 1},
            "phases": {"main": {"max_seq_length": 128}},
            "probe": {"tasks": {_TASK: task}},
        },
    )
    inputs.write_wikitext(options.wikitext, project.path("data/raw/text.txt"))
    project.stages("preprocess", "sample5M", "vocab", "split")
    project.records("main")
    seconds = {name: step_seconds(project, options, name) for name in (BERT, MODERNBERT)}
    steps = {
        BERT: options.steps,
        MODERNBERT: round(options.steps * seconds[BERT] / seconds[MODERNBERT]),
    }
    print(f"probe_architectures: seconds per step {seconds}, steps {steps}", file=sys.stderr)
    losses = {}
    for name in (BERT, MODERNBERT):
        project.set({"pretrain": pretrain_settings(options, name, steps[name], False)})
        project.stage("pretrain", "main")
        results = project.folder / "results/pretrain/main/metrics.json"
        losses[name] = json.loads(results.read_text(encoding="utf-8"))
        if name == BERT:
            shutil.copytree(project.folder / "models/main", project.path("models/base/bert"))
    shutil.copytree(options.tagged, project.path(f"data/labelled/{_TASK}"))
    project.stage("probe", _TASK)
    results = project.folder / "results/probe" / _TASK
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    print((project.folder / "output.log").read_text(encoding="utf-8").strip())
    print((results / "runs.csv").read_text(encoding="utf-8"))
    if options.out:
        found = {"machine": conditions, "steps": steps, "pretraining": losses, "metrics": metrics}
        write_json(options.out, found)


if __name__ == "__main__":
    cli.run_main(main)
