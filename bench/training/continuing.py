"""Continued pretraining with AdamW or Muon, of models that were pretrained with AdamW or Muon.

A small model is trained on WikiText-2 from scratch with one optimizer, and then on tweets with the
same or the other; weights are kept, the state of the optimizer is not. Vocabulary (that of
WikiText-2), batches, masking and schedule are the same throughout. Each optimizer has the best of
three learning rates, found with the first seed: that of a model trained from scratch by its loss on
WikiText-2, that of a continued one by its loss on tweets. A seed continues its own model.

Each run is its own process with one thread and a budget of processor time, as in
`bench.training.learning`; steps that fit are found first, on a machine that must otherwise be idle.
The score is the held-out loss on tweets; that on WikiText-2 shows what was forgotten. Numbers of
steps and finished runs are saved in the scratch folder: if interrupted, call it again to continue.

Keys of a job: those of ours in `bench.training.learning`, and `init`, the model to start from;
`initial`, the job that trained it; `heldout_others`, held-out records of the other text;
`keep_model`.
"""

import argparse
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import cli, inputs
from bench.common.budget import calibrated_steps
from bench.common.jobs import run_parallel, train
from bench.common.project import Project
from bench.common.report import machine, table, write_json
from bench.training import architectures, learning
from bench.training.architectures import BERT, dropout_rates, small_model
from bench.training.baseline import unigram_loss
from bench.training.summary import best_rates, by_name_and_rate, curves_csv, summarise
from lib.run.atomic import write_text
from lib.run.errors import UserError

OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}
FIRST, SECOND = "WikiText-2", "tweets"
_LOSS, _OTHER, _ACCURACY = "records_loss", "other_loss", "records_accuracy"
_POINTS, _CALIBRATIONS = 4, 2
_COLUMNS = {
    "name": "optimizers",
    "rate": "rate",
    "seeds": "seeds",
    "score": f"loss on {SECOND}",
    "deviation": "sd",
    "lowest": "lowest",
    "highest": "highest",
    "other": f"loss on {FIRST}",
    "other_deviation": "sd",
    "steps": "steps",
    "cpu_minutes": "CPU min",
}

Paths = dict[str, dict[str, str]]
"""Text -> paths, by their keys in jobs."""


def prepare(options: argparse.Namespace) -> Paths:
    """Makes records of both texts with the vocabulary of the first, unless an earlier call has."""
    first = learning.prepare(options.wikitext.parent, options.work, options.vocabulary_size)
    marker = options.work / "prepared-tweets"
    content = f"{options.tweets.absolute()}\nvocabulary size {options.vocabulary_size}\n"
    folder = options.work / "tweets"
    if not marker.exists() or marker.read_text(encoding="utf-8") != content:
        project = Project(folder, learning.project_settings(options.vocabulary_size))
        inputs.write_documents("tweets", options.tweets, project.path("data/raw/tweets.txt"))
        shutil.copytree(first["vocabulary"], project.path("data/vocab"))
        project.stages("preprocess", "split")
        learning.make_records(project)
        write_text(marker, content)
    shared = {"vocabulary": first["vocabulary"]}
    texts = {FIRST: Path(first["vocabulary"]).parent, SECOND: folder / "data"}
    heldout = {text: str(data / "records/heldout") for text, data in texts.items()}
    return {
        text: {
            **shared,
            "records": str(texts[text] / "records/main"),
            "heldout_records": heldout[text],
            "heldout_others": heldout[other],
        }
        for text, other in ((FIRST, SECOND), (SECOND, FIRST))
    }


def shared_job(
    options: argparse.Namespace, paths: Paths, text: str, optimizer: str
) -> dict[str, Any]:
    """The keys that all jobs with an optimizer on a text have in common."""
    minutes = options.cpu_minutes if text == FIRST else options.continue_minutes
    return {
        "cpu_seconds": 60 * minutes,
        "calibration_seconds": min(20.0, 6 * minutes),
        "points": _POINTS,
        "length": learning.LENGTH,
        "batch_size": learning.BATCH_SIZE,
        "warmup": 0.06,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-6,
        "pretrain": {"initialization": "neighbors", "optimizer": optimizer, "xla": False},
        "model": small_model(options.architecture) | dropout_rates(0.0),
        **paths[text],
    }


