"""The split (train, dev or test) of each document, by one rule for the whole project.

sample5M and split share it, so that the vocabulary is never trained on dev or test text.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from lib.run.errors import UserError
from lib.text.documents import CorpusText

SPLITS = ("train", "dev", "test")
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
# Words of names that resemble one of a split.
_WORDS = NAMES | {
    "development": "dev",
    "evaluation": "dev",
    "heldout": "test",
    "holdout": "test",
    "testing": "test",
}
_ANY_WORD = re.compile("train|dev|val|test|h[eo]ldout", re.IGNORECASE)
# wiki.train.txt, train-00001.txt, valid.csv.gz; but not test_results.txt
_FILE_PART = re.compile(rf"({'|'.join(NAMES)})(?:[-_]\d[-_\w]*)?")
# test_en, en-test, testset, test2
_SIMILAR = re.compile(rf"({'|'.join(_WORDS)})(?:set|data|files?|split)?\d*")
_OTHER_DEV = {word for word, split in NAMES.items() if split == "dev" and word != "eval"}
_SHOWN = 3
# preprocess writes files of up to 64 MiB.
MAX_CORPUS_FILE = 128 << 20


@dataclass(frozen=True)
class GivenSplits:
    """The splits that the names of files and folders state.

    Attributes:
        splits: of each file: train, dev, test, or None if nothing states it.
        sources: number of files by split and by the file or folder whose name states it.
        unclear: files and folders with a name that resembles one of a split, and that split.
    """

    splits: tuple[str | None, ...]
    sources: Mapping[tuple[str, str], int]
    unclear: Mapping[str, str]

    def described(self) -> str:
        """What states which split, in a line."""
        parts = []
        for split in SPLITS:
            found = {name: count for (own, name), count in self.sources.items() if own == split}
            if found:
                files = sum(found.values())
                shown = ", ".join(map(_printable, sorted(found)[:_SHOWN]))
                more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
                parts.append(f"{split} from {shown}{more} ({_files(files)})")
        if not parts:
            return "no file or folder is named as a split"
        others = self.splits.count(None)
        return "; ".join(
            [*parts, *([f"{_files(others)} without a split's name"] if others else [])]
        )

    def question(self) -> tuple[str, str]:
        """The unclear names, and what to say about them as a value of preprocess.splits."""
        shown = list(self.unclear.items())[:_SHOWN]
        more = f" and {len(self.unclear) - _SHOWN:,} more" if len(self.unclear) > _SHOWN else ""
        names = ", ".join(_printable(name) for name, _ in shown)
        answer = ", ".join(f"{_printable(name)!r}: {split}" for name, split in shown)
        return f"{names}{more}", f"{{{answer}}}"


def _printable(name: str) -> str:
    """A file's name, with bytes that are not UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def given_splits(
    paths: Sequence[PurePosixPath],
    folder: Path,
    stated: Mapping[str, str] | None = None,
    key: str | None = None,
) -> GivenSplits:
    """The splits that the names of raw files and of their folders state.

    The innermost name wins. A folder must be called exactly `train`, `dev`, `test` or by another
    of NAMES; in a file name, one of the parts between dots must be, and a number may follow a dash
    or underscore (`train-00001.txt`). Such a name counts at the top level (below the folders that
    all files share), and deeper in the tree if a name for training stands next to it:

        wiki/train.txt, wiki/test.txt, news/2020.txt      train, test, none
        src/test/cases.txt, docs/intro.txt                none: `src/test` is unclear

    A name that only resembles one of a split is unclear, too: `test_en.txt`, `dev_small`.

    Args:
        paths: of the files, relative to `folder`.
        stated: split (train, dev, test or none) by the path of a file or folder, or a pattern.
        key: the parameter that has `stated`, for errors; None if there is none.

    Raises:
        UserError: a name is unclear although others do state splits: text meant for tests would be
            trained on; or a pattern of `stated` matches nothing.
    """
    stated = stated or {}
    names = [path.as_posix() for path in paths]
    top = _shared_folders(names)
    own: list[str | None] = [None] * len(paths)
    sources: Counter[tuple[str, str]] = Counter()
    left: list[int] = []
    unused = dict(stated)
    for index, name in enumerate(names):
        if stated and (found := _stated(name, stated)):
            pattern, source = found
            unused.pop(pattern, None)
            if stated[pattern] != "none":
                own[index] = stated[pattern]
                sources[stated[pattern], source] += 1
        elif _ANY_WORD.search(name):
            left.append(index)
    for pattern in unused:
        raise UserError(f"{key}: {pattern!r} is no file or folder of {folder}; fix the name")

    entries = [_entries(names[index]) for index in left]
    words: defaultdict[str, set[str]] = defaultdict(set)  # in each folder
    for entry in chain.from_iterable(entries):
        if entry.word:
            words[entry.folder].add(entry.word)
    similar: defaultdict[str, dict[str, str]] = defaultdict(dict)  # in each folder
    unclear: dict[str, str] = {}
    certain = any(split != "none" for split in stated.values())
    for index, own_entries in zip(left, entries, strict=True):
        doubtful = {}
        for entry in own_entries:
            if not entry.word:
                continue
            split, beside = NAMES[entry.word], {NAMES[word] for word in words[entry.folder]}
            at_top = entry.folder.count("/") <= top
            if entry.word == "eval" and words[entry.folder] & _OTHER_DEV:
                doubtful[entry.name] = "test"
            elif at_top or entry.word == "train" or ("train" in beside and len(beside) > 1):
                own[index] = split
                sources[split, entry.name] += 1
                certain |= split != "train" or at_top
                break
            elif split != "train":
                doubtful[entry.name] = split
        if own[index] is None:
            unclear |= doubtful
            for entry in own_entries:
                if not entry.word and (resembled := _resembles(entry.name)):
                    similar[entry.folder][entry.name] = resembled
    for within, resembling in similar.items():
        training = "train" in [*resembling.values(), *(NAMES[word] for word in words[within])]
        if training or within.count("/") <= top:
            held_out = {name: split for name, split in resembling.items() if split != "train"}
            certain |= bool(held_out) and (training or len(set(held_out.values())) > 1)
            unclear |= held_out
    given = GivenSplits(tuple(own), sources, dict(sorted(unclear.items())))
    if unclear and certain:
        shown, answer = given.question()
        fix = (
            f"set {key}: {answer}, or none instead of a split" if key else "rename what is held out"
        )
        raise UserError(
            f"{folder}: held-out text or not: {shown}? The name resembles that of a split, and "
            f"without an answer the text would be trained on; {fix}"
        )
    return given


