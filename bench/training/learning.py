"""Held-out loss after a budget of processor time: ours against Hugging Face's Trainer.

One small BERT or ModernBERT on WikiText-2, trained from scratch with masked language modelling
only, with the same vocabulary (ours), batches and seeds, each system at the best of three learning
rates, found with the first seed. Ours has the initial weights, optimizer, masking rate and dropout
that this project recommends. Theirs is the stock model of the same sizes with the Trainer's AdamW:

- BERT: `BertForMaskedLM` with 15 % masked and dropout 0.1, as in BERT.
- ModernBERT: `ModernBertForMaskedLM` with 30 % masked and no dropout, as in Warner et al. (2024);
  with eager or sdpa attention, or sdpa compiled by torch.compile, whichever makes most steps.

Each (system, rate, seed) is its own process with one thread and a budget of processor time (see
`bench.common.budget`; with ModernBERT, it does not contain the first steps, in which models are
compiled). The number of steps that fit is found first, by short runs of both systems at the same
time, on a machine that must otherwise be idle. All models are evaluated by the same code on the
same sequences, of which 15 % is masked. Numbers of steps and finished runs are saved in the scratch
folder: if interrupted, call it again to continue.

Keys of a job: `name` (the system), `rate`, `seed`, `steps` (null in a calibration), `folder`;
`cpu_seconds`, `calibration_seconds` and `points` (number of models saved during the run); sizes of
the `model`; settings of the optimizer; `pretrain`, parameters of ours; paths of the inputs. With
ModernBERT also `compilation` (whether the first steps count) and, of theirs, `mode` and `masked`
(fraction of the tokens).
"""

import argparse
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.common import cli, inputs, jobs
from bench.common.budget import calibrated_steps
from bench.common.project import Project, is_prepared
from bench.common.report import read_json, write_json
from bench.training import architectures
from bench.training.architectures import BERT, MODERNBERT, dropout_rates, small_model
from bench.training.baseline import unigram_loss
from bench.training.summary import (
    curves_table,
    describe,
    mean_curves,
    save_chart,
    save_csv,
    search_rates,
    summarise,
    time_to_reach,
)
from lib.run.atomic import write_text
from lib.run.errors import UserError

LENGTH, BATCH_SIZE = 128, 32
MASKED = 0.3  # fraction of our tokens
_VOCABULARY_SIZE = 8000
# Settings with which everything was prepared.
PREPARED = f"vocabulary size {_VOCABULARY_SIZE}\n"


@dataclass(frozen=True)
class Comparison:
    """What depends on the architecture.

    Attributes:
        dropout: theirs.
        maximum_loss, maximum_minutes, minimum_gain: thresholds: our held-out loss at the end, the
            minutes in which we reach theirs at the end, and how far ours ends below theirs.
        peer: further keys of their jobs.
        shared: further keys of all jobs.
        modes: modes to try with theirs; the fastest counts.
    """

    dropout: float
    maximum_loss: float
    maximum_minutes: float
    minimum_gain: float
    peer: Mapping[str, Any]
    shared: Mapping[str, Any]
    modes: tuple[str, ...]


# Jobs of a BERT have no keys besides those of earlier versions, so that their results are kept.
COMPARISONS = {
    BERT: Comparison(0.1, 5.2, 3.0, 0.0, {}, {}, ("",)),
    MODERNBERT: Comparison(
        dropout=0.0,
        maximum_loss=4.3,
        maximum_minutes=math.inf,
        minimum_gain=0.3,
        peer={"masked": 0.3},
        shared={"compilation": False},
        modes=("eager", "sdpa", "compiled"),
    ),
}
OURS, PEER = "ours", "Hugging Face"
LEARNER, _PEER_LEARNER = "bench.training.learner", "bench.peers.hugging_face_trainer"
_LOSS, _ACCURACY = "records_loss", "records_accuracy"  # keys of losses.json
_POINTS = 10
_CALIBRATIONS = 3

Paths = dict[str, str]
"""Paths, by their keys in jobs."""

Fastest = dict[str, dict[str, Any]]
"""System -> `steps` that fit the budget and, if it has several modes, the fastest one's `mode`."""


def make_project(folder: Path) -> Project:
    """A project for records of one text."""
    phase = {"max_seq_length": LENGTH, "init": "data/vocab"}
    params = {
        "vocab": {"size": _VOCABULARY_SIZE},
        "records": {
            "next_sentence": False,
            "masking": "dynamic",
            "packing": True,
            "dupe_factor": 1,
            "short_seq_prob": 0.0,
            "masked_lm_prob": MASKED,
        },
        "phases": {"main": phase, "heldout": phase},
    }
    return Project(folder, params)