def rates_of(options: argparse.Namespace, text: str, optimizer: str) -> list[float]:
    """Learning rates to try."""
    stage = "" if text == FIRST else "continue_"
    return list(getattr(options, f"{stage}{optimizer}_rates"))


def run_folder(options: argparse.Namespace, *parts: object) -> Path:
    name = "-".join(map(str, (options.architecture, *parts)))
    return Path(options.work) / "runs" / name.replace(",", "").replace(" ", "-")


def find_steps(options: argparse.Namespace, paths: Paths) -> dict[str, int]:
    """Steps that fit, by text and optimizer, unless an earlier call has found them."""
    shared = {
        f"{text}, {optimizer}": shared_job(options, paths, text, optimizer)
        for text in paths
        for optimizer in OPTIMIZERS
    }

    def calibrate() -> dict[str, list[int]]:
        jobs = [
            job
            | {
                "name": name,
                "rate": 1e-3,
                "seed": seed,
                "steps": None,
                "folder": str(run_folder(options, "calibration", name, seed)),
            }
            for seed in range(1, 1 + _CALIBRATIONS)
            for name, job in shared.items()
        ]
        counts: dict[str, list[int]] = {name: [] for name in shared}
        for job, result in zip(jobs, run_parallel(_calibrate, jobs, options.jobs), strict=True):
            counts[job["name"]].append(result["steps"])
        print(f"continuing: steps that fit: {counts}", file=sys.stderr)
        return counts

    path = options.work / f"continuing-steps-{options.architecture}.json"
    return calibrated_steps(path, shared, calibrate)


def _calibrate(job: dict[str, Any]) -> dict[str, Any]:
    return train(job, learning.LEARNER)