def _shared_folders(paths: Sequence[str]) -> int:
    """The number of folders that all files share, up to one that is named as a split."""
    folders = [path.split("/")[:-1] for path in paths]
    shared = 0
    if folders:
        # What the first and the last in order share, all do.
        for one, other in zip(min(folders), max(folders), strict=False):
            if one != other or one.lower() in NAMES:
                break
            shared += 1
    return shared


def _with_folders(path: str) -> list[str]:
    """A file's path, and the paths of its folders with a slash, innermost first."""
    ends = [match.end() for match in re.finditer("/", path)]
    return [path, *(path[:end] for end in reversed(ends))]


def _stated(path: str, stated: Mapping[str, str]) -> tuple[str, str] | None:
    """The pattern that matches a file or the innermost of its folders, and that name."""
    for name in _with_folders(path):
        for pattern in stated:
            if fnmatchcase(name.rstrip("/"), pattern.rstrip("/")):
                return pattern, name
    return None


class _Entry(NamedTuple):
    """A file or folder: the folder that it is in, its path as shown, the name of a split or ""."""

    folder: str
    name: str
    word: str


def _entries(path: str) -> list[_Entry]:
    """A file and its folders, innermost first."""
    folder, slash, name = path.rpartition("/")
    word = ""
    if _ANY_WORD.search(name):
        matches = map(_FILE_PART.fullmatch, name.lower().split("."))
        word = next((match[1] for match in matches if match), "")
    return [_Entry(folder + slash, path, word), *_folder_entries(folder + slash)]


