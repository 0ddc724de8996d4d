"""Held-out loss after a budget of processor time: ours against Hugging Face's Trainer.

One small BERT or ModernBERT on WikiText-2, trained from scratch with masked language modelling
only, with the same vocabulary (ours), batches and seeds, each system at the best of three learning
rates, found with the first seed. Ours has the initial weights, optimizer, masking rate and dropout
that this project recommends. Theirs is the stock model of the same sizes with the Trainer's AdamW:

- BERT: `BertForMaskedLM` with 15 % masked and dropout 0.1, as in BERT.
- ModernBERT: `ModernBertForMaskedLM` with 30 % masked and no dropout, as in Warner et al. (2024);
  with eager or sdpa attention, or sdpa compiled by torch.compile, whichever makes most steps.

Each (system, rate, seed) is its own process with one thread. Its budget counts the processor time
from building the model to the last step, without imports, the tokenization of the text and the
saving of models; with ModernBERT, also without the first steps, in which models are compiled. The
number of steps that fit is found first, by short runs of both systems at the same time, on a
machine that must otherwise be idle. The training runs then make that number of steps, so that other
load affects nothing but their duration. All models are evaluated by the same code on the same
sequences, of which 15 % is masked.

Numbers of steps and finished runs are saved in the scratch folder: if interrupted, call it again to
continue. Both architectures can share a scratch folder.

Keys of a job: `name` (the system), `rate`, `seed`, `steps` (null in a calibration), `folder`;
`cpu_seconds`, `calibration_seconds` and `points` (number of models saved during the run); sizes of
the `model`; settings of the optimizer; `pretrain`, parameters of ours; paths of the inputs. With
ModernBERT also `compilation` (whether the first steps count) and, of theirs, `mode`, `masked`
(fraction of the tokens) and `sparse` (MLM head at masked positions only).
"""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.common import cli, inputs
from bench.common.budget import calibrated_steps
from bench.common.jobs import environment, run_parallel, train
from bench.common.processes import measure
from bench.common.project import Project
from bench.common.report import machine, table, write_json
from bench.training import architectures
from bench.training.architectures import BERT, MODERNBERT, dropout_rates, small_model
from bench.training.baseline import unigram_loss
from bench.training.summary import (
    best_rates,
    curves_csv,
    describe,
    mean_curves,
    summarise,
    time_to_reach,
)
from lib.report.charts.svg import line_chart
from lib.run.atomic import write_text
from lib.run.errors import UserError

LENGTH, BATCH_SIZE = 128, 32
MASKED = 0.3  # fraction of our tokens


