"""The split (train, dev or test) of each document, by one rule for the whole project.

sample5M and split share it, so that the vocabulary is never trained on dev or test text.
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
    """The split that the name of a raw file or of one of its folders states, or None.

    The innermost name wins. A folder must be called exactly `train`, `dev`, `valid`, `validation`
    or `test`; in a file name, one of the parts between dots must be, and a number may follow a dash
    or underscore (`train-00001.txt`).
    """
    for part in relative.name.lower().split("."):
        if match := _FILE_PART.match(part):
            return NAMES[match.group(1)]
    for folder in reversed(relative.parent.parts):
        if folder.lower() in NAMES:
            return NAMES[folder.lower()]
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
    """The text files of the corpus, in the order in which all stages read them."""
    return sorted(corpus.rglob("*.txt"), key=lambda path: path.relative_to(corpus).as_posix())
