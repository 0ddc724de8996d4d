"""Copying of byte ranges between files, by the kernel where it can."""

import os
from io import FileIO

_COPY_BYTES = 1 << 22


def copy_range(source: FileIO, start: int, stop: int, target: FileIO) -> None:
    """Appends the bytes from `start` to `stop` of one unbuffered file to another.

    Raises:
        OSError: the source ends before `stop`, or the disk is full.
    """
    by_kernel = hasattr(os, "copy_file_range")
    while start < stop:
        count = min(stop - start, _COPY_BYTES)
        if by_kernel:
            try:
                # Twice as fast as reading and writing, and free where the file system can share
                # blocks.
                copied = os.copy_file_range(source.fileno(), target.fileno(), count, start)
            except OSError:  # Not between these file systems; if the disk is full, `write` fails.
                by_kernel = False
                continue
        else:
            copied = target.write(os.pread(source.fileno(), count, start))
        if not copied:
            raise OSError(f"{source.name}: ended at byte {start}; it was changed while it was read")
        start += copied
