"""Which documents are for training, which for development and test: one rule for the project.

sample5M and split share it, so that the vocabulary never sees test text.
"""

import hashlib
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from lib.text.documents import CorpusText

NAMES = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}
SPLITS = ("train", "dev", "test")

# wiki.train.txt, train-00001.txt, valid.csv.gz; but not test_results.txt
_FILE_PART = re.compile(r"^(train|dev|valid|validation|test)(?:[-_]\d[-_\w]*)?$")


def given_split(relative: PurePosixPath) -> str | None:
    """The split that a raw file's folders or name state, or None.

    The innermost name wins. A folder must be called just `train`, `dev`, `valid`, `validation`
    or `test`; in a file name one of the parts between dots must be so called, a number after a
    dash or underscore allowed (`train-00001.txt`).
    """
    for part in relative.name.lower().split("."):
        if match := _FILE_PART.match(part):
            return NAMES[match.group(1)]
    for folder in reversed(relative.parent.parts):
        if folder.lower() in NAMES:
            return NAMES[folder.lower()]
    return None


class SplitRule:
    """Decides the split of each document of `data/corpus`.

    Documents in the corpus's folders `train`, `dev` and `test` (given by the user) stay there.
    The others go by their content's hash, so that added data never moves an old document across
    the line. A split that was not given while others were is drawn from the training documents
    in the same way: a corpus with train and test folders still gets a dev split.
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
            # Without its blank line.
            document = corpus.text[start : stop - 1]
            digests += hashlib.blake2b(document, digest_size=8, person=b"split").digest()
        draws = np.frombuffer(digests, "<u8")
        splits = np.full(len(draws), SPLITS.index("train"), np.uint8)
        splits[draws < self._dev_below] = SPLITS.index("dev")
        splits[draws < self._test_below] = SPLITS.index("test")
        return splits


def corpus_files(corpus: Path) -> list[Path]:
    """The corpus's text files in the order that all stages read them."""
    return sorted(corpus.rglob("*.txt"), key=lambda path: path.relative_to(corpus).as_posix())
