"""The report's section of cost: time, CPU time and memory of each stage, training throughput."""

from datetime import timedelta
from typing import Any

from lib.report.charts.stage_charts import read_curve
from lib.report.results import Results
from lib.run.json_files import read_object

# In the order of the pipeline.
STAGES = (
    "check",
    "demo",
    "preprocess",
    "sample5M",
    "vocab",
    "split",
    "records",
    "pretrain",
    "evaluate",
)


def costs(results: Results) -> dict[str, dict[str, Any]]:
    """The cost of the last run of each stage on this machine, in the order of the pipeline."""
    found = {path.stem: read_object(path) for path in (results.folder / "cost").glob("*.json")}
    for phase in results.params.phases:
        if training := found.get(f"pretrain-{phase}"):
            logged = _logged_seconds(results, phase)
            training["wall_seconds"] = max(training["wall_seconds"], logged)

    def position(name: str) -> tuple[int, str]:
        stage = name.partition("-")[0]
        return (STAGES.index(stage) if stage in STAGES else len(STAGES), name)

    return {name: found[name] for name in sorted(found, key=position)}


def _logged_seconds(results: Results, phase: str) -> float:
    """The time of all training steps by the log, which a resumed training continues.

    The cost file counts a killed process only up to its last checkpoint.
    """
    total, before = 0.0, 0.0
    log = results.folder / f"cost/training-{phase}.csv"
    for step, rate in read_curve(log, "step", "steps_per_second"):
        # Where training resumed, the log goes back to a step after the checkpoint.
        steps = step - before if step > before else results.params.pretrain.log_every
        total, before = total + (steps / rate if rate else 0.0), step
    return total


def short_time(seconds: float) -> str:
    """A duration as text: 4.2 s, 42 s, 3:07, 2:03:07."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return str(timedelta(seconds=round(seconds))).lstrip("0:")


def cost(results: Results) -> dict[str, Any]:
    """The cost of each stage, and training throughput."""
    stages = costs(results)
    outdated = {name.replace("@", "-") for name in results.outdated}
    return {
        "stages": stages,
        "outdated": outdated & stages.keys(),
        "speeds": {
            phase: speeds
            for phase in results.params.phases
            if (speeds := _speeds(results, phase))["tokens_per_second"]
        },
    }


def _speeds(results: Results, phase: str) -> dict[str, float]:
    """Medians of the training log; of memory the largest value."""
    log = results.folder / f"cost/training-{phase}.csv"
    found = {}
    for column in (
        "tokens_per_second",
        "sequences_per_second",
        "steps_per_second",
        "fraction_of_peak",
        "memory_mib",
        "device_memory_mib",
    ):
        values = sorted(value for _, value in read_curve(log, "step", column)) or [0.0]
        found[column] = values[-1] if "memory" in column else values[len(values) // 2]
    return found
