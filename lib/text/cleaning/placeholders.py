"""URLs, e-mail addresses and user names: kept, removed, or replaced by a placeholder word.

Until the last step a placeholder is a single control character in the text, its mark (raw text
has no control characters left by then). So no edit can change a placeholder, whatever its text is,
or mistake a part of a word for one. An example, with `users` and `urls` set to `replace`:

    two raw lines     "Hi @bob and @ann!"          "https://t.co/x"
    mark              "Hi \\x05 and \\x05!"        "\\x03"
    join_lines        "Hi \\x05 and \\x05! \\x03"
    write             "Hi twitteruser and twitteruser! twitterurl"

`write` merges consecutive equal placeholders: "@a @b" becomes "2 twitteruser".
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator


def _check_placeholder(value: str) -> str:
    """Refuses a placeholder that could not be part of a cleaned sentence."""
    if value != " ".join(value.split()) or not value:
        raise ValueError("should be one or more words with single spaces between them")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("should have no control characters")
    if any(f"[{token}]" in value for token in ("PAD", "UNK", "CLS", "SEP", "MASK")):
        raise ValueError("should not contain one of BERT's special tokens")
    return value


Placeholder = Annotated[str, AfterValidator(_check_placeholder)]

# One mark per kind of placeholder; none of them is white space.
_MARKS = {"urls": "\x03", "emails": "\x04", "users": "\x05"}
_MARK = "[\x03-\x05]"

# Chinese, Japanese and Korean text may follow a URL without a space, and so may brackets.
_PATH = r"[^\s\x00-\x1f<>()\"“”«»…\u1100-\u11ff\u3000-\u9fff\uac00-\ud7af\uf900-\uffef]"
_URL = re.compile(
    # The search is faster for a pattern that begins with a character class.
    r"[HhWw<](?:(?:(?<=[Hh])[Tt][Tt][Pp][Ss]?://|(?<=[Ww])[Ww][Ww]\.(?<![A-Za-z0-9_.@-]....))"
    rf"(?:{_PATH}++|\({_PATH}*+\))++"
    r"|(?<=<)url>)"
)
# At the end of a URL, these far more often end a sentence or a quotation.
_AFTER_URL = ".,;:!?'’*_~|]}،؛؟۔"

_DOMAIN = r"[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++"
_AT_DOMAIN = re.compile(rf"@(?<=[A-Za-z0-9_%+-]@){_DOMAIN}")
_LOCAL_PART = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
_LOCAL_PART_LENGTH = 64  # RFC 5321, 4.5.3.1.1

# Names as on Twitter, with a server's name on federated networks (@user@example.org).
_USER = re.compile(rf"[@＠](?:(?<![A-Za-z0-9_@＠].)[A-Za-z0-9_]++(?:@{_DOMAIN})?+|<user>)")

_TOUCHED_MARK = re.compile(rf"{_MARK}(?:(?<=\w.)|(?=[\w\x03-\x05]))")
_REPEATED = re.compile(rf"({_MARK})(?: \1)+")
_BEFORE_COUNT = ("", " ", "\n", *"([{\"'“‘«")
_PUNCTUATION = "!-/:-@\\[-`{-~¡¿«»\u2010-\u2027\u2030-\u205e\u3001-\u303f،؛؟।！-／：-＠ "
# A line of placeholders, perhaps counted ones ("2 user"), and punctuation.
_PLACEHOLDERS_ONLY = (
    rf"[{_PUNCTUATION}]*+(?:\d++ )?+{_MARK}(?:[{_PUNCTUATION}]|{_MARK}|\d++ (?={_MARK}))*+(?![^\n])"
)
_JOINS_PREVIOUS = re.compile(rf"\n(?<=[^\n\x02]\n)(?={_PLACEHOLDERS_ONLY})")
_JOINS_NEXT = re.compile(rf"(\x02\n{_PLACEHOLDERS_ONLY})\n(?!\x02)")


class Placeholders:
    """The edits that insert placeholders, for one set of options.

    Args:
        kinds: for `urls`, `emails` and `users` what to do with them (keep, replace or remove) and
            the placeholder.
        merge: write consecutive equal placeholders as `2 placeholder`.
    """

    def __init__(self, kinds: Mapping[str, tuple[str, str]], merge: bool) -> None:
        self._mark: dict[str, str] = {}  # by kind
        self._placeholder: dict[str, str] = {}  # by mark
        self._merge = merge
        for kind, (treatment, placeholder) in kinds.items():
            if treatment == "replace":
                # Kinds with the same placeholder share a mark, and so they merge.
                same = [mark for mark, text in self._placeholder.items() if text == placeholder]
                self._mark[kind] = same[0] if same else _MARKS[kind]
                self._placeholder[self._mark[kind]] = placeholder
            elif treatment == "remove":
                self._mark[kind] = " "

    def mark(self, text: str, present: set[str], counts: Counter[str]) -> str:
        """Marks for what is to be replaced, and for placeholders that raw text holds already.

        URLs go first: they may contain an @.
        """
        if "urls" in self._mark:
            text = self._mark_urls(text, counts)
        if "emails" in self._mark and "@" in text:
            text = self._mark_emails(text, counts)
        if "users" in self._mark and ("@" in text or "＠" in text):
            text, number = _USER.subn(self._mark["users"], text)
            counts["users"] += number
        for mark, placeholder in self._placeholder.items():
            if placeholder in text:
                text = re.sub(rf"(?<!\w){re.escape(placeholder)}(?!\w)", mark, text)
        if self._placeholder:
            # A placeholder is a word of its own: no letter may touch it.
            text = _TOUCHED_MARK.sub(r" \g<0> ", text)
        present.update(self._placeholder)
        return text

    def _mark_urls(self, text: str, counts: Counter[str]) -> str:
        mark = self._mark["urls"]

        def replace(match: re.Match[str]) -> str:
            found = match[0]
            url = found.rstrip(_AFTER_URL)
            if url[-1] == "/" and url[-2:-1] in ("/", ""):
                return found
            counts["urls"] += 1
            return mark + found[len(url) :]

        return _URL.sub(replace, text)

    def _mark_emails(self, text: str, counts: Counter[str]) -> str:
        # Backwards from the @: a search for the local part would look at long words many times.
        parts = []
        end = 0
        for match in _AT_DOMAIN.finditer(text):
            before = text[max(end, match.start() - _LOCAL_PART_LENGTH) : match.start()]
            local = len(before) - len(before.rstrip(_LOCAL_PART))
            # After another @ it is the name of a user on a server (@user@example.org).
            if local and text[match.start() - local - 1 : match.start() - local] != "@":
                parts.append(text[end : match.start() - local])
                end = match.end()
                counts["emails"] += 1
        parts.append(text[end:])
        return self._mark["emails"].join(parts)

    def join_lines(self, text: str, present: set[str], counts: Counter[str]) -> str:
        """Appends lines of placeholders only to the previous line, or puts them before the next.

        Args:
            text: lines, none blank; a line of \\x02 alone stands before each document.
        """
        if not self._placeholder:
            return text
        text, joined = _JOINS_PREVIOUS.subn(" ", text)
        counts["placeholder_sentences_joined"] += joined
        text, joined = _JOINS_NEXT.subn(r"\1 ", text)
        counts["placeholder_sentences_joined"] += joined
        return text

    def write(self, text: str, present: set[str], counts: Counter[str]) -> str:
        """Placeholders instead of their marks, consecutive ones merged if so chosen."""
        if self._merge and self._placeholder:

            def merge(match: re.Match[str]) -> str:
                counts["placeholders_merged"] += 1
                # A count must not look like the decimals of a number (".@a @b").
                before = match.string[max(0, match.start() - 1) : match.start()]
                space = "" if before in _BEFORE_COUNT else " "
                return f"{space}{(len(match[0]) + 1) // 2} {match[1]}"

            text = _REPEATED.sub(merge, text)
        for mark, placeholder in self._placeholder.items():
            text = text.replace(mark, placeholder)
        return text
