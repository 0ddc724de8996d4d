"""Encodings of raw files other than UTF-8: named by the user or by the file itself, never guessed.

A file is read in another encoding than UTF-8 if it begins with the byte order mark of UTF-16 or
UTF-32, if it is markup that declares its encoding, or if it is not UTF-8 and preprocess.encoding
names one. What chardet takes a file for goes into errors and notes only.

Files in another encoding are converted to UTF-8 as they are read, so that what follows need not
know. A sequence of bytes that does not exist in the encoding becomes half a surrogate pair: it is
not UTF-8, and the line it is in is rejected.
"""

import codecs
import re
from io import BufferedIOBase, BufferedReader
from typing import cast

from lib.text.reading.compression import DAMAGED, CompressedStream

UTF8 = "utf-8"
# Of a file that is not UTF-8 as a whole: only part of its lines are.
MIXED = "mixed"

HALF_PAIRS = "domain_bert_half_pairs"  # codecs: an error handler
HALF_PAIR = "\udc80"
HALF_PAIR_BYTES = HALF_PAIR.encode("utf-8", "surrogatepass")
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# The windows code page or the larger set that is meant by a name, as in browsers (WHATWG).
_MEANT = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
_DECLARED = re.compile(
    rb"""<\?xml\s[^>]*\bencoding\s*=\s*["']([\w.:-]+)["']"""
    rb"""|<meta\s[^>]*\bcharset\s*=\s*["']?\s*([\w.:-]+)""",
    re.IGNORECASE,
)
_LIKE_ASCII = ("utf-7", "hz", "iso2022", "unicode-escape", "raw-unicode-escape", "idna", "punycode")
_SAMPLE_BYTES = 1 << 16
_ENOUGH = 6  # bytes that are not ASCII, to tell an encoding
_FEW = 4  # characters of a line that show that it is UTF-8
_CLEARLY = 9


