"""Continued pretraining with AdamW or Muon, of models that were pretrained with AdamW or Muon.

A small model is trained on WikiText-2 from scratch with one optimizer, and then on tweets with the
same or the other; weights are kept, the state of the optimizer is not. Vocabulary (that of
WikiText-2), batches, masking and schedule are the same throughout. Each optimizer has the best of
three learning rates, found with the first seed: that of a model trained from scratch by its loss on
WikiText-2, that of a continued one by its loss on tweets. A seed continues its own model.

Processes, budgets, steps that fit and saved runs are as in `bench.training.learning`. The score is
the held-out loss on tweets; that on WikiText-2 shows what was forgotten.

Keys of a job: those of ours in `bench.training.learning`, and `init`, the model to start from;
`initial`, the job that trained it; `heldout_others`, held-out records of the other text;
`keep_model`.
"""

import argparse
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import cli, inputs, jobs
from bench.common.budget import calibrated_steps
from bench.common.project import is_prepared
from bench.common.report import Row
from bench.training import architectures, learning
from bench.training.architectures import BERT, dropout_rates, small_model
from bench.training.baseline import unigram_loss
from bench.training.summary import (
    Run,
    by_name_and_rate,
    curves_table,
    mean_and_deviation,
    save_csv,
    search_rates,
    summarise,
)
from lib.run.atomic import write_text

OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}
FIRST, SECOND = "WikiText-2", "tweets"
_LOSS, _OTHER, _ACCURACY = "records_loss", "other_loss", "records_accuracy"
_POINTS, _CALIBRATIONS = 4, 2

Paths = dict[str, learning.Paths]
"""Text -> paths, by their keys in jobs."""

Start = tuple[str, dict[int, dict[str, Any]]]
"""An optimizer, and the jobs, by seed, whose models it continues, if any."""


def prepare(options: argparse.Namespace) -> Paths:
    """Makes records of both texts with the vocabulary of the first, unless an earlier call has."""
    first = learning.prepare(options.wikitext, options.work)
    marker = options.work / "prepared-tweets"
    settings = f"{options.tweets.absolute()}\n{learning.PREPARED}"
    folder = options.work / "tweets"
    if not is_prepared(marker, settings):
        project = learning.make_project(folder)
        inputs.write_documents("tweets", options.tweets, project.path("data/raw/tweets.txt"))
        shutil.copytree(first["vocabulary"], project.path("data/vocab"))
        project.stages("preprocess", "split")
        learning.make_records(project)
        write_text(marker, settings)
    vocabulary = first["vocabulary"]
    records = {
        text: data / "records"
        for text, data in ((FIRST, Path(vocabulary).parent), (SECOND, folder / "data"))
    }
    return {
        text: {
            "vocabulary": vocabulary,
            "records": str(records[text] / "main"),
            "heldout_records": str(records[text] / "heldout"),
            "heldout_others": str(records[other] / "heldout"),
        }
        for text, other in ((FIRST, SECOND), (SECOND, FIRST))
    }


def shared_job(
    options: argparse.Namespace, paths: Paths, text: str, optimizer: str
) -> dict[str, Any]:
    """The keys that all jobs with an optimizer on a text have in common."""
    minutes = options.cpu_minutes if text == FIRST else options.continue_minutes
    model = small_model(options.architecture) | dropout_rates(0.0)
    return {
        **learning.shared_keys(minutes, model, paths[text]),
        "calibration_seconds": min(20.0, 6 * minutes),
        "points": _POINTS,
        "adam_epsilon": 1e-6,
        "pretrain": {"initialization": "neighbors", "optimizer": optimizer, "xla": False},
    }


def rates_of(options: argparse.Namespace, text: str, optimizer: str) -> list[float]:
    """Learning rates to try."""
    stage = "" if text == FIRST else "continue_"
    return list(getattr(options, f"{stage}{optimizer}_rates"))


def find_steps(options: argparse.Namespace, paths: Paths) -> dict[str, int]:
    """Steps that fit, by text and optimizer, unless an earlier call has found them."""
    shared = {
        f"{text}, {optimizer}": shared_job(options, paths, text, optimizer)
        for text in paths
        for optimizer in OPTIMIZERS
    }

    def count() -> dict[str, list[int]]:
        tried = {name: job | {"name": name, "rate": 1e-3} for name, job in shared.items()}
        folder = partial(jobs.run_folder, options.work, options.architecture)
        train = partial(jobs.train, module=learning.LEARNER)
        return jobs.count_steps(tried, _CALIBRATIONS, train, folder, options.jobs)

    path = options.work / f"continuing-steps-{options.architecture}.json"
    return calibrated_steps(path, shared, count)


