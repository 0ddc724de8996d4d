"""Speed-up of preprocess and records with two workers over one, measured alternately."""

import shutil
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.common import cli
from bench.common.processes import Measured, alternate
from bench.common.project import Project, enlarged_project
from bench.common.report import machine, table, write_json

THRESHOLD = 1.7
_FILE_MEGABYTES = 16
_COLUMNS = {
    "name": "stage",
    "one_seconds": "one worker s",
    "two_seconds": "two s",
    "ratio": "ratio",
    "passed": "passed",
}


def _run(project: Project, workers: int, stage: Callable[[], Measured]) -> Measured:
    project.set({"cluster": {"workers": workers}})
    return stage()


def compare(name: str, project: Project, stage: Callable[[], Measured], repeats: int) -> Any:
    """Result of one stage."""
    runs = alternate(
        partial(_run, project, 1, stage),
        partial(_run, project, 2, stage),
        repeats,
    )
    one, two = (statistics.median(run.wall_seconds for run in side) for side in runs)
    return {
        "name": name,
        "one_seconds": one,
        "two_seconds": two,
        "ratio": one / two,
        "passed": one / two >= THRESHOLD,
        "one_runs": [run.wall_seconds for run in runs[0]],
        "two_runs": [run.wall_seconds for run in runs[1]],
    }


def main() -> None:
    parser = cli.make_parser("data.workers", __doc__)
    cli.add_inputs(parser, "wikitext", "vocab", required=("wikitext", "vocab"))
    parser.add_argument(
        "--megabytes", type=int, default=256, help="size of the text (default 256), in files of 16"
    )
    cli.add_repeats(parser)
    cli.add_outputs(parser, "workers")
    options = parser.parse_args()
    cli.check_files(options, "wikitext", "vocab")
    project = enlarged_project(
        options.work,
        options.vocab,
        {"wikitext": options.wikitext},
        options.megabytes,
        _FILE_MEGABYTES,
    )
    conditions = machine(["numpy"])
    results = [compare("preprocess", project, project.preprocess, options.repeats)]
    project.stage("split")
    results.append(compare("records", project, project.records, options.repeats))
    shutil.rmtree(options.work)
    print(table(results, _COLUMNS))
    print(
        f"{conditions['cores']} cores; load average before: {conditions['load_average']:.1f} "
        "(two workers cannot be twice as fast on a busy machine)"
    )
    if options.out:
        write_json(options.out, {"machine": conditions, "results": results})
    cli.exit_if_failed(results)


if __name__ == "__main__":
    cli.run_main(main)
