"""Recipes compared on one text: hf-guide, budget-24h, and the parts in which they differ.

Each part is measured alone (hf-guide with it) and left out (budget-24h without it). All train the
same small model from scratch, with the same vocabulary, on the demo corpus, for the same processor
time. Everything else comes from the recipe: masking, pairs, packing, phases, optimizer, schedule,
dropout. Sequences are a quarter as long as in the recipes, batches are small. Learning rates for
large models would barely train a small one, and no optimizer can be judged by one rate, so each
variant gets the best of the same few, found with one seed; the other seeds then use that rate. The
score is bits per character of the same masked words of the test split. A ModernBERT, whose layers
have as many parameters, is measured as an addition to budget-24h.

The number of steps that fit is found first, by short runs, on a machine that must otherwise be
idle; compiling is not part of the budget. A part that leaves the work of a step as it is gets as
many steps as its recipe: otherwise noise of the clock would count as a gain or a loss. These
numbers and finished runs are saved in the scratch folder: if interrupted, call it again to
continue.

Keys of a job: `name` (the variant), `project` (its folder), `phases` (name -> fraction of the
steps), `rate`, `seed`, `steps` (null in a calibration), `folder`; `cpu_seconds`,
`calibration_seconds` and `points` (number of models saved during the run); `length`.
"""

import argparse
import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.common import cli, jobs
from bench.common.budget import calibrated_steps
from bench.common.project import Project, is_prepared
from bench.common.report import Row
from bench.training.architectures import BERT, MODERNBERT, SMALL_INTERMEDIATE, dropout_rates
from bench.training.summary import (
    Run,
    by_name_and_rate,
    curves_table,
    describe,
    mean_and_deviation,
    mean_curves,
    paired_difference,
    save_chart,
    save_csv,
    search_rates,
    summarise,
)
from lib.commands.recipe import apply_recipe
from lib.run.atomic import write_text
from lib.run.errors import UserError

HF, BUDGET = "hf-guide", "budget-24h"
LENGTH, BATCH_SIZE = 32, 16

# Name of a variant -> its recipe, and the parameters that differ from the recipe's.
Variants = dict[str, tuple[str, dict[str, Any]]]

SHARED: dict[str, Any] = {
    "preprocess": {"input": "data/demo", "document": "blank_line"},
    "vocab": {"source": "sentencepiece", "base": "data/sample", "size": 4000},
    "pretrain": {
        "model": {
            "num_hidden_layers": 2,
            "hidden_size": 128,
            "num_attention_heads": 2,
            "intermediate_size": SMALL_INTERMEDIATE[BERT],
            "max_position_embeddings": 512,
        },
        "batch_size": BATCH_SIZE,
        "microbatch_size": None,
        "precision": "float32",
        "xla": False,
    },
    "evaluate": {"max_examples": 1500, "masked_lm_prob": 0.15},
    "cluster": {"workers": 1},
}
# Both of hf-guide's: gradient accumulation over two microbatches, and a second phase on sequences
# four times as long.
OWN: dict[str, dict[str, Any]] = {
    HF: {
        "pretrain": {"microbatch_size": BATCH_SIZE // 2},
        "phases": {"short": {"max_seq_length": LENGTH}, "long": {"max_seq_length": 4 * LENGTH}},
    },
    BUDGET: {"phases": {"main": {"max_seq_length": LENGTH}}},
}
# Phases of a recipe and their fractions of the steps.
PHASES = {HF: {"short": 0.9, "long": 0.1}, BUDGET: {"main": 1.0}}


# Layers with as many parameters as those of the BERT.
_MODERNBERT = {"architecture": MODERNBERT, "intermediate_size": SMALL_INTERMEDIATE[MODERNBERT]}


# Part -> its section of params.yaml, its values, and those of a run without it.
PARTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "initial weights": ("pretrain", {"initialization": "neighbors"}, {"initialization": "normal"}),
    "sinusoids": ("pretrain", {"initialization": "sinusoidal"}, {"initialization": "normal"}),
    "Muon": ("pretrain", {"optimizer": "muon"}, {"optimizer": "adamw"}),
    "no dropout": ("pretrain", {"model": dropout_rates(0.0)}, {"model": dropout_rates(0.1)}),
    "no sentence pairs": ("records", {"next_sentence": False}, {"next_sentence": True}),
    "cut sequences": ("records", {"whole_sentences": False}, {"whole_sentences": True}),
    "packing": ("records", {"packing": True}, {"packing": False}),
    "25 % masked": ("records", {"masked_lm_prob": 0.25}, {"masked_lm_prob": 0.15}),
    "only [MASK]": (
        "records",
        {"mask_replace_prob": 1.0, "random_replace_prob": 0.0},
        {"mask_replace_prob": 0.8, "random_replace_prob": 0.1},
    ),
    "new masks": ("records", {"masking": "dynamic"}, {"masking": "static"}),
    "beta2 0.98": (
        "pretrain",
        {"adam_beta2": 0.98, "adam_epsilon": 1e-6},
        {"adam_beta2": 0.999, "adam_epsilon": 1e-8},
    ),
    "warm-up": ("pretrain", {"warmup_steps": 0.06}, {"warmup_steps": 0}),
    "late decay": (
        "pretrain",
        {"schedule": "one_minus_sqrt", "decay_steps": 0.2},
        {"schedule": "polynomial", "decay_steps": None},
    ),
    "ModernBERT": ("pretrain", {"model": _MODERNBERT}, {}),
    "ModernBERT and Muon": ("pretrain", {"model": _MODERNBERT, "optimizer": "muon"}, {}),
}
# Parts that budget-24h does not have: measured as additions to either recipe.
ADDITIONS = ("sinusoids", "Muon", "only [MASK]", "ModernBERT", "ModernBERT and Muon")
# Parts that hf-guide has as well, or that have no effect in it, or that its sentence pairs exclude.
NOT_ALONE = ("cut sequences", "new masks", "ModernBERT", "ModernBERT and Muon")

