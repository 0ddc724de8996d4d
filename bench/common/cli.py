"""Command line of the benchmarks: options, input checks, progress, results, exit codes."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.common.report import Row, machine, table, write_json
from lib.run.command import new_parser
from lib.run.errors import UserError

INPUTS = {
    "wikitext": "train file of WikiText-2",
    "tweets": "text file with one tweet per line",
    "vocab": "vocab.txt of bert-base-uncased",
    "articles": "text with a blank line between documents",
}
# Name -> repository, and a file of it.
CHECKOUTS = {
    "google": ("google-research/bert", "create_pretraining_data.py"),
    "ctbert": ("digitalepidemiologylab/covid-twitter-bert", "preprocess/prepare_pretrain_data.py"),
    "lddl": ("NVIDIA/LDDL", "lddl/dask/bert/pretrain.py"),
}


def make_parser(
    module: str,
    description: str | None,
    *inputs: str,
    required: Iterable[str] = (),
    scratch: bool = True,
) -> argparse.ArgumentParser:
    """A parser with --out, with --work unless nothing is written, and with options for inputs.

    Args:
        inputs, required: names in INPUTS and CHECKOUTS.
    """
    parser = new_parser(f"bench.{module}", description)
    helps = INPUTS | {name: f"checkout of {source}" for name, (source, _) in CHECKOUTS.items()}
    for name in (*required, *inputs):
        parser.add_argument(f"--{name}", type=Path, required=name in required, help=helps[name])
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    if scratch:
        name = module.rpartition(".")[2].replace("_", "-")
        parser.add_argument(
            "--work", type=Path, default=ROOT / ".scratch" / name, help="scratch folder"
        )
    return parser


def add(
    parser: argparse.ArgumentParser,
    option: str,
    default: Any,
    help: str,
    choices: Iterable[str] | None = None,
) -> None:
    """Adds an option with the type of its default; with several values if that is a list."""
    many = isinstance(default, list)
    shown = " ".join(map(str, default)) if many else default
    parser.add_argument(
        option,
        type=type(default[0] if many else default),
        nargs="+" if many else None,
        default=default,
        choices=choices,
        help=f"{help} (default: {shown})",
    )


def add_repeats(parser: argparse.ArgumentParser) -> None:
    add(parser, "--repeats", 3, "runs of each side")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, with absolute paths of checkouts and scratch folder, and `machine`.

    Raises:
        UserError: the path of an input does not exist, or that of a checkout is not a checkout.
    """
    options = parser.parse_args()
    for name, what in INPUTS.items():
        path = getattr(options, name, None)
        if path and not path.is_file():
            raise UserError(f"--{name} {path}: no such file; give the {what}")
    for name, (source, file) in CHECKOUTS.items():
        if path := getattr(options, name, None):
            if not (path / file).is_file():
                raise UserError(f"--{name} {path}: no {file} there; give a checkout of {source}")
            setattr(options, name, path.absolute())
    for name, value in vars(options).items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and name not in ("out", "work") and not path.exists():
                raise UserError(f"{path}: no such file or folder; --help describes {name}")
    if "repeats" in options and options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: should be at least 1")
    if "work" in options:
        options.work = options.work.absolute()
    options.machine = machine()
    return options


def given_texts(options: argparse.Namespace) -> dict[str, Path]:
    """Those of the texts `wikitext` and `tweets` that were given, by name.

    Raises:
        UserError: neither was.
    """
    texts = {name: getattr(options, name) for name in ("wikitext", "tweets")}
    if not any(texts.values()):
        raise UserError("no text; give --wikitext, --tweets or both")
    return {name: path for name, path in texts.items() if path}


def progress(text: str) -> None:
    """Prints a line on stderr."""
    print(f"{_name()}: {text}", file=sys.stderr, flush=True)


def save(options: argparse.Namespace, **results: object) -> None:
    """Writes results, and the conditions of the measurement, to --out if that is given."""
    if options.out:
        write_json(options.out, {"machine": options.machine, **results})


def finish(
    options: argparse.Namespace,
    details: Mapping[str, object] | None = None,
    **results: Sequence[Row],
) -> None:
    """Prints and saves tables of results; ends with exit code 1 if one missed its threshold.

    Args:
        details: what is only saved.
    """
    for rows in filter(None, results.values()):
        print(table(rows) + "\n")
    cores, before = options.machine["cores"], options.machine["load_average"]
    after = machine()["load_average"]
    print(f"{cores} cores; load average before: {before:.1f}, after: {after:.1f}")
    save(options, **results, **(details or {}))
    exit_if_failed(row for rows in results.values() for row in rows)


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
