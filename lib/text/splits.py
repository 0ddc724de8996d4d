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
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.run.errors import UserError
from lib.text.documents import CorpusText
from lib.text.layout import NAMES, SPLITS, CorpusPlace, corpus_place
from lib.text.names import shown_name, some_of

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
                shown = some_of([shown_name(name) for name in sorted(found)], _SHOWN)
                parts.append(f"{split} from {shown} ({_files(sum(found.values()))})")
        if not parts:
            return "no file or folder is named as a split"
        if others := self.splits.count(None):
            parts.append(f"{_files(others)} without a split's name")
        return "; ".join(parts)

    def question(self) -> tuple[str, str]:
        """The unclear names, and what to say about them as a value of preprocess.splits."""
        first = list(self.unclear.items())[:_SHOWN]
        answer = ", ".join(f"{name!r}: {split}" for name, split in first)
        return some_of(list(map(shown_name, self.unclear)), _SHOWN), f"{{{answer}}}"


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def given_splits(
    names: Sequence[str],
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
        names: paths of the files relative to `folder`, with slashes.
        stated: split (train, dev, test or none) by the path of a file or folder, or a pattern.
        key: the parameter that has `stated`, for errors; None if there is none.

    Raises:
        UserError: a name is unclear although others do state splits: text meant for tests would be
            trained on; or a pattern of `stated` matches nothing.
    """
    stated = stated or {}
    splits: list[str | None] = [None] * len(names)
    sources: Counter[tuple[str, str]] = Counter()
    left: dict[int, tuple[_Entry, ...]] = {}
    unused = dict(stated)
    for index, name in enumerate(names):
        if stated and (found := _stated(name, stated)):
            pattern, source = found
            unused.pop(pattern, None)
            if stated[pattern] != "none":
                splits[index] = stated[pattern]
                sources[stated[pattern], source] += 1
        elif _ANY_WORD.search(name):
            left[index] = _entries(name)
    for pattern in unused:
        raise UserError(f"{key}: {pattern!r} is no file or folder of {folder}; fix the name")

    top = _shared_folders(names)
    words: defaultdict[str, set[str]] = defaultdict(set)  # in each folder
    for entry in chain.from_iterable(left.values()):
        if entry.word:
            words[entry.folder].add(entry.word)
    unclear: dict[str, str] = {}
    undecided: list[_Entry] = []
    certain = any(split != "none" for split in stated.values())
    for index, entries in left.items():
        doubtful = {}
        for entry in entries:
            if not entry.word:
                continue
            split, beside = NAMES[entry.word], {NAMES[word] for word in words[entry.folder]}
            at_top = entry.folder.count("/") <= top
            if entry.word == "eval" and words[entry.folder] & _OTHER_DEV:
                doubtful[entry.name] = "test"
            elif at_top or entry.word == "train" or ("train" in beside and len(beside) > 1):
                splits[index] = split
                sources[split, entry.name] += 1
                certain |= split != "train" or at_top
                break
            elif split != "train":
                doubtful[entry.name] = split
        else:
            unclear |= doubtful
            undecided += [entry for entry in entries if not entry.word]
    similar: defaultdict[str, dict[str, str]] = defaultdict(dict)  # in each folder
    for entry in dict.fromkeys(undecided):
        if resembled := _resembles(entry.name):
            similar[entry.folder][entry.name] = resembled
    for within, resembling in similar.items():
        training = "train" in [*resembling.values(), *(NAMES[word] for word in words[within])]
        if training or within.count("/") <= top:
            held_out = {name: split for name, split in resembling.items() if split != "train"}
            certain |= bool(held_out) and (training or len(set(held_out.values())) > 1)
            unclear |= held_out
    given = GivenSplits(tuple(splits), sources, dict(sorted(unclear.items())))
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


def _shared_folders(names: Sequence[str]) -> int:
    """The number of folders that all files share, up to one that is named as a split."""
    folders = [name.split("/")[:-1] for name in names]
    shared = 0
    if folders:
        # What the first and the last in order share, all do.
        for one, other in zip(min(folders), max(folders), strict=False):
            if one != other or one.lower() in NAMES:
                break
            shared += 1
    return shared


class _Entry(NamedTuple):
    """A file or folder: the folder that it is in, its path as shown, the name of a split or ""."""

    folder: str
    name: str
    word: str


@lru_cache(1 << 12)
def _entries(path: str) -> tuple[_Entry, ...]:
    """A file (or a folder, with a slash at its end) and its folders, innermost first."""
    outer, slash, name = path.removesuffix("/").rpartition("/")
    parts = name.lower().split(".")
    if path.endswith("/"):
        word = name.lower() if name.lower() in NAMES else ""
    else:
        word = next((match[1] for match in map(_FILE_PART.fullmatch, parts) if match), "")
    return (_Entry(outer + slash, path, word), *(_entries(outer + slash) if slash else ()))


def _stated(path: str, stated: Mapping[str, str]) -> tuple[str, str] | None:
    """The pattern that matches a file or the innermost of its folders, and that name."""
    for entry in _entries(path):
        for pattern in stated:
            if fnmatchcase(entry.name.rstrip("/"), pattern.rstrip("/")):
                return pattern, entry.name
    return None


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
    documents in the same way: a corpus with train and test folders still gets a dev split. Each
    input is split by itself.

    An example, with dev_fraction 0.02 and test_fraction 0.03, and hashes as fractions of 2^64:
    hashes below 0.03 are test, from 0.03 to 0.05 dev, the rest train.
    """

    def __init__(
        self, corpus_files: Iterable[Path], corpus: Path, dev_fraction: float, test_fraction: float
    ) -> None:
        self._corpus = corpus
        self._fractions = {"test": test_fraction, "dev": dev_fraction}
        self._given = {corpus_place(path, corpus) for path in corpus_files}

    def _below(self, name: str) -> tuple[np.uint64, np.uint64]:
        """The hashes below which documents of an input are test and, from there on, dev."""
        test, dev = (
            0.0 if CorpusPlace(name, split) in self._given else fraction
            for split, fraction in self._fractions.items()
        )
        return np.uint64(test * 2**64), np.uint64((test + dev) * 2**64)

    def of(self, path: Path, corpus: CorpusText) -> np.ndarray:
        """The split of each document of a corpus file: uint8 [documents], indices of SPLITS."""
        starts = corpus.starts.tolist()
        name, given = corpus_place(path, self._corpus)
        if given in ("dev", "test"):
            return np.full(len(starts) - 1, SPLITS.index(given), np.uint8)
        digests = bytearray()
        for start, stop in pairwise(starts):
            document = corpus.text[start : stop - 1]  # without its blank line
            digests += hashlib.blake2b(document, digest_size=8, person=b"split").digest()
        hashes = np.frombuffer(digests, "<u8")
        test_below, dev_below = self._below(name)
        splits = np.full(len(hashes), SPLITS.index("train"), np.uint8)
        splits[hashes < dev_below] = SPLITS.index("dev")
        splits[hashes < test_below] = SPLITS.index("test")
        return splits
