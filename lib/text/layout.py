"""Files of data/corpus and data/shards: by split and, if the raw text is in named inputs, by input.

data/corpus/00000.txt                      its documents go to any split
data/corpus/test/00000.txt                 given as test text
data/corpus/inputs/wiki/00000.txt          the same two of the input `wiki`
data/corpus/inputs/wiki/test/00000.txt
data/shards/train/00000.txt
data/shards/train/wiki/00000.txt           of the input `wiki`
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

from lib.run.errors import UserError

SPLITS = ("train", "dev", "test")
# In names of files and folders: for text of a split.
NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "devel": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "eval": "dev",
    "test": "test",
}
_INPUTS = "inputs"
# The input that is only evaluated (evaluate.extra).
EXTRA = "extra"
# preprocess writes files of up to 64 MiB.
MAX_CORPUS_FILE = 128 << 20


class CorpusPlace(NamedTuple):
    """What the folder of a corpus file says: its input, "" if there are none; its given split."""

    input: str
    split: str | None

    def folder(self) -> str:
        """The path of the folder in the corpus; "" for the corpus itself."""
        parts = [_INPUTS, self.input] if self.input else []
        return "/".join([*parts, *([self.split] if self.split else [])])


def corpus_place(path: Path, corpus: Path) -> CorpusPlace:
    """Where a file of the corpus is."""
    name, folders = _input_and_folders(path, corpus)
    return CorpusPlace(name, folders[0] if folders and folders[0] in SPLITS else None)


def _input_and_folders(path: Path, corpus: Path) -> tuple[str, tuple[str, ...]]:
    folders = path.relative_to(corpus).parts[:-1]
    if folders[:1] == (_INPUTS,) and len(folders) > 1:
        return folders[1], folders[2:]
    return "", folders


def corpus_files(corpus: Path) -> list[Path]:
    """The text files of the corpus, in the order in which all stages read them.

    Raises:
        UserError: the folder breaks the contract of preprocess: there are no such files, others,
            files that are too large, or a folder of a split has another name.
    """
    contract = "should have .txt files, in the folders train, dev and test if their split is given"
    found = []
    for path in corpus.rglob("*"):
        name = path.relative_to(corpus)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        if path.suffix != ".txt":
            raise UserError(f"{path}: not a .txt file; {corpus} {contract}")
        folders = _input_and_folders(path, corpus)[1]
        if folders and (split := NAMES.get(folders[0].lower(), folders[0])) in (
            set(SPLITS) - {folders[0]}
        ):
            wrong = path.parents[len(folders) - 1]
            raise UserError(f"{wrong}: rename it to {split}; {corpus} {contract}")
        if path.stat().st_size > MAX_CORPUS_FILE:
            raise UserError(
                f"{path}: larger than {MAX_CORPUS_FILE >> 20} MiB, and each file is read into "
                "memory; divide it at blank lines"
            )
        found.append(path)
    if not found:
        raise UserError(f"{corpus}: has no files; it {contract}")
    return sorted(found, key=lambda path: path.relative_to(corpus).as_posix())


def by_input(files: Iterable[Path], corpus: Path) -> dict[str, list[Path]]:
    """The files of the corpus by input; the input is "" if there are none."""
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(corpus_place(path, corpus).input, []).append(path)
    return found


def shard_files(shards: Path, split: str) -> list[Path]:
    """The text shards of a split, input by input, each in the order of their numbers."""
    folder = shards / split
    return sorted(folder.rglob("*.txt"), key=lambda path: path.relative_to(folder).as_posix())


def shard_input(path: PurePath, split: str) -> str:
    """The input that a shard, or a record file made of it, belongs to; "" if there are none."""
    return "" if path.parent.name == split else path.parent.name


def refuse_other_names(shards: Path) -> None:
    """Refuses a folder of text shards with other names than those above.

    Raises:
        UserError: a split has no folder, a file has another name, or some training shards belong to
            an input and others do not.
    """
    inputs = set()
    for split in SPLITS:
        folder = shards / split
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; split writes {split}/00000.txt and so on")
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_dir() or any(part.startswith(".") for part in name.parts):
                continue
            if len(name.parts) > 2 or not re.fullmatch(r"\d{5,}\.txt", path.name):
                raise UserError(
                    f"{path}: text shards are called 00000.txt, 00001.txt and so on; rename it"
                )
            if split == "train":
                inputs.add(shard_input(path, split))
    if "" in inputs and len(inputs) > 1:
        raise UserError(
            f"{shards}: some training shards are in the folder of an input and others are not; put "
            "those of every input into train/INPUT"
        )
