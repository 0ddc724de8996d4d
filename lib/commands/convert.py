"""Converts what others made, and makes what others read.

python -m lib.commands.convert model models/uncased_L-12_H-768_A-12 models/base --to huggingface \\
    --lowercase yes
python -m lib.commands.convert model models/main models/main-tf1 --to google
python -m lib.commands.convert records data/records/main exported
"""

import argparse
import sys
from pathlib import Path

from lib.checkpoints.conversion import GOOGLE, HUGGING_FACE, SEED, convert_model
from lib.records.json_lines_export import write_json_lines
from lib.run.errors import UserError
from lib.run.pool import worker_count


def _yes(word: str) -> bool:
    if word not in ("yes", "no"):
        raise argparse.ArgumentTypeError("should be yes or no")
    return word == "yes"


def _add_model(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "model",
        help="a model between Hugging Face's, Google's TF1 and the Model Garden's TF2 format",
    )
    parser.add_argument(
        "source",
        type=Path,
        help="folder of a model, or the path of one of several TensorFlow checkpoints in it "
        "without .index",
    )
    parser.add_argument("target", type=Path, help="folder that is empty or not there yet")
    parser.add_argument("--to", required=True, choices=(HUGGING_FACE, GOOGLE))
    parser.add_argument(
        "--lowercase",
        type=_yes,
        metavar="yes|no",
        help="whether the tokenizer lower-cases (Google's files do not say)",
    )
    parser.add_argument(
        "--strip-accents",
        type=_yes,
        metavar="yes|no",
        help="whether it takes accents off letters; as --lowercase if not given",
    )
    parser.add_argument(
        "--init-missing-heads",
        action="store_true",
        help=f"let heads that the source lacks begin at random (seed {SEED})",
    )
    parser.add_argument(
        "--without-tokenizer", action="store_true", help="convert weights and config alone"
    )
    parser.set_defaults(run=convert_model)


def _add_records(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "records", help="records as JSON lines for Hugging Face's BertForPreTraining"
    )
    parser.add_argument("source", type=Path, help="folder that the stage records wrote")
    parser.add_argument("target", type=Path, help="folder that is not there yet")
    parser.add_argument(
        "--split", action="append", default=[], help="only train, dev or test (may be repeated)"
    )
    parser.set_defaults(run=_convert_records)


def _convert_records(source: Path, target: Path, split: list[str]) -> list[str]:
    counts = write_json_lines(source, target, split, worker_count("auto"))
    written = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return [f"{written} examples -> {target}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="WHAT")
    _add_model(subparsers)
    _add_records(subparsers)
    arguments = vars(parser.parse_args())
    run = arguments.pop("run")
    try:
        notes = run(**arguments)
    except (UserError, OSError) as error:
        sys.exit(f"convert: error: {error}")
    for note in notes:
        print(f"convert: {note}")


if __name__ == "__main__":
    main()