class Bench:
    """Runs of both stages."""

    def __init__(self, options: argparse.Namespace, paths: Paths, steps: dict[str, int]) -> None:
        self.options, self._paths, self._steps = options, paths, steps

    def make_job(
        self, optimizer: str, rate: float, seed: int, initial: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A run from scratch on the first text, or one on the second from what a job has made."""
        text, options = SECOND if initial else FIRST, self.options
        title = OPTIMIZERS[optimizer]
        name = f"{initial['name']}, then {title}" if initial else title
        job = shared_job(options, self._paths, text, optimizer) | {
            "name": name,
            "rate": rate,
            "seed": seed,
            "steps": self._steps[f"{text}, {optimizer}"],
            "folder": jobs.run_folder(options.work, options.architecture, name, f"{rate:g}", seed),
        }
        if initial:
            return job | {"init": str(Path(initial["folder"]) / "model"), "initial": initial}
        return job | {"keep_model": True}

    def stage(self, text: str, starts: dict[str, Start]) -> tuple[list[Run], dict[str, float]]:
        """Runs of a stage, with all rates for the first seed, and the best rates.

        Args:
            starts: the runs by their names.
        """

        def train(runs: list[tuple[str, float, int]]) -> list[Run]:
            made = []
            for name, rate, seed in runs:
                optimizer, initial = starts[name]
                made.append(self.make_job(optimizer, rate, seed, initial.get(seed)))
            return jobs.run_parallel(learning.run, made, self.options.jobs)

        rates = {name: rates_of(self.options, text, start[0]) for name, start in starts.items()}
        return search_rates(rates, self.options.seeds, train, _LOSS)


def summarise_best(results: Sequence[Run], rates: dict[str, float], text: str) -> list[Row]:
    """Rows of the best rates, with the losses on the tweets as score, whichever was trained on."""
    score, other = (_LOSS, _OTHER) if text == SECOND else (_OTHER, _LOSS)
    best = [one for one in results if one["job"]["rate"] == rates[one["job"]["name"]]]
    groups = by_name_and_rate(best)
    return [
        row
        | mean_and_deviation(
            [one["points"][-1][other] for one in groups[row["name"], rates[row["name"]]]], "other"
        )
        for row in summarise(best, score, _ACCURACY)
    ]


def make_argument_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("training.continuing", __doc__, required=["wikitext", "tweets"])
    cli.add(parser, "--architecture", BERT, "of all models", architectures.NAMES)
    cli.add(parser, "--cpu-minutes", 3.0, f"budget on {FIRST}")
    cli.add(parser, "--continue-minutes", 1.5, f"budget on {SECOND}")
    cli.add(parser, "--seeds", [1, 2, 3], "of the runs")
    cli.add(parser, "--adamw-rates", [2e-3, 4e-3, 8e-3], f"learning rates of AdamW on {FIRST}")
    cli.add(parser, "--muon-rates", [4e-3, 8e-3, 1.6e-2], f"of Muon on {FIRST}")
    cli.add(parser, "--continue-adamw-rates", [2e-3, 4e-3, 8e-3, 1.6e-2], f"of AdamW on {SECOND}")
    cli.add(parser, "--continue-muon-rates", [4e-3, 8e-3, 1.6e-2, 3.2e-2], f"of Muon on {SECOND}")
    cli.add(parser, "--jobs", 2, "runs at a time")
    return parser


def main() -> None:
    options = cli.parse(make_argument_parser())
    paths = prepare(options)
    unigram = {text: f"{unigram_loss(found):.4f}" for text, found in paths.items()}
    bench = Bench(options, paths, find_steps(options, paths))
    scratch: dict[str, Start] = {title: (key, {}) for key, title in OPTIMIZERS.items()}
    pretrained, rates = bench.stage(FIRST, scratch)
    starts: dict[str, Start] = {}
    for name, rate in rates.items():
        runs = by_name_and_rate(pretrained)[name, rate]
        initial = {run["job"]["seed"]: run["job"] for run in runs}
        starts |= {f"{name}, then {title}": (key, initial) for key, title in OPTIMIZERS.items()}
    continued, continued_rates = bench.stage(SECOND, starts)
    rows = [
        *summarise_best(pretrained, rates, FIRST),
        *summarise_best(continued, continued_rates, SECOND),
        {"name": "unigram baseline", "score": unigram[SECOND], "other": unigram[FIRST]},
    ]
    results = [*pretrained, *continued]
    print(f"{architectures.title(small_model(options.architecture))}; score: loss on {SECOND}")
    save_csv(options, curves_table(results, _LOSS, _ACCURACY))
    options.machine["architecture"] = options.architecture
    cli.finish(options, {"runs": results}, rows=rows)


if __name__ == "__main__":
    cli.run_main(main)