# Parts that leave the work of a step as it is.
SAME_COST = ("initial weights", "sinusoids", "only [MASK]", "beta2 0.98", "warm-up", "late decay")
# Short runs per variant and phase; twice as many of the recipes, which stand for other variants.
_CALIBRATIONS = 2


def make_variants() -> Variants:
    """The two recipes, and each part alone and left out."""
    variants: Variants = {HF: (HF, {}), BUDGET: (BUDGET, {})}
    for name, (section, values, without) in PARTS.items():
        if name not in NOT_ALONE:
            variants[f"{HF} with {name}"] = (HF, {section: values})
        if name in ADDITIONS:
            variants[f"{BUDGET} with {name}"] = (BUDGET, {section: values})
        else:
            variants[f"{BUDGET} without {name}"] = (BUDGET, {section: without})
    return variants


def cost_of(variant: str, variants: Variants) -> str:
    """The variant whose steps cost as much: itself, or its recipe."""
    same = variant.endswith(tuple(f" {part}" for part in SAME_COST))
    return variants[variant][0] if same else variant


_BITS, _ACCURACY = "bits_per_character", "mlm_accuracy"


def prepare(work: Path, variants: Variants) -> None:
    """Makes a project per variant: its recipe, shared text and vocabulary, its own records.

    A project of an earlier call is kept if it was made with the same settings.
    """
    first: Path | None = None
    # Recipe and settings of records -> folder of a variant that has them.
    made: dict[str, Path] = {}
    for name, (recipe, changes) in variants.items():
        folder = variant_folder(work, name)
        marker = folder / "prepared"
        settings = json.dumps([name, recipe, SHARED, OWN[recipe], changes], indent=2)
        kind = json.dumps([recipe, changes.get("records")])
        if not is_prepared(marker, settings):
            project = Project(folder, {})
            apply_recipe(ROOT / "recipes" / f"{recipe}.yaml", folder / "params.yaml")
            for each in (SHARED, OWN[recipe], changes):
                project.set(each)
            if first is None:
                project.stages("demo", "preprocess", "sample5M", "vocab", "split")
            else:
                project.copy_text(first)
            if kind in made:
                shutil.copytree(made[kind] / "data/records", folder / "data/records")
            else:
                for phase in PHASES[recipe]:
                    project.records(phase)
            write_text(marker, settings)
        first = first or folder
        made.setdefault(kind, folder)


def variant_folder(work: Path, name: str) -> Path:
    return work / name.replace(" ", "-").replace("%", "percent")


