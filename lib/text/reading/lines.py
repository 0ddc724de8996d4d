"""Bytes to lines of text: a range of a file at a time, in bounded memory, bad lines rejected.

A large file is read in several pieces, by several workers. A piece is a range of bytes; what
belongs to it is decided by *cuts*, lines at which a document may begin: from the first cut at or
after the range's start to the first cut at or after its end. Neighbours thus agree without
knowing of each other, as the input splits of MapReduce do (Dean and Ghemawat, 2004).
"""

from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedIOBase
from pathlib import Path

from lib.text.reading.rejections import Rejections

BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 4 << 20

IsCut = Callable[[bytes], bool]


def range_chunks(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from `start` to `stop` (or to its end), some at a time."""
    with path.open("rb") as stream:
        stream.seek(start)
        while chunk := stream.read(min(BLOCK_BYTES, stop - start)):
            yield chunk
            start += len(chunk)


def first_cut(stream: BufferedIOBase, offset: int, is_cut: IsCut) -> int:
    """Offset of the first line that begins at or after `offset` and is a cut, or the file's end."""
    if offset == 0:
        return 0
    stream.seek(offset - 1)
    place = offset - 1
    at_start = False  # of a line: the byte before `offset` may end one.
    while line := stream.readline(MAX_LINE_BYTES):
        if at_start and is_cut(line):
            return place
        place += len(line)
        at_start = line.endswith(b"\n")
    return place


def line_blocks(
    stream: BufferedIOBase, size: int | None, rejections: Rejections, where: Callable[[int], str]
) -> Iterator[tuple[int, bytes]]:
    """Whole lines, some 256 KiB at a time.

    Args:
        stream: read from where it stands.
        size: bytes to read; None reads to the end.
        where: the name of the place of the n-th line (from 0), for errors.

    Yields:
        The number of lines before the block, and its bytes: lines that end with LF, but the last.
    """
    number = 0
    rest = b""
    while True:
        wanted = BLOCK_BYTES if size is None else min(BLOCK_BYTES, size)
        chunk = stream.read1(wanted) if wanted else b""
        if size is not None:
            size -= len(chunk)
        if not chunk:
            if rest:
                yield number, rest
            return
        end = chunk.rfind(b"\n") + 1
        if end:
            block = rest + chunk[:end]
            rest = chunk[end:]
            yield number, block
            number += block.count(b"\n")
        elif len(rest) + len(chunk) <= MAX_LINE_BYTES:
            rest += chunk
        else:
            rejections.add("line_too_long", partial(where, number), rest)
            rest, skipped = _after_line(stream, size)
            if size is not None:
                size -= skipped
            number += 1


def _after_line(stream: BufferedIOBase, size: int | None) -> tuple[bytes, int]:
    """Reads past the end of a line: what was read behind it, and how much was read in all."""
    skipped = 0
    while size is None or skipped < size:
        chunk = stream.read1(BLOCK_BYTES if size is None else min(BLOCK_BYTES, size - skipped))
        skipped += len(chunk)
        end = chunk.find(b"\n") + 1
        if end or not chunk:
            return chunk[end:] if end else b"", skipped
    return b"", skipped


def decode_lines(block: bytes, rejections: Rejections, where: Callable[[int], str]) -> list[str]:
    """The lines of a block as text, without their ends (LF, CR LF or CR).

    Lines that are not UTF-8 or hold a NUL byte are rejected, one by one.
    """
    try:
        text = block.decode()
        if "\0" not in text:
            return _split(text)
    except UnicodeDecodeError:
        pass
    lines: list[str] = []
    for index, line in enumerate(block.split(b"\n")):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            rejections.add("invalid_utf8", partial(where, index), line)
            continue
        if "\0" in text:
            rejections.add("nul_byte", partial(where, index), line)
        elif "\r" in text:
            lines += _split(text)
        else:
            lines.append(text)
    if block.endswith(b"\n"):
        lines.pop()  # What follows the last line end is no line.
    return lines


def _split(text: str) -> list[str]:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines
