"""Writing data/corpus: the kept documents of all cleaned chunks, in a few files of bounded size."""

from collections.abc import Iterable
from io import FileIO
from pathlib import Path

import numpy as np

from lib.run.copying import copy_range

_MAX_FILE_BYTES = 64 << 20
_COPY_BYTES = 1 << 22


class CorpusWriter:
    """Writes numbered files of up to 64 MiB, per given split: `corpus/[train/]00000.txt`.

    Many small raw files become a few large ones, which DVC hashes and stores much faster.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, FileIO] = {}
        self._numbers: dict[str, int] = {}

    def __enter__(self) -> "CorpusWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._open.values():
            stream.close()

    def _stream(self, folder: str, more: int) -> FileIO:
        stream = self._open.get(folder)
        if stream and stream.tell() + more > _MAX_FILE_BYTES and stream.tell():
            stream.close()
            self._numbers[folder] += 1
            stream = None
        if stream is None:
            number = self._numbers.setdefault(folder, 0)
            path = self._directory / folder / f"{number:05d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = self._open[folder] = path.open("wb", buffering=0)
        return stream

    def fits(self, folder: str, size: int) -> bool:
        """Whether so many bytes go to one file: the one being written for a split, or a new one."""
        stream = self._open.get(folder)
        return (stream.tell() if stream else 0) + size <= _MAX_FILE_BYTES

    def write(
        self, text: Path, offset: int, sizes: np.ndarray, kept: np.ndarray, folder: str
    ) -> None:
        """Copies those of some consecutive documents of a cleaned chunk that are kept.

        Args:
            text: the text file of the cleaned chunk.
            offset: byte offset of the first of the documents.
            sizes: unsigned integer array [documents], bytes of each document.
            kept: bool [documents].
            folder: name of the given split, or "" for documents without one.
        """
        ends = np.cumsum(sizes, dtype=np.int64)
        with text.open("rb", buffering=0) as source:
            for start, end in _runs(kept, ends):
                while start < end:
                    size = min(end - start, _COPY_BYTES)
                    # A file ends with a whole document, so a copy must, too.
                    cut = start + size
                    if cut < end:
                        index = int(np.searchsorted(ends, cut, side="right"))
                        whole = int(ends[index - 1]) if index else 0
                        cut = whole if whole > start else int(ends[index])
                    target = self._stream(folder, cut - start)
                    copy_range(source, offset + start, offset + cut, target)
                    start = cut


def _runs(kept: np.ndarray, ends: np.ndarray) -> Iterable[tuple[int, int]]:
    """Byte ranges of the kept documents, neighbours joined.

    Documents of 10, 20, 30 and 40 bytes, of which all but the third are kept, have the ranges
    (0, 30) and (60, 100).

    Args:
        kept: bool [documents].
        ends: int64 [documents], byte offset of the end of each document.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], kept, [False])).astype(np.int8)))
    for first, past in edges.reshape(-1, 2):
        yield (int(ends[first - 1]) if first else 0), int(ends[past - 1])
