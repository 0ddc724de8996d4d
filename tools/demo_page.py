"""Writes docs/demo.md: the figures and checksums of a finished run of the demo.

    python -m tools.demo_page [PROJECT]

PROJECT is a clone in which `make demo` has run, by default this one; if `make repeat SEEDS=3` has
run too, the page has mean and standard deviation over the seeds. The page lets anyone compare a run
of their own: outputs through records are the same on every machine, weights on the same type of CPU
with the same version of TensorFlow.
"""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from lib.evaluation.metrics import results_in
from lib.report.repeats import Repeats, repeats_of
from lib.run.atomic import write_text
from lib.run.command import new_parser

_COST = ("cpu_seconds", "peak_memory_mib")
PAGE = Path("docs/demo.md")
_INTRODUCTION = """\
# The demo, as measured

`make demo` in a fresh clone gave these results; `python -m tools.demo_page` wrote this page.

Machine: {machine}; Python {python}, TensorFlow {tensorflow}.
"""
_CHECKSUMS = """\
## Checksums

MD5 of the outputs, as in `dvc.lock`, without results and the model card. Through records they are
the same on every machine that has been tried. Models are the same on the same type of CPU, with the
same version of TensorFlow.
"""


def _table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _held_out(metrics: dict[str, Any], repeats: Repeats | None) -> str:
    heading = ["metric, held-out test text", "model", "95 % interval", "baseline"]
    heading += [f"{len(repeats.runs)} training seeds, mean ± sd"] if repeats else []
    rows = []
    for result in results_in(metrics)[0]:
        value, other = result.written(result.value), ""
        if result.without_model:
            baseline, of_baseline = result.without_model
            other = f"{result.written(of_baseline)} ({baseline.label})"
        row = [result.metric.label, value, result.written_interval(), other]
        rows.append(row + ([repeats.written(result.metric)] if repeats else []))
    described = (
        f"\nThe last column is of `make repeat`: {repeats.described()}.\n" if repeats else ""
    )
    return _table(heading, rows) + described


def _checksums(stages: dict[str, Any]) -> str:
    rows = [
        [f"`{out['path']}`", stage, f"`{out['md5']}`"]
        for stage, locked in stages.items()
        for out in locked["outs"]
        if stage not in ("check", "evaluate")
        and not out["path"].startswith(("results/", "data/names/"))
    ]
    return _table(["output", "stage", "MD5"], rows)


def page(project: Path) -> str:
    """Markdown of the page.

    Args:
        project: its `dvc.lock` and results are read.
    """
    stages = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    metrics = json.loads((project / "results/evaluate/metrics.json").read_text(encoding="utf-8"))
    costs = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((project / "results/cost").glob("*.json"))
    }
    cost = _table(
        ["stage", "CPU seconds", "peak memory, MiB"],
        [[name, *(f"{each[key]:,.0f}" for key in _COST)] for name, each in costs.items()],
    )
    introduction = _INTRODUCTION.format(
        machine=_machine(),
        python=platform.python_version(),
        tensorflow=metadata.version("tensorflow"),
    )
    held_out = _held_out(metrics, repeats_of(project / "results", metrics))
    return "\n".join([introduction, held_out, "## Cost\n", cost, _CHECKSUMS, _checksums(stages)])


def _machine() -> str:
    """Operating system, and the model name of the CPU where Linux reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(names)} cores of {names[0]}" if names else platform.machine()
    return f"{platform.system()}, {processor}"


def main() -> None:
    parser = new_parser("tools.demo_page", __doc__)
    parser.add_argument("project", nargs="?", type=Path, default=Path(), metavar="PROJECT")
    write_text(PAGE, page(parser.parse_args().project))
    print(f"demo_page: {PAGE}")


if __name__ == "__main__":
    main()
