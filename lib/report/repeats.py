"""Repeated runs of one setting with other training seeds: results/repeats.json.

`make repeat` writes the file. It belongs to a model if its evaluation is one of the repeated ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lib.evaluation.metrics import METRICS, Metric
from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.run.json_files import read_object

_FILE = "repeats.json"
_HOW = "delete it or run make repeat again"


@dataclass(frozen=True)
class Repeat:
    """One run.

    Attributes:
        experiment: its name; `rev`: the commit that holds it.
        metrics: values of evaluate by name.
    """

    seed: int
    experiment: str
    rev: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Repeats:
    """At least two runs that differ in one parameter, the seed.

    Attributes:
        varied: the key of this parameter.
    """

    varied: str
    runs: list[Repeat] = Field(min_length=2)

    @classmethod
    def read(cls, results: Path) -> "Repeats | None":
        """Reads the file, if there is one.

        Raises:
            UserError: it is damaged.
        """
        path = results / _FILE
        if not path.exists():
            return None
        try:
            return TypeAdapter(cls).validate_python(read_object(path))
        except ValidationError as failure:
            first = failure.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise UserError(f"{path}: not a file of make repeat ({problem}); {_HOW}") from None

    def write(self, results: Path) -> None:
        summary = {
            metric.name: {"mean": fmean(values), "sd": stdev(values)}
            for metric, values in self.of_metrics()
        }
        content = asdict(self) | {"summary": summary}
        write_text(results / _FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def belongs_to(self, metrics: Mapping[str, Any]) -> bool:
        """Whether an evaluation (metrics.json of evaluate) is one of these runs."""
        return any(
            bool(run.metrics)
            and all(metrics.get(name) == value for name, value in run.metrics.items())
            for run in self.runs
        )

    def values(self, name: str) -> list[float]:
        """A metric of every run; empty if a run lacks it."""
        found = [run.metrics.get(name) for run in self.runs]
        return [value for value in found if value is not None] if None not in found else []

    def of_metrics(self) -> list[tuple[Metric, list[float]]]:
        """The metrics that every run has, in their order, with their values."""
        found = [(metric, self.values(metric.name)) for metric in METRICS.values()]
        return [(metric, values) for metric, values in found if values]

    def written(self, metric: Metric) -> str:
        """`1.654 ± 0.012`; empty if it is not known."""
        values = self.values(metric.name)
        return mean_and_deviation(metric, values) if values else ""

    def described(self) -> str:
        """`3 runs with pretrain.seed 1, 2, 3`."""
        seeds = ", ".join(str(run.seed) for run in self.runs)
        return f"{len(self.runs)} runs with {self.varied} {seeds}"


def repeats_of(results: Path, metrics: Mapping[str, Any]) -> Repeats | None:
    """The repeated runs that an evaluation is one of; None if it was not repeated.

    Raises:
        UserError: the file is damaged.
    """
    repeats = Repeats.read(results)
    return repeats if repeats and repeats.belongs_to(metrics) else None


def mean_and_deviation(metric: Metric, values: Sequence[float]) -> str:
    """`1.654 ± 0.012`: mean ± sample standard deviation; the value alone if there is one."""
    mean = format(fmean(values), metric.format)
    return f"{mean} ± {format(stdev(values), metric.format)}" if len(values) > 1 else mean
