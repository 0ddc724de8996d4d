"""Training and test examples of a labelled task, and folds of the training examples."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.params import ProbeTask
from lib.probe.labelled import SUFFIXES, Example, read_examples
from lib.run.errors import UserError
from lib.text.splits import given_splits

# If no file is named test or dev.
_TEST_FRACTION = 0.2
# Parts of the training examples, for choices among baselines.
_FOLDS = 5


@dataclass(frozen=True)
class TaskData:
    """Training and test examples, and notes for the user on how they were chosen."""

    train: list[Example]
    test: list[Example]
    notes: tuple[str, ...]


def read_task(data: Path, task: ProbeTask) -> TaskData:
    """Reads the examples of a file, or of all labelled files in a folder.

    Files and folders named `train`, `dev` (`valid`, `validation`) and `test` are used as such, by
    the same rule as raw text (`lib.text.splits.given_splits`). Without a test part the dev part
    serves as one, since nothing else is chosen by it. Without either, examples are split by a hash
    of their words, so that equal ones land in the same part.

    Raises:
        UserError: there is nothing to read, a part is empty, training has only one label, or a file
            is damaged (see `read_examples`).
    """
    notes = []
    if data.is_dir():
        found = sorted(
            path
            for path in data.rglob("*")
            if path.is_file() and not _is_hidden(path.relative_to(data))
        )
        files = [path for path in found if path.suffix.lower() in SUFFIXES[task.kind]]
        if skipped := [str(path) for path in found if path not in files and path.suffix != ".dvc"]:
            notes.append(f"skipped, not labelled text by their suffixes: {', '.join(skipped)}")
    else:
        files = [data]
    if not files:
        raise UserError(
            f"{data}: no file for {task.kind}; add one whose name ends in "
            f"{', '.join(SUFFIXES[task.kind])}"
        )
    parts: dict[str | None, list[Path]] = {}
    inside = data if data.is_dir() else data.parent
    given = given_splits([path.relative_to(inside).as_posix() for path in files], data)
    if given.unclear:
        names, _ = given.question()
        notes.append(f"{names}: not for tests, although the name resembles that of a split")
    for path, split in zip(files, given.splits, strict=True):
        parts.setdefault(split if data.is_dir() else None, []).append(path)
    held_out = parts.get("test") or parts.get("dev")
    if "test" in parts and "dev" in parts:
        notes.append("the dev part is not used")
    rest = [*parts.get("train", []), *parts.get(None, [])]
    train = _read_all(rest, task)
    if held_out:
        test = _read_all(held_out, task)
    else:
        notes.append(
            f"no test file: {_TEST_FRACTION:.0%} of the examples, chosen by hash, are for testing"
        )
        train, test = _split_by_hash(train)
    for name, examples in (("training", train), ("test", test)):
        if not examples:
            raise UserError(
                f"{data}: no examples for {name}; add some, or name the files train and test"
            )
    if len({label for example in train for label in example.labels}) < 2:
        raise UserError(
            f"{data}: all training examples have the same label; fix label_field or add examples"
        )
    return TaskData(train, test, tuple(notes))


def _read_all(paths: Iterable[Path], task: ProbeTask) -> list[Example]:
    return [example for path in paths for example in read_examples(path, task)]


def _split_by_hash(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """(training, test) examples. A new example never moves another one to the other part."""
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[_hash(example.words) < _TEST_FRACTION * 2**64].append(example)
    return parts


def assign_folds(examples: Sequence[Example]) -> np.ndarray:
    """int64 [examples]: the fold of each training example, 0 to 4.

    What a baseline needs to be chosen is chosen by these: train on all folds but one, evaluate on
    that one. Equal texts are in the same fold, and each class is spread evenly over the folds.
    """
    labels: dict[tuple[str, ...], tuple[str, ...]] = {}
    for example in examples:
        labels.setdefault(example.words, example.labels)
    order = sorted(labels, key=lambda words: (labels[words], _hash(words), words))
    folds = {words: number % _FOLDS for number, words in enumerate(order)}
    return np.array([folds[example.words] for example in examples], np.int64)


def _hash(words: Iterable[str]) -> int:
    """Of 64 bits."""
    content = "\n".join(words).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(content, digest_size=8, person=b"probe").digest()
    return int.from_bytes(digest, "little")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
