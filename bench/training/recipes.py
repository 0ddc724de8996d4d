"""Two recipes on one text: budget-24h beside hf-guide, and budget-24h without each of its parts.

Both train the same small model from scratch, with the same vocabulary, on the demo corpus, for the
same processor time. Everything else is the recipe's: masks, pairs, packing, phases, optimizer,
schedule, dropout. Rows are a quarter as long as the recipes', steps have a few. Rates for large
models would leave a small one where it is: the best of the same few is taken for each recipe, by
one seed; then come the other seeds. Scored are bits a character of the same hidden words of test
text.

How many steps the time is enough for is found first, by short runs of all beside each other, on a
machine that does nothing else. These numbers and finished runs are kept in the scratch folder, so
that a second call goes on where a first one was stopped.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common.jobs import in_pool, train
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from lib.commands.recipe import apply_recipe
from lib.report.charts.curves import svg
from lib.run.atomic import write_text
from lib.run.errors import UserError

HF, BUDGET = "hf-guide", "budget-24h"
LENGTH, ROWS = 32, 16
SHARED: dict[str, Any] = {
    "preprocess": {"input": "data/demo", "document": "blank_line"},
    "vocab": {"source": "sentencepiece", "base": "data/sample", "size": 4000},
    "pretrain": {
        "model": {
            "num_hidden_layers": 2,
            "hidden_size": 128,
            "num_attention_heads": 2,
            "intermediate_size": 512,
            "max_position_embeddings": 512,
        },
        "batch_size": ROWS,
        "microbatch_size": None,
        "precision": "float32",
        "xla": False,
    },
    "evaluate": {"max_examples": 4000, "masked_lm_prob": 0.15},
    "cluster": {"workers": 1},
}
# The accumulation of two, and a second phase on rows four times as long, are the recipe's.
OWN: dict[str, dict[str, Any]] = {
    HF: {
        "pretrain": {"microbatch_size": ROWS // 2},
        "phases": {"short": {"max_seq_length": LENGTH}, "long": {"max_seq_length": 4 * LENGTH}},
    },
    BUDGET: {"phases": {"main": {"max_seq_length": LENGTH}}},
}
# What budget-24h does otherwise, one part at a time as hf-guide does it.
PARTS: dict[str, dict[str, Any]] = {
    "15 % masked": {"records": {"masked_lm_prob": 0.15}},
    "unpacked": {"records": {"packing": False}},
    "sentence pairs": {"records": {"next_sentence": True}},
    "masked once": {"records": {"masking": "static"}},
    "dropout": {
        "pretrain": {"model": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}}
    },
    "beta2 0.999": {"pretrain": {"adam_beta2": 0.999, "adam_epsilon": 1e-8}},
    "no warm-up": {"pretrain": {"warmup_steps": 0}},
}
_TEXT = ("data/corpus", "data/sample", "data/vocab", "data/shards")
COLUMNS = {
    "name": "recipe",
    "rate": "rate",
    "seeds": "seeds",
    "bits": "bits a character",
    "lowest": "lowest",
    "highest": "highest",
    "accuracy": "accuracy",
    "steps": "steps",
    "cpu_minutes": "CPU min",
}


def prepare(work: Path, arms: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """A project for each arm: its recipe, the shared text and vocabulary, its own records."""
    first: Path | None = None
    for name, (recipe, changes) in arms.items():
        folder = folder_of(work, name)
        if not (folder / "prepared").exists():
            project = Project(folder, {})
            apply_recipe(ROOT / "recipes" / f"{recipe}.yaml", folder / "params.yaml")
            for each in (SHARED, OWN[recipe], changes):
                project.set(each)
            if first is None:
                project.stage("demo", "data/demo")
                project.stage("preprocess", "data/demo", "data/corpus")
                project.stage("sample5M", "data/corpus", "data/sample")
                project.stage("vocab", "data/sample", "data/sample", "data/vocab")
                project.stage("split", "data/corpus", "data/shards")
            else:
                for part in _TEXT:
                    shutil.copytree(first / part, folder / part)
            for phase in PHASES[recipe]:
                place = f"data/records/{phase}"
                project.stage("records", phase, "data/shards", "data/vocab", place)
            write_text(folder / "prepared", f"{name}\n")
        first = first or folder


# Phases of a recipe, and their shares of the steps.
PHASES = {HF: {"short": 0.9, "long": 0.1}, BUDGET: {"main": 1.0}}


def folder_of(work: Path, name: str) -> Path:
    return work / name.replace(" ", "-").replace("%", "percent")


class Contest:
    """Runs of arms, each as long as the others by processor time."""

    def __init__(self, options: argparse.Namespace, arms: dict[str, tuple[str, Any]]) -> None:
        self._options, self._arms = options, arms
        self._seconds = 60 * options.cpu_minutes
        self._steps: dict[str, int] = {}

    def _job(self, name: str, run: str, **changes: Any) -> dict[str, Any]:
        """`project`, `phases` (shares of the steps), `rate`, `seed`, `steps`, `folder` and more."""
        folder = folder_of(self._options.work, name)
        return {
            "name": name,
            "project": str(folder),
            "phases": PHASES[self._arms[name][0]],
            "cpu_seconds": self._seconds,
            "calibration_seconds": min(20.0, self._seconds / 6),
            "points": 8,
            "length": LENGTH,
            "rate": 1e-3,
            "seed": 1,
            "folder": str(folder / "runs" / run),
            **changes,
        }

    def calibrate(self, names: Sequence[str]) -> None:
        """Finds the steps of each arm that use up the time, first steps and all phases included.

        What an earlier call found for the same arms and time is taken.
        """
        kept, arms = self._options.work / "steps.json", [self._seconds, *names]
        if kept.exists():
            found = json.loads(kept.read_text(encoding="utf-8"))
            if found["arms"] == arms:
                self._steps = found["steps"]
                return
        todo = [
            self._job(name, f"calibration-{phase}", phases={phase: 1.0}, steps=None)
            for name in names
            for phase in PHASES[self._arms[name][0]]
        ]
        costs: dict[str, list[dict[str, Any]]] = {}
        for job, cost in zip(todo, in_pool(_learn, todo, self._options.jobs), strict=True):
            costs.setdefault(job["name"], []).append(cost)
        for name, phases in costs.items():
            shares = PHASES[self._arms[name][0]].values()
            first = sum(cost["first_seconds"] for cost in phases)
            each = sum(
                cost["step_seconds"] * share for cost, share in zip(phases, shares, strict=True)
            )
            self._steps[name] = max(20, round((self._seconds - first) / each))
        write_json(kept, {"arms": arms, "steps": self._steps})
        print(f"recipes: steps that fit: {self._steps}", file=sys.stderr)

    def run(self, runs: Sequence[tuple[str, float, int]]) -> list[dict[str, Any]]:
        """Trains (arm, rate, seed) and scores."""
        todo = [
            self._job(name, f"{rate:g}-{seed}", rate=rate, seed=seed, steps=self._steps[name])
            for name, rate, seed in runs
        ]
        results = in_pool(_learn, todo, self._options.jobs)
        return [{"job": job, **result} for job, result in zip(todo, results, strict=True)]


def _learn(job: dict[str, Any]) -> dict[str, Any]:
    made = train(job, "bench.training.recipe_learner")
    if job["steps"] is not None:
        line = f"{job['name']}, rate {job['rate']:g}, seed {job['seed']}"
        bits = made["points"][-1]["bits_per_character"]
        print(f"recipes: {line}: {bits:.4f} bits a character", file=sys.stderr)
    return made


def rows_of(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each (arm, rate): means over the seeds."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["job"]["name"], result["job"]["rate"]), []).append(result)
    rows = []
    for (name, rate), runs in groups.items():
        ends = [run["points"][-1] for run in runs]
        bits = [end["bits_per_character"] for end in ends]
        rows.append(
            {
                "name": name,
                "rate": f"{rate:g}",
                "seeds": len(runs),
                "mean": statistics.mean(bits),
                "bits": f"{statistics.mean(bits):.4f}",
                "lowest": f"{min(bits):.4f}",
                "highest": f"{max(bits):.4f}",
                "accuracy": f"{statistics.mean(end['mlm_accuracy'] for end in ends):.1%}",
                "steps": runs[0]["steps"],
                "cpu_minutes": statistics.mean(run["cpu_seconds"] for run in runs) / 60,
            }
        )
    return rows


def curves(results: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Name -> (minutes of the budget, bits a character), means at each arm's best rate."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows_of(results):
        if row["name"] not in best or row["mean"] < best[row["name"]]["mean"]:
            best[row["name"]] = row
    found = {}
    for name, row in best.items():
        runs = [
            result
            for result in results
            if (result["job"]["name"], f"{result['job']['rate']:g}") == (name, row["rate"])
        ]
        found[name] = [
            (
                points[0]["step"] / runs[0]["steps"] * runs[0]["job"]["cpu_seconds"] / 60,
                statistics.mean(point["bits_per_character"] for point in points),
            )
            for points in zip(*(run["points"] for run in runs), strict=True)
        ]
    return found


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.training.recipes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cpu-minutes", type=float, default=3.0, help="of a run (default 3)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--no-parts", action="store_true", help="only the two recipes")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--out", type=Path, help="JSON file to write; .svg beside it")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/recipes", help="scratch")
    return parser


def main() -> None:
    options = arguments().parse_args()
    options.work = options.work.absolute()
    arms: dict[str, tuple[str, dict[str, Any]]] = {HF: (HF, {}), BUDGET: (BUDGET, {})}
    if not options.no_parts:
        arms |= {f"{BUDGET}, {name}": (BUDGET, changes) for name, changes in PARTS.items()}
    try:
        before = machine(("numpy", "tensorflow"))
        prepare(options.work, arms)
        contest = Contest(options, arms)
        contest.calibrate(list(arms))
        first, *others = options.seeds
        tried = [(name, rate, first) for rate in options.rates for name in (HF, BUDGET)]
        results = contest.run(tried)
        rates = {row["name"]: float(row["rate"]) for row in sorted(rows_of(results), key=_badness)}
        seeded = [(name, rates[name], seed) for seed in others for name in (HF, BUDGET)]
        parts = [(name, rates[BUDGET], first) for name in arms if name not in (HF, BUDGET)]
        results += contest.run([*seeded, *parts])
    except UserError as error:
        sys.exit(f"recipes: error: {error}")
    rows = rows_of(results)
    print(table(rows, COLUMNS))
    of = {
        row["name"]: row["mean"] for row in rows if float(row["rate"]) == rates.get(row["name"], 0)
    }
    passed = of[BUDGET] < of[HF]
    print(
        f"bits a character: {BUDGET} {of[BUDGET]:.4f}, {HF} {of[HF]:.4f}: "
        f"{'passed' if passed else 'missed'}"
    )
    if options.out:
        write_json(options.out, {"machine": before, "rows": rows, "runs": results})
        drawn = {name: line for name, line in curves(results).items() if name in (HF, BUDGET)}
        title = "Demo corpus: bits a character of hidden words, mean of the seeds"
        image = svg(title, "minutes of processor time", "bits a character", drawn, dashed=[HF])
        write_text(options.out.with_suffix(".svg"), image)
    if not passed:
        sys.exit("recipes: a bar is missed")


def _badness(row: dict[str, Any]) -> float:
    """Best last, so that it stays in a dict."""
    return -float(row["mean"])


if __name__ == "__main__":
    main()
