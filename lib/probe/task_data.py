"""Which examples of a labelled task are for training and which for test."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lib.params import ProbeTask
from lib.probe.labelled import SUFFIXES, Example, read_examples
from lib.run.errors import UserError
from lib.text.splits import given_split

# Of the examples, where no file is called test (or dev).
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class TaskData:
    """The two parts, and what there is to say of how they came about."""

    train: list[Example]
    test: list[Example]
    notes: tuple[str, ...]


def read_task(data: Path, task: ProbeTask) -> TaskData:
    """Reads a file or a folder of them.

    Files and folders called `train`, `dev` (`valid`, `validation`) and `test` are taken as such,
    by the rule of the whole project (`lib.text.splits.given_split`). Where there is no test part
    the dev part is one: nothing is chosen by it. Where there is neither, each example goes by a
    hash of its words, so that equal ones are on the same side.

    Raises:
        UserError: there is nothing to read, a part is empty, training has one label only, or a
            file is damaged (see `read_examples`).
    """
    notes = []
    if data.is_dir():
        found = sorted(
            path
            for path in data.rglob("*")
            if path.is_file() and not _hidden(path.relative_to(data))
        )
        files = [path for path in found if path.suffix.lower() in SUFFIXES[task.kind]]
        if left := [str(path) for path in found if path not in files and path.suffix != ".dvc"]:
            notes.append(f"no labelled text by their names, not read: {', '.join(left)}")
    else:
        files = [data]
    if not files:
        raise UserError(
            f"{data}: no file for {task.kind}; its name should end in "
            f"{', '.join(SUFFIXES[task.kind])}"
        )
    parts: dict[str | None, list[Path]] = {}
    for path in files:
        split = given_split(PurePosixPath(path.relative_to(data))) if data.is_dir() else None
        parts.setdefault(split, []).append(path)
    held_out = parts.get("test") or parts.get("dev")
    if "test" in parts and "dev" in parts:
        notes.append("the dev part is not used")
    rest = [*parts.get("train", []), *parts.get(None, [])]
    train = _read_all(rest, task)
    if held_out:
        test = _read_all(held_out, task)
    else:
        notes.append(
            f"no test file: {_TEST_SHARE:.0%} of the examples, by their hash, are for test"
        )
        train, test = _divide(train)
    for name, examples in (("training", train), ("test", test)):
        if not examples:
            raise UserError(
                f"{data}: no example for {name}; add some, or name the files train, test"
            )
    if len({label for example in train for label in example.labels}) < 2:
        raise UserError(f"{data}: training has one label only; is label_field the right one?")
    return TaskData(train, test, tuple(notes))


def _read_all(paths: Iterable[Path], task: ProbeTask) -> list[Example]:
    return [example for path in paths for example in read_examples(path, task)]


def _divide(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        content = "\n".join(example.words).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8, person=b"probe").digest()
        sides[int.from_bytes(digest, "little") < _TEST_SHARE * 2**64].append(example)
    return sides


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
