"""What is learnt in so many minutes of processor time: ours beside Hugging Face's trainer.

One small model on WikiText-2 with masked language modelling only, from scratch, with the same
vocabulary (ours), optimizer, learning rates and seeds. Each (system, rate, seed) is a process of
its own with one thread; its budget counts the processor time of everything from the making of the
model to the last step, but neither imports, nor the tokenization of the text, nor the writing of
models on the way. How many steps that makes is found first, by short runs of both systems beside
each other: this wants a machine that does nothing else. The runs then make that many steps, so that
other work beside them changes nothing but their time. All models are scored by the same code on the
same masked rows.

The numbers of steps and every finished run are kept in the scratch folder, so that a second call
goes on where a first one was stopped.
"""

import argparse
import json
import shutil
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.common import inputs
from bench.common.jobs import environment, in_pool, train
from bench.common.processes import measure
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from bench.training.learnt import COLUMNS, curves_csv, mean_curves, said, summarise
from lib.report.charts.curves import svg
from lib.run.atomic import write_text
from lib.run.errors import UserError

LENGTH, BATCH_SIZE = 128, 32
MODEL = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
}
SYSTEMS = {"ours": "bench.training.learner", "Hugging Face": "bench.peers.hugging_face_trainer"}
PACKAGES = ("numpy", "tensorflow", "torch", "transformers", "accelerate")
_POINTS = 10
_CALIBRATIONS = 3


def prepare(wikitext: Path, work: Path, vocabulary_size: int) -> dict[str, str]:
    """Text, vocabulary and records, by the real stages; once.

    Returns:
        Paths, as jobs have them.
    """
    project_folder = work / "project"
    texts = {split: work / f"{split}.txt" for split in ("train", "valid")}
    # Its content: what it was made with.
    prepared, made_with = work / "prepared", f"{vocabulary_size} rows\n"
    if not prepared.exists() or prepared.read_text(encoding="utf-8") != made_with:
        project = Project(
            project_folder,
            {
                "preprocess": {"input": "data/raw", "document": "blank_line"},
                "vocab": {"size": vocabulary_size},
                "records": {
                    "next_sentence": False,
                    "masking": "dynamic",
                    "packing": True,
                    "dupe_factor": 1,
                    "short_seq_prob": 0.0,
                },
                "phases": {"main": {"max_seq_length": LENGTH}},
            },
        )
        for split in ("train", "valid", "test"):
            raw = project.path(f"data/raw/{split}.txt")
            inputs.wikitext_documents(wikitext / f"{split}.txt", raw)
            if split in texts:
                shutil.copyfile(raw, texts[split])
        project.preprocess()
        project.stage("sample5M", "data/corpus", "data/sample")
        project.stage("vocab", "data/sample", "data/sample", "data/vocab")
        project.stage("split", "data/corpus", "data/shards")
        project.records()
        # The rows to be scored on: a segment each, as the peer could not read packed ones.
        project.set({"records": {"packing": False, "masking": "static"}})
        project.stage("records", "main", "data/shards", "data/vocab", "data/records/heldout")
        write_text(prepared, made_with)
    return {
        "vocabulary": str(project_folder / "data/vocab"),
        "records": str(project_folder / "data/records/main"),
        "text": str(texts["train"]),
        "heldout_records": str(project_folder / "data/records/heldout"),
        "heldout_text": str(texts["valid"]),
    }


def job_of(options: argparse.Namespace, paths: dict[str, str], system: str) -> dict[str, Any]:
    """What all runs of a system share, without `rate`, `seed`, `steps` and `folder`.

    Its keys: `system`; `cpu_seconds`, `calibration_seconds` and `points` (models kept on the way);
    `model` and the optimizer's settings; what to read.
    """
    dropout = {
        "hidden_dropout_prob": options.dropout,
        "attention_probs_dropout_prob": options.dropout,
    }
    return {
        "system": system,
        "cpu_seconds": 60 * options.cpu_minutes,
        "calibration_seconds": min(30.0, 6 * options.cpu_minutes),
        "points": _POINTS,
        "length": LENGTH,
        "batch_size": BATCH_SIZE,
        "warmup": 0.06,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "xla": options.xla,
        "model": MODEL | dropout,
        **paths,
    }


def calibration(job: dict[str, Any]) -> dict[str, Any]:
    return train(job, SYSTEMS[job["system"]])