@dataclass(frozen=True)
class Comparison:
    """What depends on the architecture.

    Attributes:
        dropout: theirs, by default.
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
        0.0,
        4.3,
        math.inf,
        0.3,
        {"masked": 0.3},
        {"compilation": False},
        ("eager", "sdpa", "compiled"),
    ),
}
OURS, PEER, SPARSE = "ours", "Hugging Face", "Hugging Face, sparse"
LEARNER, _PEER_LEARNER = "bench.training.learner", "bench.peers.hugging_face_trainer"
PACKAGES = ("numpy", "tensorflow", "torch", "transformers", "accelerate")
COLUMNS = {
    "name": "trainer and model",
    "rate": "rate",
    "seeds": "seeds",
    "score": "held-out loss",
    "lowest": "lowest",
    "highest": "highest",
    "deviation": "sd",
    "accuracy": "accuracy",
    "blocks_loss": "loss on blocks",
    "steps": "steps",
    "cpu_minutes": "CPU min",
}
_LOSS, _ACCURACY = "records_loss", "records_accuracy"  # keys of losses.json
_POINTS = 10
_CALIBRATIONS = 3


def project_settings(vocabulary_size: int) -> dict[str, Any]:
    """Parameters of the projects that make the records."""
    phase = {"max_seq_length": LENGTH, "init": "data/vocab"}
    return {
        "preprocess": {"input": "data/raw", "document": "blank_line"},
        "vocab": {"size": vocabulary_size},
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


def make_records(project: Project) -> None:
    """Makes records for training, and for the evaluation."""
    project.records("main")
    # One segment per sequence, as the peer cannot read packed ones.
    project.set({"records": {"packing": False, "masking": "static", "masked_lm_prob": 0.15}})
    project.records("heldout")


def prepare(wikitext: Path, work: Path, vocabulary_size: int) -> dict[str, str]:
    """Makes text, vocabulary and records with the real stages, unless an earlier call has.

    Returns:
        Paths, by their keys in jobs.
    """
    folder = work / "project"
    texts = {split: work / f"{split}.txt" for split in ("train", "valid")}
    # Contains the setting with which everything was prepared.
    marker, content = work / "prepared", f"vocabulary size {vocabulary_size}\n"
    if not marker.exists() or marker.read_text(encoding="utf-8") != content:
        project = Project(folder, project_settings(vocabulary_size))
        for split in ("train", "valid", "test"):
            raw = project.path(f"data/raw/{split}.txt")
            inputs.write_wikitext(wikitext / f"{split}.txt", raw)
            if split in texts:
                shutil.copyfile(raw, texts[split])
        project.stages("preprocess", "sample5M", "vocab", "split")
        make_records(project)
        write_text(marker, content)
    return {
        "vocabulary": str(folder / "data/vocab"),
        "records": str(folder / "data/records/main"),
        "text": str(texts["train"]),
        "heldout_records": str(folder / "data/records/heldout"),
        "heldout_text": str(texts["valid"]),
    }


def systems(options: argparse.Namespace) -> list[str]:
    """The systems to compare, ours first."""
    return [OURS, PEER, *([SPARSE] if options.sparse else [])]


def shared_job(options: argparse.Namespace, paths: dict[str, str], system: str) -> dict[str, Any]:
    """The keys that all jobs of a system have in common."""
    comparison = COMPARISONS[options.architecture]
    dropout = 0.0 if system == OURS else options.dropout
    if dropout is None:
        dropout = comparison.dropout
    return {
        "name": system,
        "cpu_seconds": 60 * options.cpu_minutes,
        "calibration_seconds": min(30.0, 6 * options.cpu_minutes),
        "points": _POINTS,
        "length": LENGTH,
        "batch_size": BATCH_SIZE,
        "warmup": 0.06,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "pretrain": {
            "initialization": "neighbors",
            "optimizer": "muon",
            "xla": options.xla,
        },
        "model": small_model(options.architecture) | dropout_rates(dropout),
        **comparison.shared,
        **({} if system == OURS else comparison.peer),
        **({"sparse": True} if system == SPARSE else {}),
        **paths,
    }


def rates_of(options: argparse.Namespace, system: str) -> list[float]:
    """Learning rates to try with a system."""
    return list(options.rates if system == OURS else options.peer_rates)


def run_folder(options: argparse.Namespace, *parts: object) -> str:
    # A BERT's folders are those of earlier versions.
    architecture = [] if options.architecture == BERT else [options.architecture]
    name = "-".join(map(str, [*architecture, *parts]))
    return str(options.work / "runs" / name.replace(",", "").replace(" ", "-"))


def candidates(options: argparse.Namespace, compared: Sequence[str]) -> dict[str, dict[str, str]]:
    """The systems in each of their modes: name -> keys of their jobs."""
    found: dict[str, dict[str, str]] = {}
    for system in compared:
        for mode in [""] if system == OURS else COMPARISONS[options.architecture].modes:
            keys = {"mode": mode} if mode else {}
            found[f"{system}, {mode}" if mode else system] = {"name": system, **keys}
    return found


def calibrate(
    options: argparse.Namespace, paths: dict[str, str], tried: Mapping[str, dict[str, str]]
) -> dict[str, list[int]]:
    """Numbers of steps that fit the budget, by candidate, from several short runs.

    They are 0 for a candidate that cannot be compiled here.
    """
    counts: dict[str, list[int]] = {name: [] for name in tried}
    for attempt in range(_CALIBRATIONS):
        jobs = {
            name: shared_job(options, paths, keys["name"])
            | keys
            | {
                "rate": rates_of(options, keys["name"])[0],
                "seed": 1 + attempt,
                "steps": None,
                "folder": run_folder(options, "calibration", attempt, name),
            }
            for name, keys in tried.items()
        }
        found = run_parallel(_calibrated, list(jobs.values()), options.jobs)
        for name, result in zip(jobs, found, strict=True):
            counts[name].append(result["steps"])
        print(f"learning: steps that fit so far: {counts}", file=sys.stderr)
    return counts


def _calibrated(job: dict[str, Any]) -> dict[str, Any]:
    try:
        return _train(job)
    except UserError as error:
        if job.get("mode") != "compiled":
            raise
        print(f"learning: {job['name']} cannot be compiled: {error}", file=sys.stderr)
        return {"steps": 0}


def _train(job: dict[str, Any]) -> dict[str, Any]:
    return train(job, _PEER_LEARNER if job["name"] in (PEER, SPARSE) else LEARNER)


Fastest = dict[str, dict[str, Any]]
"""System -> `steps` that fit the budget and, if it has several modes, the fastest one's `mode`."""


def find_steps(options: argparse.Namespace, paths: dict[str, str]) -> Fastest:
    """Calibrates all systems, unless an earlier call has."""
    groups = [[OURS, PEER], *([[SPARSE]] if options.sparse else [])]
    fastest: Fastest = {}
    for group in groups:
        tried = candidates(options, group)
        settings = {
            name: shared_job(options, paths, keys["name"]) | keys for name, keys in tried.items()
        }
        architecture = [] if options.architecture == BERT else [options.architecture]
        sparse = ["sparse"] if SPARSE in group else []
        path = options.work / f"{'-'.join(['steps', *architecture, *sparse])}.json"

        def count(tried: Mapping[str, dict[str, str]] = tried) -> dict[str, list[int]]:
            return calibrate(options, paths, tried)

        for name, steps in calibrated_steps(path, settings, count).items():
            keys = dict(tried[name])
            system = keys.pop("name")
            if steps > fastest.get(system, {"steps": 0})["steps"]:
                fastest[system] = {"steps": steps, **keys}
    return fastest


def make_jobs(
    options: argparse.Namespace,
    paths: dict[str, str],
    fastest: Fastest,
    runs: Sequence[tuple[str, float, int]],
) -> list[dict[str, Any]]:
    """Jobs of some (system, rate, seed)."""
    return [
        shared_job(options, paths, system)
        | fastest[system]
        | {
            "rate": rate,
            "seed": seed,
            "folder": run_folder(options, system, f"{rate:g}", seed),
        }
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
    if saved.exists():
        result: dict[str, Any] = json.loads(saved.read_text(encoding="utf-8"))
        if result["job"] == job:
            return result
    result = {"job": job, **_train(job)}
    models = [point.pop("model") for point in result["points"]]
    command = [sys.executable, "-m", "bench.training.heldout", folder / "job.json", *models]
    measure(command, folder, environment())
    scores = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
    for point, score in zip(result["points"], scores, strict=True):
        point.update(score)
    if job.get("keep_model"):
        shutil.move(models[-1], folder / "model")
    shutil.rmtree(folder / "models")
    write_json(saved, result)
    print(f"learning: {describe(result, _LOSS)}", file=sys.stderr)
    return result


def make_argument_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("training.learning", __doc__)
    parser.add_argument(
        "--architecture", choices=architectures.NAMES, default=BERT, help="of both sides"
    )
    parser.add_argument(
        "--wikitext", type=Path, required=True, help="folder with train.txt, valid.txt, test.txt"
    )
    parser.add_argument(
        "--cpu-minutes", type=float, default=10.0, help="budget of a run (default 10)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", type=float, nargs="+", default=[4e-3, 8e-3, 1.6e-2], help="ours")
    parser.add_argument(
        "--peer-rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3], help="theirs"
    )
    parser.add_argument(
        "--dropout", type=float, help="theirs (default 0.1 for a BERT, 0 for a ModernBERT)"
    )
    parser.add_argument(
        "--sparse",
        action="store_true",
        help="also compare theirs with sparse_prediction, an option of ModernBERT",
    )
    parser.add_argument("--vocabulary-size", type=int, default=8000)
    parser.add_argument("--xla", action="store_true", help="compile ours with XLA")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2)")
    cli.add_outputs(parser, "learning")
    return parser


def main() -> None:
    options = make_argument_parser().parse_args()
    options.work = options.work.absolute()
    for split in ("train", "valid", "test"):
        if not (options.wikitext / f"{split}.txt").is_file():
            raise UserError(
                f"--wikitext {options.wikitext}: no {split}.txt; give the WikiText-2 folder"
            )
    for package in ("torch", "transformers", "accelerate"):
        if find_spec(package) is None:
            raise UserError(f"{package} is not installed; run make -C bench learning")
    if options.sparse and options.architecture != MODERNBERT:
        raise UserError("--sparse: only with --architecture modernbert; leave it out")
    options.work.mkdir(parents=True, exist_ok=True)
    conditions = machine(PACKAGES)
    paths = prepare(options.wikitext, options.work, options.vocabulary_size)
    shards = options.work / "project/data/shards/train"
    unigram = unigram_loss(shards, Path(paths["heldout_records"]), Path(paths["vocabulary"]))
    fastest = find_steps(options, paths)

    def train_all(runs: Sequence[tuple[str, float, int]]) -> list[dict[str, Any]]:
        return run_parallel(run, make_jobs(options, paths, fastest, runs), options.jobs)

    compared = systems(options)
    first, *others = options.seeds
    results = train_all([(name, r, first) for name in compared for r in rates_of(options, name)])
    rates = best_rates(results, _LOSS)
    results += train_all([(name, rates[name], seed) for seed in others for name in compared])
    means = mean_curves(results, _LOSS)
    best = {name: means[name, rate][-1][1] for name, rate in rates.items()}
    minutes = time_to_reach(means[OURS, rates[OURS]], best[PEER])
    labelled = [one | {"job": one["job"] | {"name": label(one["job"])}} for one in results]
    rows = summarise(labelled, _LOSS, _ACCURACY, "blocks_loss")
    title = architectures.title(small_model(options.architecture))
    print(table([*rows, {"name": "unigram baseline", "score": f"{unigram:.4f}"}], COLUMNS))
    thresholds = COMPARISONS[options.architecture]
    gain = best[PEER] - best[OURS]
    passed = (
        best[OURS] <= thresholds.maximum_loss
        and minutes <= thresholds.maximum_minutes
        and gain >= thresholds.minimum_gain
    )
    limit = thresholds.maximum_minutes
    print(
        f"lowest mean loss, {title}: ours {best[OURS]:.4f} (at most {thresholds.maximum_loss}), "
        f"{PEER} {best[PEER]:.4f}: ours is {gain:.4f} lower (at least {thresholds.minimum_gain:g}) "
        f"and reaches it in {minutes:.1f} CPU minutes"
        f"{f' (at most {limit:g})' if math.isfinite(limit) else ''}: "
        f"{'passed' if passed else 'missed'}"
    )
    if options.out:
        write_json(
            options.out,
            {
                "machine": conditions,
                "architecture": options.architecture,
                "unigram": unigram,
                "best": best,
                "gain": gain,
                "minutes": minutes,
                "passed": passed,
                "rows": rows,
                "runs": results,
            },
        )
        write_text(options.out.with_suffix(".csv"), curves_csv(labelled, _LOSS, _ACCURACY))
        curves = {
            f"{system}, {rate:g}": curve
            for (system, rate), curve in sorted(mean_curves(labelled, _LOSS).items())
        }
        chart = line_chart(
            curves,
            "CPU minutes",
            "loss",
            title=f"WikiText-2, {title}: held-out MLM loss, mean over seeds",
            dashed=[name for name in curves if not name.startswith(OURS)],
        )
        write_text(options.out.with_suffix(".svg"), chart)
    if not passed:
        sys.exit("learning: threshold missed")


if __name__ == "__main__":
    cli.run_main(main)
