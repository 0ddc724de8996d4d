"""Rejected input: an error at the first bad line, or counts by reason up to a limit."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lib.run.errors import UserError

_EXAMPLES = 10
_EXCERPT_CHARACTERS = 120

# What each reason means, and how to fix it.
REASONS = {
    "dangling_link": "a link whose target does not exist; remove it or restore the target",
    "not_a_regular_file": "neither a file nor a folder; remove it",
    "unreadable_file": "cannot be read; check its permissions",
    "binary_file": "binary data, not text; unpack it, convert it to text, or remove it",
    "utf16_file": "UTF-16 or UTF-32, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8",
    "corrupt_compression": "damaged, or not compressed at all; create it again or rename it",
    "truncated_compression": "compressed data that ends too early; copy the file again",
    "json_array": "one JSON array, not a JSON object per line; convert it: jq -c '.[]'",
    "corrupt_parquet": "not a readable Parquet file; create it again",
    "text_field_missing": "no such field or column; set preprocess.text_field to the right one",
    "malformed_csv": "not well-formed (an unclosed quote, or a wrong number of fields); fix it",
    "malformed_json": "not JSON; fix it",
    "not_an_object": "JSON, but not an object with fields; fix it",
    "text_not_a_string": "contains something other than text; fix it",
    "invalid_utf8": "not UTF-8; convert it from its own encoding: iconv -f LATIN1 -t UTF-8",
    "invalid_unicode": "half a surrogate pair, which is not a character; fix it",
    "nul_byte": "contains a NUL byte; is it text at all?",
    "line_too_long": "longer than 4 MiB; split it",
}


class Rejections:
    """Bad input of one file, counted by reason.

    Args:
        source: name of the file in errors.
        skip: False raises an error at once; True counts and continues.
        limit: with `skip`, more rejections than this are an error nevertheless.
    """

    def __init__(self, source: str, skip: bool, limit: int) -> None:
        self._source, self._skip, self._limit = source, skip, limit
        self.counts: Counter[str] = Counter()
        self.examples: list[dict[str, str]] = []

    def add(
        self, reason: str, where: str | Callable[[], str] = "", excerpt: str | bytes = ""
    ) -> None:
        """Rejects one line, record or file.

        Args:
            reason: a key of REASONS.
            where: position in the file, such as `line 7`; a function if finding it takes time.
            excerpt: the beginning of what is rejected.

        Raises:
            UserError: bad input is not to be skipped, or there is more of it than the limit.
        """
        self.counts[reason] += 1
        if self._skip and len(self.examples) < _EXAMPLES:
            if isinstance(excerpt, bytes):
                excerpt = excerpt[: 4 * _EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
            shown = excerpt[:_EXCERPT_CHARACTERS].encode("utf-8", "backslashreplace").decode()
            self.examples.append({"reason": reason, "text": shown})
        if not self._skip:
            position = where() if callable(where) else where
            raise UserError(
                f"{self._source}{f' {position}' if position else ''}: {REASONS[reason]}; or leave "
                "it out with preprocess.bad_input: skip"
            )
        check_limit(self.counts, self._limit, self._source)


def check_limit(counts: Counter[str], limit: int, source: str | Path) -> None:
    """Raises a UserError if there are more rejections than the limit."""
    if counts.total() > limit:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
        raise UserError(
            f"{source}: more bad input than preprocess.bad_input_limit ({limit:,}) allows: "
            f"{reasons}; fix them, or raise the limit"
        )
