"""Command line of the benchmarks: shared options, input checks, one-line errors, exit codes."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import ROOT
from lib.run.errors import UserError

INPUTS = {
    "wikitext": "train file of WikiText-2",
    "tweets": "text file with one tweet per line",
    "vocab": "vocab.txt of bert-base-uncased",
    "google": "checkout of google-research/bert",
}


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python -m bench.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_inputs(parser: argparse.ArgumentParser, *names: str, required: Iterable[str] = ()) -> None:
    """Adds options for the input paths of INPUTS by their names."""
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=name in required, help=INPUTS[name])


def add_repeats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (default 3)")


def add_outputs(parser: argparse.ArgumentParser, scratch: str) -> None:
    """Adds --out and --work; `scratch` is the default of --work, below .scratch."""
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".scratch" / scratch, help="scratch folder"
    )


def check_files(options: argparse.Namespace, *names: str) -> None:
    """Checks the paths of options; an option that was not given is skipped.

    Raises:
        UserError: a path is not a file.
    """
    for name in names:
        path = getattr(options, name)
        if path and not path.is_file():
            raise UserError(f"--{name} {path}: no such file; give the {INPUTS[name]}")


def exit_if_failed(rows: Iterable[Mapping[str, Any]]) -> None:
    """Ends the process with exit code 1 if a result missed its threshold."""
    failed = [str(row["name"]) for row in rows if row.get("passed") is False]
    if failed:
        sys.exit(f"{_name()}: threshold missed: {'; '.join(failed)}")


def run_main(main: Callable[[], object]) -> None:
    """Runs a benchmark's main; a UserError becomes one line on stderr and exit code 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"{_name()}: error: {error}")


def _name() -> str:
    return Path(sys.argv[0]).stem
