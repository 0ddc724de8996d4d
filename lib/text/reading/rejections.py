"""Rejected input of a file: an error at the first bad line, or counts of what is lost."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lib.run.errors import UserError
from lib.text.names import escaped, shown_name

_EXAMPLES = 10
_EXCERPT_CHARACTERS = 120
# Shown before the first bad byte of an excerpt.
_BEFORE_BAD_BYTE = 40

# What each reason means, and how to fix it.
REASONS = {
    "dangling_link": "a link whose target does not exist; remove it or restore the target",
    "not_a_regular_file": "neither a file nor a folder; remove it",
    "unreadable_file": "cannot be read; check its permissions",
    "binary_file": "binary data, not text; unpack it, convert it to text, or remove it",
    "pdf_file": "a PDF; convert it to text, such as with pdftotext",
    "office_file": "an archive or a word processor's document; unpack it, or convert it to "
    "text, such as with pandoc -t plain",
    "lfs_pointer": "a Git LFS pointer, not the file; fetch the file: git lfs pull",
    "web_archive": "a web archive (WARC); extract its pages as text, such as with trafilatura",
    "arrow_file": "an Arrow file, as Hugging Face's datasets store them; write its data set as "
    "Parquet or JSON lines (Dataset.to_parquet)",
    "mediawiki_dump": "a MediaWiki dump, whose text is wiki markup; extract it with WikiExtractor "
    "(python -m wikiextractor.WikiExtractor), whose output is read as format wikiextractor",
    "utf16_file": "UTF-16 or UTF-32 without a byte order mark; set preprocess.encoding to it, "
    "such as utf-16-le",
    "corrupt_compression": "damaged, or not compressed at all; create it again or rename it",
    "truncated_compression": "compressed data that ends too early; copy the file again",
    "json_value_too_long": "a JSON value of more than 16 Mi characters; write one object per line, "
    "such as jq -c '.[]' does",
    "zstandard_window": "needs more than 128 MiB to be unpacked (zstd --long); write it again: "
    "zstd -d --long=31 -c OLD.zst | zstd -o NEW.zst",
    "corrupt_parquet": "not a readable Parquet file; create it again",
    "wide_parquet": "has so many columns that only a single column of strings can be read from it; "
    "write that column to a file of its own",
    "text_field_missing": "no such field or column; set preprocess.text_field to the right one",
    "malformed_csv": "not well-formed (an unclosed quote, or a wrong number of fields); fix it",
    "malformed_json": "not JSON; fix it",
    "not_an_object": 'JSON, but not an object with fields; write it as {"text": ...}',
    "text_not_a_string": "the text should be a string or a list of strings; fix it, or set "
    "preprocess.text_field to another field",
    "invalid_utf8": "not UTF-8; set preprocess.encoding to the encoding of such files, or "
    "convert them",
    "invalid_encoding": "not text in the encoding of the file; fix it, or correct "
    "preprocess.encoding",
    "mixed_encodings": "in part UTF-8, in part not; split it, or convert that part",
    "invalid_unicode": "half a surrogate pair, which is not a character; fix it",
    "nul_byte": "contains a NUL byte; is it text at all?",
    "line_too_long": "longer than 4 MiB; split it",
}


@dataclass(frozen=True)
class Fault:
    """Input that cannot be read: a line, a record or a file.

    Attributes:
        source: path of the file.
        position: within the file, such as `line 7`; empty: the file as a whole.
        reason: a key of REASONS.
    """

    source: str
    position: str
    reason: str

    def __str__(self) -> str:
        source = shown_name(self.source)
        return f"{source} {self.position}" if self.position else source


class BadInputError(UserError):
    """The first fault of a file, where bad input is not to be skipped."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(
            f"{fault}: {REASONS[fault.reason]}; or leave it out with preprocess.bad_input: skip"
        )
        self.fault = fault

    def __reduce__(self) -> tuple[type, tuple[Fault]]:
        return BadInputError, (self.fault,)


@dataclass
class Lost:
    """How much input was rejected, by reason.

    Attributes:
        counts: rejected lines, records and files.
        characters: characters of rejected lines and records.
        bytes: bytes of input that could not be decoded, and of rejected files (of compressed ones,
            as they are on the disk).
        whole_file: whether nothing of the file (or of the part of it) can be read.
        examples: the first rejections: reason, position and text.
    """

    counts: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    whole_file: bool = False
    examples: list[dict[str, str]] = field(default_factory=list)

    def update(self, other: "Lost") -> None:
        """Adds other losses to these, except for their examples."""
        self.counts.update(other.counts)
        self.characters.update(other.characters)
        self.bytes.update(other.bytes)
        self.whole_file |= other.whole_file

    def amount(self) -> int:
        """Characters and bytes together."""
        return self.characters.total() + self.bytes.total()

    def fraction(self, characters_read: int) -> float:
        """The fraction of the text that was lost; a byte counts as a character."""
        amount = self.amount()
        return amount / (amount + characters_read) if amount else 0.0


class Rejections(Lost):
    """Bad input of one file: an error at once, or counted.

    Args:
        source: path of the file.
        skip: False raises an error at once; True counts and continues.
    """

    def __init__(self, source: str, skip: bool) -> None:
        super().__init__()
        self._source, self._skip = source, skip

    def add(
        self,
        reason: str,
        where: str | Callable[[], str] = "",
        excerpt: str | bytes = "",
        lost: int | None = None,
    ) -> None:
        """Rejects a line or a record.

        Args:
            reason: a key of REASONS.
            where: position in the file, such as `line 7`; a function if finding it takes time.
            excerpt: what is rejected: decoded text, whose characters are counted, or bytes.
            lost: number of characters or bytes that are rejected, if the excerpt has not all.

        Raises:
            BadInputError: bad input is not to be skipped.
        """
        amount = len(excerpt) if lost is None else lost
        (self.bytes if isinstance(excerpt, bytes) else self.characters)[reason] += amount
        self.counts[reason] += 1
        if self._skip and len(self.examples) >= _EXAMPLES:
            return
        position = where() if callable(where) else where
        if not self._skip:
            raise BadInputError(Fault(self._source, position, reason))
        self.examples.append({"reason": reason, "position": position, "text": _shown(excerpt)})

    def add_file(
        self, reason: str, size: int, where: str | Callable[[], str] = "", excerpt: bytes = b""
    ) -> None:
        """Rejects the whole file.

        Args:
            size: bytes on disk.
            where, excerpt: see `add`.
        """
        self.whole_file = True
        self.add(reason, where, excerpt, size)


def _shown(excerpt: str | bytes) -> str:
    """The beginning of rejected input, or the surroundings of its first bad byte, in one line."""
    start = 0
    if isinstance(excerpt, bytes):
        try:
            excerpt.decode()
        except UnicodeDecodeError as error:
            start = max(0, error.start - _BEFORE_BAD_BYTE)
        some = excerpt[start : start + 4 * _EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
    else:
        start = max(0, excerpt.find("\0") - _BEFORE_BAD_BYTE)
        some = excerpt[start : start + _EXCERPT_CHARACTERS]
    shown = escaped(some[:_EXCERPT_CHARACTERS])
    return f"…{shown}" if start else shown


def after_lines(position: str, lines: int) -> str:
    """A position in a chunk as a position in its file.

    Args:
        position: `line N`, perhaps with more after it, or something else, which stays.
        lines: the lines of the file before the chunk.
    """
    return re.sub(r"^line (\d+)", lambda match: f"line {int(match[1]) + lines}", position)
