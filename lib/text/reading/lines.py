"""Bytes to lines of text: a byte range of a file at a time, in bounded memory, bad lines rejected.

A large file is read in chunks, by several workers. A chunk is a byte range moved to *cuts*, lines
at which a document may begin: it reaches from the first cut at or after the start of the range to
the first cut at or after its end, as the input splits of MapReduce do (Dean and Ghemawat, 2004). An
example, with blank lines as cuts:

    file      "one\\n\\ntwo\\n\\nthree\\n", 16 bytes, with cuts at 0, 4, 9 (and at its end, 16)
    ranges    [0, 6)              [6, 12)        [12, 16)
    chunks    [0, 9): one, two    [9, 16): three    [16, 16): nothing
"""

from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import cast

from lib.text.reading.compression import DAMAGED, CompressedStream, damage
from lib.text.reading.encodings import HALF_PAIR_BYTES, TranscodedStream, advice
from lib.text.reading.rejections import Rejections

BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 4 << 20  # without the line end
_EXCERPT_BYTES = 512
_CONTINUATION = bytes(range(0x80, 0xC0))

ByteStream = BufferedReader | CompressedStream | TranscodedStream
IsCut = Callable[[bytes], bool]


def range_bytes(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from `start` to `stop` (or to its end), a block at a time."""
    with path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(min(BLOCK_BYTES, stop - start)):
            yield block
            start += len(block)


def first_cut(stream: BufferedReader, offset: int, is_cut: IsCut, within: int | None = None) -> int:
    """Offset of the first cut at or after `offset`, or of the end of the file.

    Args:
        within: bytes after which the next line is a cut, whatever it is; None: none is.
    """
    if offset == 0:
        return 0
    # From the byte before, since that may end a line.
    position = offset - 1
    stream.seek(position)
    begins_line = False
    while line := stream.readline(MAX_LINE_BYTES):
        if begins_line and (is_cut(line) or (within is not None and position - offset >= within)):
            return position
        position += len(line)
        begins_line = line.endswith(b"\n")
    return position


def line_blocks(
    stream: ByteStream,
    size: int | None,
    rejections: Rejections,
    where: Callable[[int], str],
) -> Iterator[tuple[int, bytes]]:
    """Whole lines, about 256 KiB at a time; lines of more than 4 MiB are rejected.

    Args:
        stream: read from its current position.
        size: bytes to read; None reads to the end.
        where: names the n-th line (from 0) in errors.

    Yields:
        The number of lines before the block (counted by LF), and its bytes: lines with their ends,
        LF or CR (except the last line of a file, perhaps). The last block may be empty.
    """
    number = 0
    rest = b""  # the beginning of a line

    def read() -> bytes:
        nonlocal size, rest
        try:
            some = stream.read1(BLOCK_BYTES if size is None else min(BLOCK_BYTES, size))
        except DAMAGED as error:
            # What came before the damage has been read, up to the beginning of this line.
            reason, unread = damage(error), cast(CompressedStream | TranscodedStream, stream).lost()
            rejections.add(reason, partial(where, number), rest, len(rest) + unread)
            rest = b""
            return b""
        if size is not None:
            size -= len(some)
        return some

    while True:
        some = read()
        if _ends_before(rest, some):
            yield number, rest
            rest = b""
        # Only the first line of a block may be long: the others are within the bytes just read.
        first = _first_end(some)
        if len(rest) + (first or len(some)) > MAX_LINE_BYTES + bool(first):
            text, lost = rest[:_EXCERPT_BYTES].decode("utf-8", "replace"), _characters(rest)
            rest = b""
            ended = False
            while some and not first and not ended:
                lost += _characters(some)
                before, some = some, read()
                ended = _ends_before(before, some)
                first = 0 if ended else _first_end(some)
            lost += _characters(some[:first]) - (bool(first) or ended)
            rejections.add("line_too_long", partial(where, number), text, lost)
            number += some[first - 1 : first] == b"\n"
            some = some[first:]
            if not first and not ended:
                yield number, b""
                return
        elif not some:
            yield number, rest
            return
        end = (some.rfind(b"\n") if b"\n" in some else some.rfind(b"\r", 0, -1)) + 1
        if end:
            block = rest + some[:end]
            rest = some[end:]
            yield number, block
            number += block.count(b"\n")
        else:
            rest += some


def _ends_before(some: bytes, after: bytes) -> bool:
    """Whether some bytes end with a CR that is a line end of its own."""
    return some.endswith(b"\r") and after != b"" and not after.startswith(b"\n")


def _first_end(data: bytes) -> int:
    """Offset after the first line end: LF or, without any LF, CR; 0 if there is none.

    A CR that is the last byte may be half of CR LF.
    """
    return (data.find(b"\n") if b"\n" in data else data.find(b"\r", 0, -1)) + 1


def _characters(data: bytes) -> int:
    """Number of characters in UTF-8: all bytes but the continuation bytes."""
    return len(data.translate(None, _CONTINUATION))


def decode_lines(
    block: bytes, rejections: Rejections, where: Callable[[int], str], before: bytes = b""
) -> list[str]:
    """The lines of a block as text, without their ends (LF, CR LF or CR).

    Lines that are not UTF-8 or contain a NUL byte are rejected one by one.

    Args:
        before: the block before, which may show what the encoding of bad lines is.
    """
    try:
        text = block.decode()
        if "\0" not in text:
            return _split(text)
    except UnicodeDecodeError:
        pass
    lines: list[str] = []
    for index, whole in enumerate(block.split(b"\n")):
        for line in whole.removesuffix(b"\r").split(b"\r"):
            try:
                text = line.decode()
            except UnicodeDecodeError:
                reason = "invalid_encoding" if HALF_PAIR_BYTES in line else "invalid_utf8"
                rejections.add(reason, partial(_with_advice, where, index, before + block), line)
                continue
            if "\0" in text:
                rejections.add("nul_byte", partial(where, index), text)
            else:
                lines.append(text)
    if block.endswith(b"\n"):
        lines.pop()  # What follows the last line end is not a line.
    return lines


def _with_advice(where: Callable[[int], str], index: int, text: bytes) -> str:
    """The position of a line that cannot be decoded, and what is known about its encoding."""
    return f"{where(index)} ({advice(text)})"


def _split(text: str) -> list[str]:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines
