"""The report's section of cost: time, CPU time and memory of each stage, training throughput."""

from typing import Any
from xml.etree.ElementTree import Element

from lib.report.markup import Child, bar, element, section, table
from lib.report.results import Results
from lib.run.json_files import read_object
from lib.run.progress import duration

_ORDER = (
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
        training = found.get(f"pretrain-{phase}")
        if training:
            training["wall_seconds"] = max(
                training["wall_seconds"], _logged_seconds(results, phase)
            )

    def position(name: str) -> tuple[int, str]:
        stage = name.partition("-")[0]
        return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), name)

    return {name: found[name] for name in sorted(found, key=position)}


def _logged_seconds(results: Results, phase: str) -> float:
    """The time of all training steps by the log, which a resumed training continues.

    The cost file counts a killed process only up to its last checkpoint.
    """
    total, before = 0.0, 0.0
    for step, rate in results.points(f"cost/training-{phase}.csv", "step", "steps_per_second"):
        # Where training resumed, the log goes back to a step after the checkpoint.
        steps = step - before if step > before else results.params.pretrain.log_every
        total, before = total + (steps / rate if rate else 0.0), step
    return total


def total_time(results: Results) -> str | None:
    """The time of the last runs of all stages together; None if none has run here."""
    found = costs(results)
    return _time(sum(each["wall_seconds"] for each in found.values())) if found else None


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def cost(results: Results) -> Element:
    """The section of the cost."""
    name, title = "cost", "Cost"
    found = costs(results)
    if not found:
        note = "No stage has run on this machine: all results come from a cache or a remote."
        return section(name, title, element("p", note, class_="missing"))
    longest = max(each["wall_seconds"] for each in found.values()) or 1.0
    largest = max(each["peak_memory_mib"] for each in found.values()) or 1.0
    rows: list[list[Child]] = [
        [
            [element("bdi", stage), _mark(results, stage)],
            _time(each["wall_seconds"]),
            bar(each["wall_seconds"] / longest),
            _time(each["cpu_seconds"]),
            f"{each['peak_memory_mib']:,.0f} MiB",
            bar(each["peak_memory_mib"] / largest, "baseline"),
        ]
        for stage, each in found.items()
    ]
    rows.append(
        [
            "total",
            total_time(results),
            None,
            _time(sum(each["cpu_seconds"] for each in found.values())),
            None,
            None,
        ]
    )
    heading = ["stage", "time", None, "CPU time", "peak memory", None]
    note = (
        "The last run of each stage on this machine; a stage whose results came from DVC's cache "
        "did not run. A training run that was interrupted and resumed counts all its parts. Peak "
        "memory is the largest of any process."
    )
    return section(name, title, element("p", note), table(heading, rows, "cost"), _speeds(results))


def _mark(results: Results, stage: str) -> Element | None:
    """For `pretrain-main`: a note if its results are outdated."""
    is_outdated = stage in results.outdated or stage.replace("-", "@", 1) in results.outdated
    return element("small", "outdated") if is_outdated else None


def _speeds(results: Results) -> Element | None:
    """Training throughput: medians over the lines of the training log."""
    rows: list[list[Child]] = []
    for phase in results.params.phases:
        name = f"cost/training-{phase}.csv"
        speeds = {
            column: sorted(value for _, value in results.curve(name, "step", column))
            for column in (
                "tokens_per_second",
                "sequences_per_second",
                "steps_per_second",
                "fraction_of_peak",
                "memory_mib",
                "device_memory_mib",
            )
        }
        if not speeds["tokens_per_second"]:
            continue
        median = {
            column: values[len(values) // 2] if values else 0.0 for column, values in speeds.items()
        }
        device = max(speeds["device_memory_mib"], default=0.0)
        rows.append(
            [
                element("bdi", phase),
                f"{median['tokens_per_second']:,.0f}",
                f"{median['sequences_per_second']:,.1f}",
                f"{median['steps_per_second']:,.2f}",
                f"{median['fraction_of_peak']:.1%}",
                f"{max(speeds['memory_mib'], default=0.0):,.0f} MiB",
                f"{device:,.0f} MiB" if device else "–",
            ]
        )
    if not rows:
        return None
    heading = (
        "training, median",
        "tokens/s",
        "sequences/s",
        "steps/s",
        "of peak FLOP/s",
        "peak memory",
        "device memory",
    )
    return table(heading, rows)
