"""A table of experiments that fits a screen: `python -m lib.commands.experiments`.

`dvc exp show` has a column for every parameter, every metric and the hash of every dependency,
about 400 in all. This shows the metrics that mean the same for every vocabulary and the parameters
that differ, the best first. Runs that differ in `pretrain.seed` alone are one line: mean ± sample
standard deviation. Each line has its difference from the best, paired over test documents, with a
95 % interval; lines of which it is not known whether they are worse have rank 1 as well.

Options: `--md` or `--csv` (a line per run, for a spreadsheet), `--sort METRIC`, `--keep REGEX` for
more columns, and those of `dvc exp show` that choose commits: `-A`, `-n 3`, `--rev main`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lib.commands.evaluations import SEED, Experiment, evaluation_of, experiments
from lib.evaluation.metrics import METRICS, Metric
from lib.evaluation.paired import (
    Difference,
    Run,
    compare,
    seed_deviation,
)
from lib.report.repeats import mean_and_deviation
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError

_COMPARED = tuple(metric for metric in METRICS.values() if metric.any_vocabulary)
# The first one that all experiments have.
_RANKED_BY = ("code_length_per_character", "bits_per_character")


@dataclass
class Setting:
    """Experiments that differ in the seed of training alone.

    Attributes:
        names: of all, also of repetitions with the same seed.
        runs: one per seed.
        evaluations: the documents of each run that has them.
        difference: from the best setting; None for the best itself, or if it is not known.
    """

    names: list[str]
    runs: list[Experiment]
    evaluations: list[Run]
    difference: Difference | None = None

    def values(self, metric: Metric) -> list[float]:
        found = [run.metrics.get(metric.name) for run in self.runs]
        return [value for value in found if value is not None]

    def mean(self, metric: Metric) -> float:
        values = self.values(metric)
        return sum(values) / len(values)


def settings(
    found: Iterable[Experiment], read_evaluation: Callable[[Experiment], Run | None]
) -> list[Setting]:
    """Finished experiments by setting; of runs with the same seed the first one."""
    groups: dict[tuple[str, str, str], list[Experiment]] = {}
    for experiment in found:
        if experiment.metrics:
            groups.setdefault(experiment.setting(), []).append(experiment)
    grouped = []
    for group in groups.values():
        group.sort(key=lambda run: (str(run.params.get(SEED)), run.name))
        runs = list({run.params.get(SEED): run for run in reversed(group)}.values())[::-1]
        read = map(read_evaluation, runs)
        grouped.append(Setting([run.name for run in group], runs, [run for run in read if run]))
    return grouped


def rank(found: Sequence[Setting], metric: Metric) -> tuple[list[Setting], list[str]]:
    """The settings, the best first, each compared with the best; and notes about the comparison."""
    without = [name for each in found if not each.values(metric) for name in each.names]
    notes = [f"not shown, without {metric.name}: {', '.join(without)}"] if without else []
    found = [setting for setting in found if setting.values(metric)]
    if not found:
        return [], notes
    found = sorted(found, key=lambda each: each.mean(metric), reverse=bool(metric.higher_is_better))
    best, *others = found
    deviation = seed_deviation([setting.values(metric) for setting in found])
    documents = set()
    for setting in others:
        if not best.evaluations or not setting.evaluations:
            notes.append("without an interval: evaluated by an older version, or not in the cache")
            continue
        try:
            compared = compare(
                setting.evaluations, best.evaluations, 1, only=[metric], deviation=deviation
            )
        except UserError as failure:
            notes.append(str(failure))
            continue
        setting.difference = next(iter(compared.differences), None)
        documents.add(compared.documents[0])
    if documents:
        few, many = min(documents), max(documents)
        over = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        notes.append(
            f"Rank 1: the best by {metric.label}, and those that may be as good. Differences with "
            f"95 % intervals, paired over {over} test documents."
        )
        if deviation:
            plural = "" if deviation[1] == 1 else "s"
            notes.append(
                f"The intervals include the variance over training seeds: standard deviation "
                f"{deviation[0]:.2g}, with {deviation[1]} degree{plural} of freedom."
            )
        else:
            notes.append(
                "The intervals do not include the variance over training seeds, which can be "
                "larger than these differences; `make repeat SEEDS=3` measures it."
            )
    return found, list(dict.fromkeys(notes))


def differing(found: Sequence[Experiment]) -> list[str]:
    """The parameters that do not have the same value everywhere."""
    keys = dict.fromkeys(key for experiment in found for key in experiment.params)
    return [key for key in keys if len({repr(each.params.get(key, "-")) for each in found}) > 1]


def table(
    found: Sequence[Setting], unfinished: Sequence[Experiment], ranked: Metric, keep: str
) -> pd.DataFrame:
    """A line per setting, then one for each experiment without results."""
    runs = [run for setting in found for run in setting.runs]
    compared = (ranked, *(metric for metric in _COMPARED if metric is not ranked))
    metrics = [m for m in compared if any(m.name in run.metrics for run in runs)]
    params = [key for key in differing([*runs, *unfinished]) if key != SEED]
    sources = [name for name in ("code", "text") if len({getattr(run, name) for run in runs}) > 1]
    extra = _kept(keep, runs, {*params, *(m.name for m in metrics)})
    with_state = bool(unfinished)
    lines: list[dict[str, str]] = []
    for setting in found:
        first = setting.runs[0]
        difference = setting.difference
        is_best = setting is found[0]
        line = {
            "rank": "1" if is_best or (difference and not difference.better) else "",
            "experiment": _joined(setting.names),
            **({"state": ""} if with_state else {}),
        }
        for metric in metrics:
            values = setting.values(metric)
            line[metric.name] = mean_and_deviation(metric, values) if values else "-"
            if metric is ranked and len(found) > 1:
                shown = "-" if difference is None else difference.written(difference.value)
                line["from the best"] = "best" if is_best else shown
                line["95 % interval"] = "-" if difference is None else difference.written_interval()
        line |= {key: _written(first.params.get(key, "-")) for key in params}
        line |= {name: getattr(first, name)[:6] for name in sources}
        if any(len(each.runs) > 1 for each in found) or SEED in differing(runs):
            line["seeds"] = ", ".join(_written(run.params.get(SEED)) for run in setting.runs)
        line |= {
            name: ", ".join(_written(_value(run, name)) for run in setting.runs) for name in extra
        }
        lines.append(line)
    for experiment in unfinished:
        line = {"experiment": experiment.name, "state": experiment.state}
        lines.append(line | {key: _written(experiment.params.get(key, "-")) for key in params})
    return pd.DataFrame(lines).fillna("-")


def table_of_runs(
    found: Sequence[Setting], unfinished: Sequence[Experiment], metric: Metric, keep: str
) -> pd.DataFrame:
    """A line per run, with numbers as they are."""
    runs = [run for setting in found for run in setting.runs]
    params = differing([*runs, *unfinished])
    names = [m.name for m in _COMPARED if any(m.name in run.metrics for run in runs)]
    extra = _kept(keep, runs, {*params, *names})
    lines = []
    for number, setting in enumerate(found, start=1):
        difference = setting.difference
        of_setting: dict[str, object] = {}
        if difference:
            low, high = difference.decisive
            of_setting = {
                f"{metric.name}_from_best": difference.value,
                "low": low,
                "high": high,
            }
        for run in setting.runs:
            line: dict[str, object] = {"experiment": run.name, "rev": run.rev[:7], "state": ""}
            line |= {"setting": number, **{name: run.metrics.get(name) for name in names}}
            line |= of_setting | {key: run.params.get(key) for key in params}
            lines.append(line | {name: _value(run, name) for name in extra})
    for experiment in unfinished:
        line = {"experiment": experiment.name, "rev": experiment.rev[:7], "state": experiment.state}
        lines.append(line | {key: experiment.params.get(key) for key in params})
    return pd.DataFrame(lines)


def _joined(names: Sequence[str]) -> str:
    """Names of runs; those with a common start as a shell expands them: `slow-seed-{1,2,3}`."""
    ends: dict[str, list[str]] = {}
    for name in names:
        start, hyphen, end = name.rpartition("-")
        ends.setdefault(start + hyphen, []).append(end)
    parts = []
    for start, own in ends.items():
        together = start and len(own) > 1
        parts += [f"{start}{{{','.join(own)}}}"] if together else [start + end for end in own]
    return ", ".join(parts)


def _kept(pattern: str, runs: Sequence[Experiment], shown: set[str]) -> list[str]:
    """Further metrics and parameters whose names match."""
    names = dict.fromkeys(name for run in runs for name in (*run.all_metrics, *run.params))
    try:
        return [name for name in names if pattern and re.match(pattern, name) and name not in shown]
    except re.error as failure:
        raise UserError(f"--keep {pattern}: not a regular expression ({failure})") from None


def _value(run: Experiment, name: str) -> Any:
    return run.all_metrics.get(name, run.params.get(name, "-"))


def _written(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _sort_metric(name: str | None, found: Sequence[Setting]) -> Metric:
    if name is None:
        ranked = (METRICS[each] for each in _RANKED_BY)
        present = (metric for metric in ranked if all(each.values(metric) for each in found))
        return next(present, METRICS[_RANKED_BY[-1]])
    if name not in METRICS:
        raise UserError(f"--sort {name}: not a metric; choose one of {', '.join(METRICS)}")
    return METRICS[name]


def main(arguments: Sequence[str]) -> str:
    """The table as text."""
    parser = new_parser("lib.commands.experiments", __doc__)
    parser.allow_abbrev = False
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="a Markdown table")
    form.add_argument("--csv", action="store_true", help="a line per run, with all digits")
    parser.add_argument("--sort", metavar="METRIC", help="rank by this one of evaluate's metrics")
    parser.add_argument("--keep", metavar="REGEX", default="", help="also show these columns")
    options, others = parser.parse_known_args(arguments)
    found = experiments(others)
    grouped = settings(found, evaluation_of)
    metric = _sort_metric(options.sort, grouped)
    ranked, notes = rank(grouped, metric)
    shown = {name for setting in grouped for name in setting.names}
    # A commit without results is no experiment. A killed run stays in DVC's list as running, also
    # after another one has finished under its name.
    unfinished = [
        each
        for each in found
        if not each.metrics and each.name not in shown and each.state != "no results"
    ]
    if not ranked and not unfinished:
        return "No experiment has finished here; `dvc exp run -S KEY=VALUE` runs one."
    if options.csv:
        return table_of_runs(ranked, unfinished, metric, options.keep).to_csv(index=False).rstrip()
    style = "github" if options.md else "simple"
    text = table(ranked, unfinished, metric, options.keep).to_markdown(
        index=False, tablefmt=style, disable_numparse=True
    )
    return "\n".join([str(text), *(["", *notes] if notes else [])])


if __name__ == "__main__":
    with one_line_errors("experiments"):
        print(main(sys.argv[1:]))