def _half_pair(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return HALF_PAIR, error.end


codecs.register_error(HALF_PAIRS, _half_pair)


def text_encoding(name: str) -> str:
    """The name of a text encoding as Python has it: utf-8, cp1254, iso8859-9, utf-16-le.

    In all that are accepted, apart from UTF-16 and UTF-32, ASCII is written as ASCII and the byte
    LF is no part of another character, so that files can be cut at line ends.

    Raises:
        ValueError: there is no such encoding, or text in it looks like ASCII (UTF-7, ISO-2022).
    """
    try:
        encoding = codecs.lookup(name).name
        if encoding.startswith(_LIKE_ASCII):
            raise ValueError(encoding)
        ascii_text = bytes(range(128)).decode(encoding, HALF_PAIRS)
    except (LookupError, UnicodeError, ValueError, AssertionError):
        encoding, ascii_text = "", ""
    if not is_wide(encoding) and ascii_text != bytes(range(128)).decode():
        raise ValueError("should be an encoding of text, such as utf-8, cp1254 or gb18030")
    return UTF8 if encoding == "utf-8-sig" else encoding


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark of UTF-16 or UTF-32 states."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def declared_encoding(head: bytes) -> str | None:
    """The encoding that HTML or XML declares, or None."""
    found = _DECLARED.search(head[:4096])
    if found is None:
        return None
    try:
        return _meant(text_encoding((found[1] or found[2]).decode("ascii")))
    except ValueError:
        return None


def _meant(name: str) -> str:
    return _MEANT.get(name, name)


def is_wide(encoding: str) -> bool:
    """Whether it is a form of UTF-16 or UTF-32, whose text has NUL bytes."""
    return encoding.startswith(("utf-16", "utf-32"))


def likely_encoding(data: bytes) -> str | None:
    """What text that is not UTF-8 is likely to be encoded in, by chardet; None: unknown."""
    import chardet  # Slow to import: only where there is such a file.

    lines = [line for line in data.split(b"\n") if not line.isascii()] or [data]
    found = chardet.detect(data if b"\0" in data else b"\n".join(lines)[:_SAMPLE_BYTES])
    if found["encoding"]:
        try:
            name = _meant(text_encoding(found["encoding"]))
            return None if name == UTF8 or not _is_text(data, name) else name
        except ValueError:
            pass
    for name in ("utf-16-le", "utf-16-be"):  # of text in CJK
        ends = data.decode(name, "replace").count("\n")
        if ends and ends == data.count("\n".encode(name)) and _is_text(data, name):
            return name
    return None


def _is_text(data: bytes, encoding: str) -> bool:
    """Whether UTF-16 or UTF-32 may be right: fonts and the like have NUL bytes as well."""
    if not is_wide(encoding):
        return True
    text = data.decode(encoding, "replace")[:-1]
    printable = sum(character.isprintable() or character.isspace() for character in text)
    return printable >= 0.98 * len(text) and "\ufffd" not in text


def advice(data: bytes) -> str:
    """What is known about text that is not UTF-8, for an error: its likely encoding, above all."""
    good, bad = _lines_of_utf8(data)
    if HALF_PAIR_BYTES in data or good > bad:
        return "a damaged line: others can be read"
    count = sum(byte > 127 for line in data.split(b"\n") if not line.isascii() for byte in line)
    name = likely_encoding(data) if count >= _ENOUGH else None
    return f"looks like {name}" if name else "in an unknown encoding"


def _lines_of_utf8(data: bytes) -> tuple[int, int]:
    """The number of lines that are UTF-8 and not only ASCII, and of lines that are not UTF-8."""
    text = data.decode(UTF8, HALF_PAIRS)
    good = bad = 0
    for line in text.split("\n"):
        if line.isascii():
            continue
        if HALF_PAIR in line:
            bad += 1
        else:
            good += len(line) - len(line.encode("ascii", "ignore")) >= _FEW
    return good, bad


def encoding_of(stream: BufferedIOBase, other: str) -> str:
    """Whether a file is UTF-8 or in another encoding, by all its lines.

    A line in UTF-8 with several characters that are not ASCII is hardly ever text in another
    encoding, nor the other way round. In single lines either happens, so it is not decided by line.

    Args:
        stream: the file.
        other: the encoding of files that are not UTF-8.

    Returns:
        UTF8 (perhaps with single damaged lines), `other`, or MIXED.
    """
    good = bad = 0
    rest = b""
    wide = is_wide(other)
    while block := _next_block(stream):
        if wide and b"\0" in block:
            return other
        if not rest and block.isascii():
            continue
        block = rest + block
        end = block.rfind(b"\n") + 1 or max(len(block) - 3, 0)
        # A line that does not end is looked at in parts.
        rest, block = (block[end:], block[:end]) if len(block) - end < 1 << 20 else (b"", block)
        some = _lines_of_utf8(block)
        good, bad = good + some[0], bad + some[1]
    some = _lines_of_utf8(rest)
    good, bad = good + some[0], bad + some[1]
    if good >= _CLEARLY * bad:
        return UTF8
    return other if bad >= _CLEARLY * good else MIXED


def _next_block(stream: BufferedIOBase) -> bytes:
    try:
        return stream.read1(1 << 18)
    except DAMAGED:  # What comes before decides; reading the text rejects the rest.
        return b""


def doubt(head: bytes, encoding: str) -> str | None:
    """Another encoding that a file is likely to be in, if it gives other text; else None."""
    name = likely_encoding(head)
    if name is None or name == encoding:
        return None
    one, other = (head.decode(each, "replace") for each in (encoding, name))
    letters = [a == b for a, b in zip(one, other, strict=False) if a > "\x7f" or b > "\x7f"]
    differs = len(one) != len(other) or letters.count(False) > 0.2 * len(letters)
    return name if differs and len(letters) >= 100 else None


class TranscodedStream(BufferedIOBase):
    """The text of a stream in another encoding, as UTF-8.

    Args:
        stream: read from its current position.
        size: bytes of it to read; None reads to the end.
    """

    def __init__(
        self, stream: BufferedReader | CompressedStream, encoding: str, size: int | None
    ) -> None:
        self._stream, self._size = stream, size
        self._decoder = codecs.getincrementaldecoder(encoding)(HALF_PAIRS)
        self._ended = False
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes of UTF-8; none at the end of the file."""
        wanted = size if size >= 0 else 1 << 18
        if wanted == 0:
            return b""
        while not self._rest and not self._ended:
            length = wanted if self._size is None else min(wanted, self._size)
            some = self._stream.read1(length) if length else b""
            if self._size is not None:
                self._size -= len(some)
            self._ended = not some
            text = self._decoder.decode(some, final=self._ended)
            self._rest = text.encode(UTF8, "surrogatepass")
        some, self._rest = self._rest[:wanted], self._rest[wanted:]
        return some

    def lost(self) -> int:
        """See `CompressedStream.lost`."""
        return cast(CompressedStream, self._stream).lost()