class Comparison:
    """Training runs of the variants, all with the same budget of processor time."""

    def __init__(self, options: argparse.Namespace, variants: Variants) -> None:
        self._options, self._variants = options, variants
        self._seconds = 60 * options.cpu_minutes
        self._steps = calibrated_steps(
            options.work / "steps.json",
            ["without compiling", self._seconds, *variants],
            self._calibrate,
        )
        cli.progress(f"steps that fit: {self._steps}")

    def _job(self, name: str, run: str, **changes: Any) -> dict[str, Any]:
        folder = variant_folder(self._options.work, name)
        return {
            "name": name,
            "project": str(folder),
            "phases": PHASES[self._variants[name][0]],
            "cpu_seconds": self._seconds,
            "calibration_seconds": min(20.0, self._seconds / 6),
            "points": 4,
            "length": LENGTH,
            "rate": 1e-3,
            "seed": 1,
            "folder": str(folder / "runs" / run),
            **changes,
        }

    def _calibrate(self) -> dict[str, list[int]]:
        """Steps that use up the budget, by variant, without the extra cost of the first steps.

        Compiling takes seconds per phase: in a short run it would weigh more than any part.
        """
        measured = {name: cost_of(name, self._variants) for name in self._variants}
        runs = [
            self._job(name, f"calibration-{phase}-{number}", phases={phase: 1.0}, steps=None)
            for number in range(2 * _CALIBRATIONS)
            for name in dict.fromkeys(measured.values())
            if number < _CALIBRATIONS or name in PHASES
            for phase in PHASES[self._variants[name][0]]
        ]
        seconds: dict[str, dict[str, list[float]]] = {}
        for job, cost in zip(
            runs, jobs.run_parallel(_train, runs, self._options.jobs), strict=True
        ):
            (phase,) = job["phases"]
            found = seconds.setdefault(job["name"], {}).setdefault(phase, [])
            found.append(cost["step_seconds"])
        steps = {}
        for name, (recipe, _) in self._variants.items():
            each = sum(
                statistics.median(seconds[measured[name]][phase]) * fraction
                for phase, fraction in PHASES[recipe].items()
            )
            steps[name] = [max(20, round(self._seconds / each))]
        return steps

    def run(self, runs: Sequence[tuple[str, float, int]]) -> list[Run]:
        """Trains and evaluates each (variant, rate, seed)."""
        made = [
            self._job(name, f"{rate:g}-{seed}", rate=rate, seed=seed, steps=self._steps[name])
            for name, rate, seed in runs
        ]
        return jobs.run_parallel(_train, made, self._options.jobs)


def _train(job: dict[str, Any]) -> dict[str, Any]:
    result = {"job": job, **jobs.train(job, "bench.training.recipe_learner")}
    if job["steps"] is not None:
        cli.progress(describe(result, _BITS))
    return result


def compare(results: Sequence[Run], variants: Variants, rates: dict[str, float]) -> list[Row]:
    """Rows of the variants at their best rates: those of each recipe together, the best first.

    Adds the mean difference to the recipe, and its standard deviation, over runs with equal seeds.
    """
    groups = by_name_and_rate(results)
    best = {name: groups[name, rate] for name, rate in rates.items()}
    rows = summarise([run for runs in best.values() for run in runs], _BITS, _ACCURACY)
    for row in rows:
        recipe = variants[row["name"]][0]
        if row["name"] != recipe:
            differences = paired_difference(best[row["name"]], best[recipe], _BITS)
            row |= mean_and_deviation(differences, "difference", "+")
    order = list(dict.fromkeys(recipe for recipe, _ in variants.values()))
    return sorted(
        rows, key=lambda row: (order.index(variants[row["name"]][0]), float(row["score"]))
    )


def main() -> None:
    parser = cli.make_parser("training.recipes", __doc__)
    cli.add(parser, "--cpu-minutes", 0.75, "budget of a run")
    cli.add(parser, "--seeds", [1, 2, 3], "of the runs")
    cli.add(parser, "--rates", [2e-3, 4e-3, 8e-3], "learning rates")
    parser.add_argument(
        "--only",
        nargs="*",
        metavar="VARIANT",
        help='the two recipes and these variants, such as "budget-24h with Muon" (default: all)',
    )
    cli.add(parser, "--jobs", 2, "runs at a time")
    options = cli.parse(parser)
    recipes = (HF, BUDGET)
    variants = make_variants()
    if options.only is not None:
        if unknown := [name for name in options.only if name not in variants]:
            names = "; ".join(name for name in variants if name not in recipes)
            raise UserError(f"--only {unknown[0]}: no such variant; give some of: {names}")
        variants = {name: variants[name] for name in variants if name in (*recipes, *options.only)}
    prepare(options.work, variants)
    comparison = Comparison(options, variants)
    tried = dict.fromkeys(variants, options.rates)
    results, rates = search_rates(tried, options.seeds, comparison.run, _BITS)
    rows = compare(results, variants, rates)
    bits = {row["name"]: float(row["score"]) for row in rows}
    verdict = {"name": f"{BUDGET} against {HF}", "passed": bits[BUDGET] < bits[HF]}
    save_csv(options, curves_table(results, _BITS, _ACCURACY, "bits_per_character"))
    means = mean_curves(results, _BITS)
    curves = {name: means[name, rates[name]] for name in recipes}
    title = "Demo corpus: bits per character of masked words, mean over seeds"
    save_chart(options, curves, "CPU minutes", "bits per character", title, [HF])
    cli.finish(options, {"runs": results}, rows=rows, comparison=[verdict])


if __name__ == "__main__":
    cli.run_main(main)