class Bench:
    """Runs of both stages."""

    def __init__(self, options: argparse.Namespace, paths: Paths, steps: dict[str, int]) -> None:
        self.options, self._paths, self._steps = options, paths, steps

    def make_job(
        self, optimizer: str, rate: float, seed: int, initial: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A run from scratch on the first text, or one on the second from what a job has made."""
        text = SECOND if initial else FIRST
        title = OPTIMIZERS[optimizer]
        name = f"{initial['name']}, then {title}" if initial else title
        job = shared_job(self.options, self._paths, text, optimizer) | {
            "name": name,
            "rate": rate,
            "seed": seed,
            "steps": self._steps[f"{text}, {optimizer}"],
            "folder": str(run_folder(self.options, name, f"{rate:g}", seed)),
        }
        if initial:
            return job | {"init": str(Path(initial["folder"]) / "model"), "initial": initial}
        return job | {"keep_model": True}

    def stage(
        self, text: str, starts: Sequence[tuple[str, dict[int, dict[str, Any]] | None]]
    ) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Runs of a stage with the best rates, and these.

        Args:
            starts: optimizers, with the jobs, by seed, whose models they continue.
        """
        first, *others = self.options.seeds

        def run_all(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return run_parallel(learning.run, jobs, self.options.jobs)

        results = run_all(
            [
                self.make_job(optimizer, rate, first, initial[first] if initial else None)
                for optimizer, initial in starts
                for rate in rates_of(self.options, text, optimizer)
            ]
        )
        rates = best_rates(results, _LOSS)
        jobs = []
        for optimizer, initial in starts:
            name = self.make_job(optimizer, 0.0, first, initial[first] if initial else None)["name"]
            tried = rates_of(self.options, text, optimizer)
            if len(tried) > 1 and rates[name] in (min(tried), max(tried)):
                print(
                    f"continuing: {name}: the best rate, {rates[name]:g}, is at the end of those "
                    "tried",
                    file=sys.stderr,
                )
            jobs += [
                self.make_job(optimizer, rates[name], seed, initial[seed] if initial else None)
                for seed in others
            ]
        return results + run_all(jobs), rates


def summarise_best(
    results: Sequence[dict[str, Any]], rates: dict[str, float], text: str
) -> list[dict[str, Any]]:
    """Rows of the best rates, with the losses on the tweets as score, whichever was trained on."""
    score, other = (_LOSS, _OTHER) if text == SECOND else (_OTHER, _LOSS)
    best = [one for one in results if one["job"]["rate"] == rates[one["job"]["name"]]]
    groups = by_name_and_rate(best)
    rows = summarise(best, score, _ACCURACY)
    for row in rows:
        group = groups[row["name"], rates[row["name"]]]
        others = [one["points"][-1][other] for one in group]
        row["other"] = f"{statistics.mean(others):.4f}"
        row["other_deviation"] = f"{statistics.stdev(others):.4f}" if len(others) > 1 else ""
    return rows


def make_argument_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("training.continuing", __doc__)
    cli.add_inputs(parser, "wikitext", "tweets", required=("wikitext", "tweets"))
    parser.add_argument("--architecture", choices=architectures.NAMES, default=BERT)
    parser.add_argument(
        "--cpu-minutes", type=float, default=3.0, help=f"budget on {FIRST} (default 3)"
    )
    parser.add_argument(
        "--continue-minutes", type=float, default=1.5, help=f"budget on {SECOND} (default 1.5)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    for stage, text, rates in (
        ("", FIRST, {"adamw": [2e-3, 4e-3, 8e-3], "muon": [4e-3, 8e-3, 1.6e-2]}),
        ("continue-", SECOND, {"adamw": [1e-3, 2e-3, 4e-3], "muon": [2e-3, 4e-3, 8e-3]}),
    ):
        for optimizer, title in OPTIMIZERS.items():
            parser.add_argument(
                f"--{stage}{optimizer}-rates",
                type=float,
                nargs="+",
                default=rates[optimizer],
                help=f"of {title} on {text} (default {' '.join(map(str, rates[optimizer]))})",
            )
    parser.add_argument("--vocabulary-size", type=int, default=8000)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2)")
    cli.add_outputs(parser, "continuing")
    return parser


def main() -> None:
    options = make_argument_parser().parse_args()
    options.work = options.work.absolute()
    cli.check_files(options, "wikitext", "tweets")
    for split in ("train", "valid", "test"):
        if not (options.wikitext.parent / f"{split}.txt").is_file():
            raise UserError(
                f"--wikitext {options.wikitext}: no {split}.txt next to it; give train.txt in the "
                "WikiText-2 folder"
            )
    options.work.mkdir(parents=True, exist_ok=True)
    conditions = machine(("numpy", "tensorflow"))
    paths = prepare(options)
    unigram = {
        text: unigram_loss(
            Path(found["records"]).parent.parent / "shards/train",
            Path(found["heldout_records"]),
            Path(found["vocabulary"]),
        )
        for text, found in paths.items()
    }
    bench = Bench(options, paths, find_steps(options, paths))
    pretrained, rates = bench.stage(FIRST, [(optimizer, None) for optimizer in OPTIMIZERS])
    initial = {
        name: {
            one["job"]["seed"]: one["job"]
            for one in pretrained
            if (one["job"]["name"], one["job"]["rate"]) == (name, rate)
        }
        for name, rate in rates.items()
    }
    continued, continued_rates = bench.stage(
        SECOND,
        [(optimizer, jobs) for jobs in initial.values() for optimizer in OPTIMIZERS],
    )
    rows = [
        *summarise_best(pretrained, rates, FIRST),
        *summarise_best(continued, continued_rates, SECOND),
    ]
    baseline = {
        "name": "unigram baseline",
        "score": f"{unigram[SECOND]:.4f}",
        "other": f"{unigram[FIRST]:.4f}",
    }
    print(architectures.title(small_model(options.architecture)))
    print(table([*rows, baseline], _COLUMNS))
    if options.out:
        write_json(
            options.out,
            {
                "machine": conditions,
                "architecture": options.architecture,
                "unigram": unigram,
                "rows": rows,
                "runs": [*pretrained, *continued],
            },
        )
        curves = curves_csv([*pretrained, *continued], _LOSS, _ACCURACY)
        write_text(options.out.with_suffix(".csv"), curves)


if __name__ == "__main__":
    cli.run_main(main)