def make_records(project: Project) -> None:
    """Makes records for training, and for the evaluation."""
    project.records("main")
    # One segment per sequence, as the peer cannot read packed ones.
    project.set({"records": {"packing": False, "masking": "static", "masked_lm_prob": 0.15}})
    project.records("heldout")


def prepare(wikitext: Path, work: Path) -> Paths:
    """Makes text, vocabulary and records with the real stages, unless an earlier call has.

    Args:
        wikitext: train.txt of WikiText-2.
    """
    sources = {split: wikitext.with_name(f"{split}.txt") for split in ("train", "valid", "test")}
    for source in sources.values():
        if not source.is_file():
            raise UserError(f"--wikitext {wikitext}: no {source.name} next to it; it is needed")
    folder = work / "project"
    texts = {split: work / f"{split}.txt" for split in ("train", "valid")}
    marker = work / "prepared"
    if not is_prepared(marker, PREPARED):
        project = make_project(folder)
        for split, source in sources.items():
            raw = project.path(f"data/raw/{split}.txt")
            inputs.write_wikitext(source, raw)
            if split in texts:
                shutil.copyfile(raw, texts[split])
        project.prepare_text()
        make_records(project)
        write_text(marker, PREPARED)
    return {
        "vocabulary": str(folder / "data/vocab"),
        "records": str(folder / "data/records/main"),
        "text": str(texts["train"]),
        "heldout_records": str(folder / "data/records/heldout"),
        "heldout_text": str(texts["valid"]),
    }


def shared_keys(minutes: float, model: dict[str, Any], paths: Paths) -> dict[str, Any]:
    """The keys that all jobs with a budget have in common."""
    return {
        "cpu_seconds": 60 * minutes,
        "length": LENGTH,
        "batch_size": BATCH_SIZE,
        "warmup": 0.06,
        "weight_decay": 0.01,
        "model": model,
        **paths,
    }


def system_job(options: argparse.Namespace, paths: Paths, system: str) -> dict[str, Any]:
    """The keys that all jobs of a system have in common."""
    comparison = COMPARISONS[options.architecture]
    dropout = 0.0 if system == OURS else comparison.dropout
    model = small_model(options.architecture) | dropout_rates(dropout)
    return {
        "name": system,
        **shared_keys(options.cpu_minutes, model, paths),
        "calibration_seconds": min(30.0, 6 * options.cpu_minutes),
        "points": _POINTS,
        "adam_epsilon": 1e-8,
        "pretrain": {"initialization": "neighbors", "optimizer": "muon", "xla": False},
        **comparison.shared,
        **({} if system == OURS else comparison.peer),
    }


def run_folder(options: argparse.Namespace, *parts: object) -> str:
    # A BERT's folders are those of earlier versions.
    architecture = "" if options.architecture == BERT else options.architecture
    return jobs.run_folder(options.work, architecture, *parts)


def rates(options: argparse.Namespace) -> dict[str, list[float]]:
    """Learning rates to try, by system."""
    return {OURS: options.rates, PEER: options.peer_rates}


def _calibrated(job: dict[str, Any]) -> dict[str, Any]:
    try:
        return _train(job)
    except UserError as error:
        if job.get("mode") != "compiled":
            raise
        cli.progress(f"{job['name']} cannot be compiled: {error}")
        return {"steps": 0}


def _train(job: dict[str, Any]) -> dict[str, Any]:
    return jobs.train(job, _PEER_LEARNER if job["name"] == PEER else LEARNER)


def find_steps(options: argparse.Namespace, paths: Paths) -> Fastest:
    """Calibrates both systems, each of their modes, unless an earlier call has."""
    tried: dict[str, dict[str, Any]] = {}
    for system in (OURS, PEER):
        job = system_job(options, paths, system)
        for mode in [""] if system == OURS else COMPARISONS[options.architecture].modes:
            tried[f"{system}, {mode}" if mode else system] = job | ({"mode": mode} if mode else {})

    def count() -> dict[str, list[int]]:
        first = {system: tried[0] for system, tried in rates(options).items()}
        runs = {name: job | {"rate": first[job["name"]]} for name, job in tried.items()}
        folder = partial(run_folder, options)
        return jobs.count_steps(runs, _CALIBRATIONS, _calibrated, folder, options.jobs)

    suffix = "" if options.architecture == BERT else f"-{options.architecture}"
    fastest: Fastest = {}
    path = options.work / f"steps{suffix}.json"
    for name, steps in calibrated_steps(path, tried, count).items():
        job = tried[name]
        if steps > fastest.get(job["name"], {"steps": 0})["steps"]:
            mode = {"mode": job["mode"]} if "mode" in job else {}
            fastest[job["name"]] = {"steps": steps} | mode
    return fastest


