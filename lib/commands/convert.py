"""Converts models between checkpoint formats, and records to JSON lines.

python -m lib.commands.convert model models/uncased_L-12_H-768_A-12 models/base --to huggingface \\
    --lowercase yes
python -m lib.commands.convert model models/main models/main-tf1 --to google
python -m lib.commands.convert records data/records/main exported
"""

import argparse
from pathlib import Path

from lib.checkpoints.conversion import GOOGLE, HUGGING_FACE, SEED, convert_model
from lib.records.importing.json_lines_export import write_json_lines
from lib.run.command import new_parser, one_line_errors
from lib.run.pool import worker_count


def _yes_or_no(word: str) -> bool:
    if word not in ("yes", "no"):
        raise argparse.ArgumentTypeError("should be yes or no")
    return word == "yes"


def _add_model(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "model",
        help="a Hugging Face, Google TF1 or Model Garden TF2 model to another format",
    )
    parser.add_argument(
        "source",
        type=Path,
        help="folder of a model, or the path of one of several TensorFlow checkpoints in it, "
        "without .index",
    )
    parser.add_argument("target", type=Path, help="new or empty folder")
    parser.add_argument(
        "--to", required=True, choices=(HUGGING_FACE, GOOGLE), help="format of the target"
    )
    parser.add_argument(
        "--lowercase",
        type=_yes_or_no,
        metavar="yes|no",
        help="whether the tokenizer lower-cases, if its files do not state it (Google's do not)",
    )
    parser.add_argument(
        "--strip-accents",
        type=_yes_or_no,
        metavar="yes|no",
        help="whether it strips accents; default: as --lowercase",
    )
    parser.add_argument(
        "--init-missing-heads",
        action="store_true",
        help=f"give random weights to heads that the source lacks (seed {SEED})",
    )
    parser.add_argument(
        "--without-tokenizer", action="store_true", help="convert only the weights and the config"
    )
    parser.set_defaults(run=convert_model)


def _add_records(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "records", help="records to JSON lines for Hugging Face's BertForPreTraining"
    )
    parser.add_argument("source", type=Path, help="folder written by the records stage")
    parser.add_argument("target", type=Path, help="new folder")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        help="train, dev or test only (may be repeated); default: all",
    )
    parser.set_defaults(run=_convert_records)


def _convert_records(source: Path, target: Path, split: list[str]) -> list[str]:
    counts = write_json_lines(source, target, split, worker_count("auto"))
    written = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return [f"{written} examples -> {target}"]


def main() -> None:
    parser = new_parser("lib.commands.convert", __doc__)
    subparsers = parser.add_subparsers(required=True, metavar="WHAT")
    _add_model(subparsers)
    _add_records(subparsers)
    arguments = vars(parser.parse_args())
    run = arguments.pop("run")
    with one_line_errors("convert"):
        for note in run(**arguments):
            print(f"convert: {note}")


if __name__ == "__main__":
    main()