def calibrate(options: argparse.Namespace, paths: dict[str, str]) -> dict[str, int]:
    """Steps of each system that the minutes are enough for: medians, found once."""
    kept = options.work / "steps.json"
    shared = {system: job_of(options, paths, system) for system in SYSTEMS}
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if found["jobs"] == shared:
            return dict(found["steps"])
    counts: dict[str, list[int]] = {system: [] for system in SYSTEMS}
    for attempt in range(_CALIBRATIONS):
        waiting = [
            shared[system]
            | {
                "rate": options.rates[0],
                "seed": 1 + attempt,
                "steps": None,
                "folder": str(
                    options.work / f"runs/calibration-{attempt}-{system.replace(' ', '-')}"
                ),
            }
            for system in SYSTEMS
        ]
        for system, result in zip(
            SYSTEMS, in_pool(calibration, waiting, options.jobs), strict=True
        ):
            counts[system].append(result["steps"])
        print(f"learning: steps that fit, so far: {counts}", file=sys.stderr)
    steps = {system: round(statistics.median(each)) for system, each in counts.items()}
    write_json(kept, {"jobs": shared, "steps": steps, "found": counts})
    return steps


def jobs(
    options: argparse.Namespace, paths: dict[str, str], steps: dict[str, int]
) -> list[dict[str, Any]]:
    """All runs, the systems in turn."""
    return [
        job_of(options, paths, system)
        | {
            "rate": rate,
            "seed": seed,
            "steps": steps[system],
            "folder": str(options.work / f"runs/{system.replace(' ', '-')}-{rate:g}-{seed}"),
        }
        for seed in options.seeds
        for rate in options.rates
        for system in SYSTEMS
    ]


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains and scores; or takes the result that an earlier call has kept of the same job."""
    folder = Path(job["folder"])
    kept = folder / "result.json"
    if kept.exists():
        result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if result["job"] == job:
            return result
    made = train(job, SYSTEMS[job["system"]])
    models = [point.pop("model") for point in made["points"]]
    command = [sys.executable, "-m", "bench.training.heldout", folder / "job.json", *models]
    measure(command, folder, environment())
    scores = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
    for point, score in zip(made["points"], scores, strict=True):
        point.update(score)
    result = {"job": job, **made}
    shutil.rmtree(folder / "models")
    write_json(kept, result)
    print(f"learning: {said(result)}", file=sys.stderr)
    return result


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.training.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--wikitext", type=Path, required=True, help="folder with train.txt, valid.txt, test.txt"
    )
    parser.add_argument("--cpu-minutes", type=float, default=10.0, help="of a run (default 10)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3])
    parser.add_argument("--dropout", type=float, default=0.1, help="of both (default 0.1)")
    parser.add_argument("--vocabulary-size", type=int, default=8000)
    parser.add_argument("--xla", action="store_true", help="ours compiled by XLA")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--out", type=Path, help="JSON file to write; .csv and .svg beside it")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/learning", help="scratch")
    return parser


def main() -> None:
    options = arguments().parse_args()
    options.work = options.work.absolute()
    try:
        for split in ("train", "valid", "test"):
            path = options.wikitext / f"{split}.txt"
            if not path.is_file():
                raise UserError(f"--wikitext {options.wikitext}: no {path.name} there")
        for package in ("torch", "transformers", "accelerate"):
            if find_spec(package) is None:
                raise UserError(f"{package} is not installed; run make interop")
        options.work.mkdir(parents=True, exist_ok=True)
        before = machine(PACKAGES)
        paths = prepare(options.wikitext, options.work, options.vocabulary_size)
        steps = calibrate(options, paths)
        results = in_pool(run, jobs(options, paths, steps), options.jobs)
    except UserError as error:
        sys.exit(f"learning: error: {error}")
    rows = summarise(results)
    print(table(rows, COLUMNS))
    best = {
        system: min(row["mean"] for row in rows if row["system"] == system) for system in SYSTEMS
    }
    passed = best["ours"] <= best["Hugging Face"]
    print(
        f"best mean of ours {best['ours']:.4f}, of Hugging Face's {best['Hugging Face']:.4f}: "
        f"{'passed' if passed else 'missed'}"
    )
    if options.out:
        write_json(
            options.out,
            {"machine": before, "best": best, "passed": passed, "rows": rows, "runs": results},
        )
        write_text(options.out.with_suffix(".csv"), curves_csv(results))
        curves = mean_curves(results)
        image = svg(
            "WikiText-2: held-out MLM loss, mean of the seeds",
            "minutes of processor time",
            "loss",
            curves,
            dashed=[name for name in curves if not name.startswith("ours")],
        )
        write_text(options.out.with_suffix(".svg"), image)
    if not passed:
        sys.exit("learning: a bar is missed")


if __name__ == "__main__":
    main()
