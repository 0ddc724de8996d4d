"""What the run took: time, processor time and memory of each stage, speed of the training."""

from typing import Any
from xml.etree.ElementTree import Element

from lib.report.markup import Child, bar, element, section, table
from lib.report.results import Results
from lib.run.json_files import read_object
from lib.run.progress import duration

_ORDER = ("demo", "preprocess", "sample5M", "vocab", "split", "records", "pretrain", "evaluate")


def costs(results: Results) -> dict[str, dict[str, Any]]:
    """What each stage took when it last ran here, in the order of the pipeline."""
    found = {path.stem: read_object(path) for path in (results.folder / "cost").glob("*.json")}

    def place(name: str) -> tuple[int, str]:
        stage = name.partition("-")[0]
        return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), name)

    return {name: found[name] for name in sorted(found, key=place)}


def time_in_all(results: Results) -> str | None:
    """Of all stages together, when each last ran here."""
    found = costs(results)
    return _time(sum(each["wall_seconds"] for each in found.values())) if found else None


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def cost(results: Results) -> Element:
    """The section of the cost."""
    name, title = "cost", "Cost"
    found = costs(results)
    if not found:
        said = "No stage has run on this machine: all results came from elsewhere or a cache."
        return section(name, title, element("p", said, class_="missing"))
    longest = max(each["wall_seconds"] for each in found.values()) or 1.0
    most = max(each["peak_memory_mib"] for each in found.values()) or 1.0
    rows: list[list[Child]] = [
        [
            element("bdi", stage),
            _time(each["wall_seconds"]),
            bar(each["wall_seconds"] / longest),
            _time(each["cpu_seconds"]),
            f"{each['peak_memory_mib']:,.0f} MiB",
            bar(each["peak_memory_mib"] / most, "baseline"),
        ]
        for stage, each in found.items()
    ]
    rows.append(
        [
            "together",
            time_in_all(results),
            None,
            _time(sum(each["cpu_seconds"] for each in found.values())),
            None,
            None,
        ]
    )
    heading = ["stage", "time", None, "processor time", "peak memory", None]
    said = (
        "Of each stage when it last ran on this machine; what came from DVC's cache took no time. "
        "Peak memory is that of the largest process."
    )
    return section(name, title, element("p", said), table(heading, rows, "cost"), _speeds(results))


def _speeds(results: Results) -> Element | None:
    """Training speed: the median between two lines of its log, and the best share of the peak."""
    rows: list[list[Child]] = []
    for phase in results.params.phases:
        name = f"cost/training-{phase}.csv"
        speeds = {
            column: sorted(value for _, value in results.curve(name, "step", column))
            for column in (
                "tokens_per_second",
                "sequences_per_second",
                "steps_per_second",
                "share_of_peak",
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
                f"{median['share_of_peak']:.1%}",
                f"{max(speeds['memory_mib'], default=0.0):,.0f} MiB",
                f"{device:,.0f} MiB" if device else "–",
            ]
        )
    if not rows:
        return None
    heading = (
        "training, median",
        "tokens/s",
        "rows/s",
        "steps/s",
        "of the machine's peak",
        "peak memory",
        "of the device",
    )
    return table(heading, rows)