@lru_cache(1 << 12)
def _folder_entries(path: str) -> list[_Entry]:
    entries = []
    for folder in _with_folders(path)[1:]:
        outer, slash, name = folder.removesuffix("/").rpartition("/")
        word = name.lower()
        entries.append(_Entry(outer + slash, folder, word if word in NAMES else ""))
    return entries


def _resembles(name: str) -> str | None:
    """The split whose name begins or ends a part of a file's or folder's name."""
    for part in name.rstrip("/").rpartition("/")[2].lower().split("."):
        pieces = re.split("[-_ ]+", part)
        for piece in (pieces[0], pieces[-1]):
            if match := _SIMILAR.fullmatch(piece):
                return _WORDS[match[1]]
    return None


class SplitRule:
    """Decides the split of each document of data/corpus.

    Documents in the corpus folders `train`, `dev` and `test` (given by the user) stay there. The
    others are split by a hash of their content, so that added data never moves an old document to
    another split. If only some splits are given, the missing ones are drawn from the training
    documents in the same way: a corpus with train and test folders still gets a dev split.

    An example, with dev_fraction 0.02 and test_fraction 0.03, and hashes as fractions of 2^64:
    hashes below 0.03 are test, from 0.03 to 0.05 dev, the rest train.
    """

    def __init__(
        self, corpus_files: Iterable[Path], corpus: Path, dev_fraction: float, test_fraction: float
    ) -> None:
        self._corpus = corpus
        self.given = {split for path in corpus_files if (split := self._folder(path))}
        dev = 0.0 if "dev" in self.given else dev_fraction
        test = 0.0 if "test" in self.given else test_fraction
        self._test_below = np.uint64(test * 2**64)
        self._dev_below = np.uint64((test + dev) * 2**64)

    def _folder(self, path: Path) -> str | None:
        first = path.relative_to(self._corpus).parts[0]
        return first if first in SPLITS else None

    def of(self, path: Path, corpus: CorpusText) -> np.ndarray:
        """The split of each document of a corpus file: uint8 [documents], indices of SPLITS."""
        starts = corpus.starts.tolist()
        folder = self._folder(path)
        if folder in ("dev", "test"):
            return np.full(len(starts) - 1, SPLITS.index(folder), np.uint8)
        digests = bytearray()
        for start, stop in pairwise(starts):
            document = corpus.text[start : stop - 1]  # without its blank line
            digests += hashlib.blake2b(document, digest_size=8, person=b"split").digest()
        hashes = np.frombuffer(digests, "<u8")
        splits = np.full(len(hashes), SPLITS.index("train"), np.uint8)
        splits[hashes < self._dev_below] = SPLITS.index("dev")
        splits[hashes < self._test_below] = SPLITS.index("test")
        return splits


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
        if len(name.parts) > 1 and (split := NAMES.get(name.parts[0].lower(), name.parts[0])) in (
            set(SPLITS) - {name.parts[0]}
        ):
            raise UserError(f"{corpus / name.parts[0]}: rename it to {split}; {corpus} {contract}")
        if path.stat().st_size > MAX_CORPUS_FILE:
            raise UserError(
                f"{path}: larger than {MAX_CORPUS_FILE >> 20} MiB, and each file is read into "
                "memory; divide it at blank lines"
            )
        found.append(path)
    if not found:
        raise UserError(f"{corpus}: has no files; it {contract}")
    return sorted(found, key=lambda path: path.relative_to(corpus).as_posix())
