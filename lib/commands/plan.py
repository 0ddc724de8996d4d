"""Estimates a run's time, disk and memory: `python -m lib.commands.plan --text 20GB --device a100`.

The settings come from params.yaml, the rates from `lib.commands.plan_rates`; the last column says
what each estimate is based on. docs/planning.md explains the formulas and their accuracy.
"""

import csv
import math
import os
import re
import statistics
from dataclasses import replace
from pathlib import Path

from lib.commands.plan_rates import ASSUMED_MFU, DEVICES, HASH_BYTES_PER_SECOND, TEXTS
from lib.commands.plan_stages import MEASURED, StageEstimate, estimate_stages
from lib.params import load_params
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError


def parse_size(text: str) -> float:
    """Bytes of a size such as 20GB, 1.5 TB or 800MB. Units are powers of 1000.

    Raises:
        UserError: it is not a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text.strip())
    if not match or not float(match[1]):
        raise UserError(f"--text: should be a size such as 20GB. Received: {text!r}")
    return float(match[1]) * 1000 ** " kMGT".index(match[2] or " ")


def folder_size(folder: Path) -> float:
    """Total bytes of the files below a folder.

    Raises:
        UserError: there are none.
    """
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if not total:
        raise UserError(f"{folder}: no text there; give the size it will have: --text 20GB")
    return total


def _format_bytes(value: float) -> str:
    unit = min(4, max(1, int(math.log10(max(value, 1)) // 3)))
    return f"{value / 1000**unit:.3g} {' kMGT'[unit]}B"


def _format_time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s"


def _format_range(least: float, most: float | None) -> str:
    ends = [_format_time(seconds) for seconds in (least, most or least)]
    return " to ".join(dict.fromkeys(ends))


def measured_speed(path: Path) -> float:
    """FLOP/s in an earlier run: the median of its `results/cost/training-PHASE.csv`.

    Raises:
        UserError: the file cannot be read, or has no line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rates = [float(row["flops_per_second"]) for row in csv.DictReader(file)]
    except OSError as failure:
        raise UserError(f"--measured {path}: {failure.strerror}; check the path") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"--measured {path}: has no column flops_per_second with numbers; give the file "
            "results/cost/training-PHASE.csv of a run"
        ) from None
    if not rates or min(rates) <= 0:
        raise UserError(
            f"--measured {path}: has no measurement above 0; train for some hundred steps first"
        )
    return statistics.median(rates)


def table(estimates: list[StageEstimate], raw: float) -> str:
    """The estimates as aligned text, with DVC's hashing and the total.

    Args:
        raw: bytes of the raw text, which the total includes.
    """
    disk = raw + sum(stage.disk for stage in estimates)
    lines = [("stage", "time", "disk", "memory", "basis")]
    lines += [
        (
            stage.name,
            _format_range(stage.seconds, stage.most_seconds),
            _format_bytes(stage.disk),
            _format_bytes(stage.memory),
            stage.basis,
        )
        for stage in estimates
    ]
    hashing = disk / HASH_BYTES_PER_SECOND
    lines.append(("DVC hashing", _format_time(hashing), "", "", MEASURED))
    seconds = hashing + sum(stage.seconds for stage in estimates)
    most = hashing + sum(stage.most_seconds or stage.seconds for stage in estimates)
    total = "with the raw text; DVC's cache by links, not copies"
    lines.append(("total", _format_range(seconds, most), _format_bytes(disk), "", total))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:]), basis]).rstrip()
        for name, *cells, basis in lines
    )


def main() -> None:
    parser = new_parser("lib.commands.plan", __doc__)
    add = parser.add_argument
    add("--text", metavar="SIZE", help="size of the raw text (default: that of preprocess.input)")
    add("--kind", choices=TEXTS, default="articles", help="kind of text (default: articles)")
    add("--device", choices=DEVICES, default="cpu", help="to train on (default: cpu)")
    add("--devices", type=int, default=1, metavar="N", help="number of devices (default: 1)")
    add("--cores", type=int, metavar="N", help="for the data stages (default: this machine's)")
    low, high = ASSUMED_MFU
    speeds = parser.add_mutually_exclusive_group()
    speeds.add_argument(
        "--mfu",
        type=float,
        help="fraction of the peak FLOP/s that training reaches (default: a range, "
        f"{low:.0%}% to {high:.0%}%; measured for cpu)",
    )
    speeds.add_argument(
        "--measured",
        type=Path,
        metavar="FILE",
        help="results/cost/training-PHASE.csv of a run with this device, precision and number of "
        "devices: its speed",
    )
    arguments = parser.parse_args()
    with one_line_errors("plan"):
        params, device = load_params(), DEVICES[arguments.device]
        if arguments.text:
            raw = parse_size(arguments.text)
        else:
            raw = folder_size(Path(params.preprocess.input))
        if arguments.mfu is not None:
            if not 0 < arguments.mfu <= 1:
                raise UserError(
                    f"--mfu: should be above 0 and at most 1. Received: {arguments.mfu:g}"
                )
            device = replace(device, mfu=arguments.mfu, basis="given")
        if arguments.measured:
            speed = measured_speed(arguments.measured) / arguments.devices
            device = replace(device, speed=speed, basis=f"measured, {arguments.measured}")
        text, cores = TEXTS[arguments.kind], arguments.cores or os.cpu_count() or 1
        print(table(estimate_stages(params, raw, text, device, arguments.devices, cores), raw))


if __name__ == "__main__":
    main()
