"""Bytes to lines of text: a byte range of a file at a time, in bounded memory, bad lines rejected.

A large file is read in chunks, by several workers. A chunk is a byte range moved to *cuts*, lines
at which a document may begin: it reaches from the first cut at or after the start of the range to
the first cut at or after its end. So neighbours agree on their border without communicating, as the
input splits of MapReduce do (Dean and Ghemawat, 2004). An example, with blank lines as cuts:

    file      "one\\n\\ntwo\\n\\nthree\\n", 16 bytes, with cuts at 0, 4, 9 (and at its end, 16)
    ranges    [0, 6)              [6, 12)        [12, 16)
    chunks    [0, 9): one, two    [9, 16): three    [16, 16): nothing
"""

from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedIOBase
from pathlib import Path

from lib.text.reading.rejections import Rejections

BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 4 << 20

IsCut = Callable[[bytes], bool]


def range_bytes(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from `start` to `stop` (or to its end), a block at a time."""
    with path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(min(BLOCK_BYTES, stop - start)):
            yield block
            start += len(block)


def first_cut(stream: BufferedIOBase, offset: int, is_cut: IsCut) -> int:
    """Offset of the first cut at or after `offset`, or of the end of the file."""
    if offset == 0:
        return 0
    # From the byte before, since that may end a line.
    position = offset - 1
    stream.seek(position)
    begins_line = False
    while line := stream.readline(MAX_LINE_BYTES):
        if begins_line and is_cut(line):
            return position
        position += len(line)
        begins_line = line.endswith(b"\n")
    return position


def line_blocks(
    stream: BufferedIOBase, size: int | None, rejections: Rejections, where: Callable[[int], str]
) -> Iterator[tuple[int, bytes]]:
    """Whole lines, about 256 KiB at a time.

    Args:
        stream: read from its current position.
        size: bytes to read; None reads to the end.
        where: names the n-th line (from 0) in errors.

    Yields:
        The number of lines before the block, and its bytes: lines that end with LF (except the last
        line of a file, perhaps).
    """
    number = 0
    rest = b""
    while True:
        length = BLOCK_BYTES if size is None else min(BLOCK_BYTES, size)
        some = stream.read1(length) if length else b""
        if size is not None:
            size -= len(some)
        if not some:
            if rest:
                yield number, rest
            return
        end = some.rfind(b"\n") + 1
        if end:
            block = rest + some[:end]
            rest = some[end:]
            yield number, block
            number += block.count(b"\n")
        elif len(rest) + len(some) <= MAX_LINE_BYTES:
            rest += some
        else:
            rejections.add("line_too_long", partial(where, number), rest)
            rest, skipped = _after_line(stream, size)
            if size is not None:
                size -= skipped
            number += 1


def _after_line(stream: BufferedIOBase, size: int | None) -> tuple[bytes, int]:
    """Skips to the end of a line: the bytes read after it, and the number of bytes read in all."""
    skipped = 0
    while size is None or skipped < size:
        some = stream.read1(BLOCK_BYTES if size is None else min(BLOCK_BYTES, size - skipped))
        skipped += len(some)
        end = some.find(b"\n") + 1
        if end or not some:
            return some[end:] if end else b"", skipped
    return b"", skipped


def decode_lines(block: bytes, rejections: Rejections, where: Callable[[int], str]) -> list[str]:
    """The lines of a block as text, without their ends (LF, CR LF or CR).

    Lines that are not UTF-8 or contain a NUL byte are rejected one by one.
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
        lines.pop()  # What follows the last line end is not a line.
    return lines


def _split(text: str) -> list[str]:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines
