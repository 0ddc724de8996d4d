"""BERT and ModernBERT over many tokens: whether a gap between short runs lasts.

Four models of 4 layers of 256 are trained on the same records of the same text, with the real
stages: a BERT as in 2018 (normal initial weights, AdamW, 15 % masked, dropout), a BERT with what
helps short runs (`neighbors`, Muon, 30 % masked, no dropout), and a ModernBERT with AdamW and with
Muon, otherwise alike. Dev masks (15 % of the tokens) are the same for all. Each has one seed and
one learning rate.

A run is a single-threaded process with checkpoints: if interrupted, call it again to continue. The
duration of a step is measured first, one run at a time, on a machine that must otherwise be idle;
minutes are steps times this duration, whatever else the machine did during the run. A call with
--report only prints what the runs have reached so far.
"""

import argparse
import csv
import json
import shutil
from typing import Any

from bench.common import cli
from bench.common.jobs import ONE_THREAD, run_parallel
from bench.common.project import RAW, Project, is_prepared
from bench.common.report import table
from bench.training.architectures import BERT, MODERNBERT, dropout_rates
from bench.training.summary import save_chart, save_csv
from lib.report.training import curves_folder
from lib.run.atomic import write_text

LENGTH, BATCH_SIZE = 128, 32
_VOCABULARY_SIZE = 16_000
TOKENS_PER_STEP = LENGTH * BATCH_SIZE
_CALIBRATION = {"steps": 100, "log_every": 20, "evaluate_every": 100, "max_dev_sequences": 8}


def _arm(
    architecture: str, intermediate: int, dropout: float, masked: float, **settings: Any
) -> dict[str, Any]:
    """Sections of params.yaml that make a run what it is."""
    model = {
        "architecture": architecture,
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": intermediate,
        "max_position_embeddings": 512,
        **dropout_rates(dropout),
    }
    return {
        "pretrain": {"model": model, **settings},
        "phases": {"main": {"masked_lm_prob": masked}},
    }


# A layer of either architecture has about 790,000 parameters.
ARMS: dict[str, dict[str, Any]] = {
    "BERT of 2018": _arm(
        BERT, 1024, 0.1, 0.15, initialization="normal", optimizer="adamw", learning_rate=1e-3
    ),
    "BERT, neighbors, Muon": _arm(
        BERT, 1024, 0.0, 0.3, initialization="neighbors", optimizer="muon", learning_rate=4e-3
    ),
    "ModernBERT, AdamW": _arm(
        MODERNBERT, 684, 0.0, 0.3, initialization="neighbors", optimizer="adamw", learning_rate=2e-3
    ),
    "ModernBERT, Muon": _arm(
        MODERNBERT, 684, 0.0, 0.3, initialization="neighbors", optimizer="muon", learning_rate=4e-3
    ),
}


def prepare(options: argparse.Namespace) -> dict[str, Project]:
    """A project per arm, with the same text, vocabulary and records; earlier ones are kept."""
    shared: dict[str, Any] = {
        "preprocess": RAW,
        "vocab": {"size": _VOCABULARY_SIZE},
        "records": {
            "masked_lm_prob": 0.15,
            "next_sentence": False,
            "masking": "dynamic",
            "packing": True,
            "dupe_factor": 1,
            "short_seq_prob": 0.0,
        },
        "phases": {"main": {"max_seq_length": LENGTH, "init": "data/vocab"}},
        "pretrain": {
            "steps": round(options.tokens / TOKENS_PER_STEP),
            "batch_size": BATCH_SIZE,
            "microbatch_size": None,
            "warmup_steps": 0.03,
            "precision": "float32",
            "xla": False,
            "evaluate_every": 1000,
            "max_dev_sequences": 2000,
            "checkpoint_every": 500,
        },
    }
    projects: dict[str, Project] = {}
    for name, arm in ARMS.items():
        folder = options.work / name.replace(",", "").replace(" ", "-")
        settings = json.dumps([str(options.articles.absolute()), shared, arm], indent=2)
        marker = folder / "prepared"
        if is_prepared(marker, settings):
            project = Project(folder)
        else:
            project = Project(folder, shared)
            project.set(arm)
            if projects:
                project.copy_text(next(iter(projects.values())).folder)
            else:
                shutil.copyfile(options.articles, project.path("data/raw/articles.txt"))
                project.prepare_text()
            project.records("main")
            write_text(marker, settings)
        project.environment |= ONE_THREAD
        projects[name] = project
    return projects


def _train(job: dict[str, Any]) -> dict[str, Any]:
    project: Project = job["project"]
    if not (project.folder / "finished").exists():
        project.pretrain()
        write_text(project.folder / "finished", "")
        cli.progress(f"{job['name']}: finished")
    return job


def dev_curve(project: Project, measure: str) -> dict[int, float]:
    """Step -> value, at the evaluations that a run has made so far."""
    path = curves_folder(project.folder / "results", "main") / f"dev/{measure}.tsv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            int(row["step"]): float(row[measure]) for row in csv.DictReader(stream, delimiter="\t")
        }


def report(
    options: argparse.Namespace, projects: dict[str, Project], seconds: dict[str, float]
) -> None:
    losses = {name: dev_curve(project, "mlm_loss") for name, project in projects.items()}
    losses = {name: curve for name, curve in losses.items() if curve}
    if not losses:
        print("no run has made an evaluation yet")
        return
    rows = [
        {"million_tokens": f"{step * TOKENS_PER_STEP / 1e6:.1f}"}
        | {name: f"{curve[step]:.3f}" for name, curve in losses.items() if step in curve}
        for step in sorted({step for curve in losses.values() for step in curve})
    ]
    print(table(rows))
    cli.save(options, step_seconds=seconds)
    lines: list[list[object]] = [
        ["model", "step", "tokens", "cpu_minutes", "dev_loss", "dev_accuracy"]
    ]
    for name, curve in losses.items():
        accuracies = dev_curve(projects[name], "mlm_accuracy")
        for step, loss in curve.items():
            cost = [step, step * TOKENS_PER_STEP, f"{step * seconds[name] / 60:.1f}"]
            lines.append([name, *cost, f"{loss:.5f}", f"{accuracies[step]:.5f}"])
    save_csv(options, lines)
    for unit, scale in (
        ("million tokens", dict.fromkeys(losses, TOKENS_PER_STEP / 1e6)),
        ("CPU minutes", {name: seconds[name] / 60 for name in losses}),
    ):
        curves = {
            name: [(step * scale[name], loss) for step, loss in curve.items()]
            for name, curve in losses.items()
        }
        suffix = f".{unit.split()[-1]}.svg"
        title = "4 layers of 256: MLM loss, nats"
        save_chart(options, curves, unit, "dev loss", title, suffix=suffix)


def main() -> None:
    parser = cli.make_parser("training.long_run", __doc__, required=["articles"])
    cli.add(parser, "--tokens", 1e8, "per run")
    cli.add(parser, "--jobs", 2, "runs at a time")
    parser.add_argument("--report", action="store_true", help="only what has been reached so far")
    options = cli.parse(parser)
    projects = prepare(options)
    jobs = [{"name": name, "project": project} for name, project in projects.items()]
    measured = run_parallel(lambda job: job["project"].calibrate(_CALIBRATION), jobs, 1)
    seconds = {job["name"]: found for job, found in zip(jobs, measured, strict=True)}
    if not options.report:
        run_parallel(_train, jobs, options.jobs)
    report(options, projects, seconds)


if __name__ == "__main__":
    cli.run_main(main)
