"""What a run will take, before it runs: `python -m lib.commands.plan --text 20GB --device a100`.

Settings come from params.yaml, rates and peaks from `lib.commands.plan_rates`; the last column
says what a line rests on. docs/planning.md has the formulas and how good they are.
"""

import argparse
import math
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from lib.commands.plan_rates import DEVICES, HASHED, TEXTS
from lib.commands.plan_stages import MEASURED, Line, plan
from lib.params import load_params
from lib.run.errors import UserError


def parse_size(text: str) -> float:
    """Bytes: 20GB, 1.5 TB, 800MB. Units are powers of a thousand.

    Raises:
        UserError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text.strip())
    if not match or not float(match[1]):
        raise UserError(f"--text: should be a size such as 20GB. Received: {text!r}")
    return float(match[1]) * 1000 ** " kMGT".index(match[2] or " ")


def size_of(folder: Path) -> float:
    """Bytes of the files of a folder.

    Raises:
        UserError: there are none.
    """
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if not total:
        raise UserError(f"{folder}: no text there; say how much there will be: --text 20GB")
    return total


def _amount(value: float) -> str:
    unit = min(4, max(1, int(math.log10(max(value, 1)) // 3)))
    return f"{value / 1000**unit:.3g} {' kMGT'[unit]}B"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s"


def table(lines: list[Line], raw: float) -> str:
    """The plan for people, with what all stages need together."""
    disk = raw + sum(line.disk for line in lines)
    rows = [("stage", "time", "disk", "memory", "rests on")]
    rows += [
        (line.stage, _time(line.seconds), _amount(line.disk), _amount(line.memory), line.basis)
        for line in lines
    ]
    hashing = disk / HASHED
    rows.append(("dvc's hashes", _time(hashing), "", "", MEASURED))
    seconds = hashing + sum(line.seconds for line in lines)
    rows.append(("all", _time(seconds), _amount(disk), "", "with the raw text; links in the cache"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4]]
        ).rstrip()
        for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.commands.plan", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--text", help="how much raw text; else that in preprocess.input")
    parser.add_argument("--kind", choices=TEXTS, default="articles", help="what it is like")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="that trains")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="so many of them")
    parser.add_argument("--share", type=float, help="of their peak that training reaches")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that prepare the data")
    given = parser.parse_args()
    try:
        params, device = load_params(), DEVICES[given.device]
        raw = parse_size(given.text) if given.text else size_of(Path(params.preprocess.input))
        if given.share:
            device = replace(device, share=given.share, basis="given")
        lines = plan(params, raw, TEXTS[given.kind], device, given.devices, given.cores or 1)
        print(table(lines, raw))
    except UserError as error:
        sys.exit(f"plan: error: {error}")


if __name__ == "__main__":
    main()