def make_jobs(
    options: argparse.Namespace,
    paths: Paths,
    fastest: Fastest,
    runs: Sequence[tuple[str, float, int]],
) -> list[dict[str, Any]]:
    """Jobs of some (system, rate, seed)."""
    return [
        system_job(options, paths, system)
        | fastest[system]
        | {"rate": rate, "seed": seed}
        | {"folder": run_folder(options, system, f"{rate:g}", seed)}
        for system, rate, seed in runs
    ]


def label(job: Mapping[str, Any]) -> str:
    """Name of a system and its model in the outputs."""
    mode = f", {job['mode']}" if job.get("mode") else ""
    return f"{job['name']}{mode}, {architectures.title(job['model'])}"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains and evaluates, unless an earlier call has saved the result of the same job.

    With the key `keep_model` the last model is kept, in the subfolder `model`.
    """
    folder = Path(job["folder"])
    saved = folder / "result.json"
    if saved.exists() and (found := read_json(saved))["job"] == job:
        return found
    result = {"job": job, **_train(job)}
    models = [point.pop("model") for point in result["points"]]
    jobs.start("bench.training.heldout", job, folder, *models, **jobs.ONE_THREAD)
    for point, score in zip(result["points"], read_json(folder / "losses.json"), strict=True):
        point.update(score)
    if job.get("keep_model"):
        shutil.move(models[-1], folder / "model")
    shutil.rmtree(folder / "models")
    write_json(saved, result)
    cli.progress(describe(result, _LOSS))
    return result


def make_argument_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("training.learning", __doc__, required=["wikitext"])
    cli.add(parser, "--architecture", BERT, "of both sides", architectures.NAMES)
    cli.add(parser, "--cpu-minutes", 10.0, "budget of a run")
    cli.add(parser, "--seeds", [1, 2, 3], "of the runs")
    cli.add(parser, "--rates", [4e-3, 8e-3, 1.6e-2], "learning rates of ours")
    cli.add(parser, "--peer-rates", [5e-4, 1e-3, 2e-3], "learning rates of theirs")
    cli.add(parser, "--jobs", 2, "runs at a time")
    return parser


def main() -> None:
    options = cli.parse(make_argument_parser())
    for package in ("torch", "transformers", "accelerate"):
        if find_spec(package) is None:
            raise UserError(f"{package} is not installed; run make -C bench learning")
    paths = prepare(options.wikitext, options.work)
    unigram = unigram_loss(paths)
    fastest = find_steps(options, paths)

    def train_all(runs: list[tuple[str, float, int]]) -> list[dict[str, Any]]:
        return jobs.run_parallel(run, make_jobs(options, paths, fastest, runs), options.jobs)

    results, found = search_rates(rates(options), options.seeds, train_all, _LOSS)
    means = mean_curves(results, _LOSS)
    best = {name: means[name, rate][-1][1] for name, rate in found.items()}
    minutes = time_to_reach(means[OURS, found[OURS]], best[PEER])
    labelled = [one | {"job": one["job"] | {"name": label(one["job"])}} for one in results]
    rows = summarise(labelled, _LOSS, _ACCURACY, "blocks_loss")
    title = architectures.title(small_model(options.architecture))
    limits, gain = COMPARISONS[options.architecture], best[PEER] - best[OURS]
    comparison = {
        "name": f"lowest mean loss, {title}",
        "ours": best[OURS],
        "at_most": limits.maximum_loss,
        "theirs": best[PEER],
        "gain": gain,
        "at_least": limits.minimum_gain,
        "minutes_to_theirs": minutes,
        "minutes_at_most": None if math.isinf(limits.maximum_minutes) else limits.maximum_minutes,
        "unigram": unigram,
        "passed": best[OURS] <= limits.maximum_loss
        and gain >= limits.minimum_gain
        and minutes <= limits.maximum_minutes,
    }
    save_csv(options, curves_table(labelled, _LOSS, _ACCURACY))
    curves = {
        f"{system}, {rate:g}": curve
        for (system, rate), curve in sorted(mean_curves(labelled, _LOSS).items())
    }
    title = f"WikiText-2, {title}: held-out MLM loss, mean over seeds"
    theirs = [name for name in curves if not name.startswith(OURS)]
    save_chart(options, curves, "CPU minutes", "loss", title, theirs)
    options.machine["architecture"] = options.architecture
    cli.finish(options, {"runs": results}, rows=rows, comparison=[comparison])


if __name__ == "__main__":
    cli.run_main(main)
