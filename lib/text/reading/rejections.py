"""What to do with bad input: an error at the first of it, or a count by reason up to a limit."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lib.run.errors import UserError

_SHOWN = 10
_EXCERPT = 120

# What each reason means and what mends it. A reason that is not here is a mistake of ours.
REASONS = {
    "dangling_link": "a link to nothing; remove it or put its target back",
    "not_a_regular_file": "neither a file nor a folder; remove it",
    "unreadable_file": "cannot be read; see its permissions",
    "binary_file": "no text but binary data; unpack or convert it to text, or remove it",
    "utf16_file": "UTF-16 or UTF-32, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8",
    "corrupt_compression": "damaged, or not compressed at all; make it again or rename it",
    "truncated_compression": "compressed data that ends too early; copy it again",
    "json_array": "one JSON array, not a JSON object a line; convert it: jq -c '.[]'",
    "corrupt_parquet": "not a Parquet file that can be read; make it again",
    "text_field_missing": "no such field or column; name the right one in preprocess.text_field",
    "malformed_csv": "not well-formed (a quote without its end, or too many fields); mend it",
    "malformed_json": "not JSON; mend it",
    "not_an_object": "JSON, but no object with fields; mend it",
    "text_not_a_string": "holds something other than text; mend it",
    "invalid_utf8": "not UTF-8; convert it from its own encoding: iconv -f LATIN1 -t UTF-8",
    "invalid_unicode": "half a surrogate pair, which is no character; mend it",
    "nul_byte": "holds a NUL byte; is it text at all?",
    "line_too_long": "longer than 4 MiB; cut it into parts",
}


class Rejections:
    """Bad input of one source, counted by reason.

    Args:
        source: what it is called in errors.
        skip: False raises an error at once; True counts and goes on.
        limit: with `skip`, more rejections than this are an error all the same.
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
            where: the place in the source, such as `line 7`; a function where finding it costs.
            excerpt: the beginning of what is rejected.

        Raises:
            UserError: bad input is not to be skipped, or there is more of it than the limit.
        """
        self.counts[reason] += 1
        if self._skip and len(self.examples) < _SHOWN:
            if isinstance(excerpt, bytes):
                excerpt = excerpt[: 4 * _EXCERPT].decode("utf-8", "backslashreplace")
            shown = excerpt[:_EXCERPT].encode("utf-8", "backslashreplace").decode()
            self.examples.append({"reason": reason, "text": shown})
        if not self._skip:
            place = where() if callable(where) else where
            raise UserError(
                f"{self._source}{f' {place}' if place else ''}: {REASONS[reason]}; or leave it out "
                "with preprocess.bad_input: skip"
            )
        check_limit(self.counts, self._limit, self._source)


def check_limit(counts: Counter[str], limit: int, source: str | Path) -> None:
    """Raises a UserError when there are more rejections than the limit."""
    if counts.total() > limit:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
        raise UserError(
            f"{source}: more bad input than preprocess.bad_input_limit ({limit:,}) allows: "
            f"{reasons}; mend it, or raise the limit"
        )
