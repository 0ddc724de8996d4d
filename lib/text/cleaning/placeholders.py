"""URLs, e-mail addresses and user names: kept, removed, or replaced by a placeholder word.

While other steps run, a placeholder stands in the text as one control character (raw text has none left
by then): whatever the placeholder is, no step can change it or take a part of a word for it.
"""

import re
from collections import Counter

from lib.params import Cleaning

# One mark a kind of placeholder; none of them is white space.
_MARKS = {"urls": "\x03", "emails": "\x04", "users": "\x05"}
_MARK = "[\x03-\x05]"

# Chinese, Japanese and Korean text may follow an address without a space, and so do brackets.
_PATH = r"[^\s\x00-\x1f<>()\"“”«»…\u1100-\u11ff\u3000-\u9fff\uac00-\ud7af\uf900-\uffef]"
_URL = re.compile(
    # One class first, by which the search runs.
    r"[HhWw<](?:(?:(?<=[Hh])[Tt][Tt][Pp][Ss]?://|(?<=[Ww])[Ww][Ww]\.(?<![A-Za-z0-9_.@-]....))"
    rf"(?:{_PATH}++|\({_PATH}*+\))++"
    r"|(?<=<)url>)"
)
# Ends a sentence or a quotation far more often than an address.
_AFTER_URL = ".,;:!?'’*_~|]}،؛؟۔"

_DOMAIN = r"[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++"
_AT_DOMAIN = re.compile(rf"@(?<=[A-Za-z0-9_%+-]@){_DOMAIN}")
_LOCAL_PART = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
_LOCAL_PART_LENGTH = 64  # RFC 5321, 4.5.3.1.1

# Names as on Twitter, with a server's name on federated networks (@user@example.org).
_USER = re.compile(rf"[@＠](?:(?<![A-Za-z0-9_@＠].)[A-Za-z0-9_]++(?:@{_DOMAIN})?+|<user>)")

_BESIDE_MARK = re.compile(rf"{_MARK}(?:(?<=\w.)|(?=[\w\x03-\x05]))")
_REPEATED = re.compile(rf"({_MARK})(?: \1)+")
_BEFORE_COUNT = ("", " ", "\n", *"([{\"'“‘«")
_PUNCTUATION = "!-/:-@\\[-`{-~¡¿«»\u2010-\u2027\u2030-\u205e\u3001-\u303f،؛؟।！-／：-＠ "
# A line of placeholders, perhaps counted ones ("2 user"), and punctuation.
_FILLERS_ONLY = (
    rf"[{_PUNCTUATION}]*+(?:\d++ )?+{_MARK}(?:[{_PUNCTUATION}]|{_MARK}|\d++ (?={_MARK}))*+(?![^\n])"
)
_JOINS_PREVIOUS = re.compile(rf"\n(?<=[^\n\x02]\n)(?={_FILLERS_ONLY})")
_JOINS_NEXT = re.compile(rf"(\x02\n{_FILLERS_ONLY})\n(?!\x02)")


class Placeholders:
    """The placeholders of one set of options."""

    def __init__(self, clean: Cleaning) -> None:
        treatments = {
            "urls": (clean.urls, clean.url_placeholder),
            "emails": (clean.emails, clean.email_placeholder),
            "users": (clean.users, clean.user_placeholder),
        }
        self._mark: dict[str, str] = {}
        self._text_of: dict[str, str] = {}
        self._merge = clean.merge_placeholders
        for kind, (treatment, placeholder) in treatments.items():
            if treatment == "replace":
                # Two kinds with the same placeholder are the same to a reader, and merge.
                same = [mark for mark, text in self._text_of.items() if text == placeholder]
                self._mark[kind] = same[0] if same else _MARKS[kind]
                self._text_of[self._mark[kind]] = placeholder
            elif treatment == "remove":
                self._mark[kind] = " "

    def mark(self, text: str, counts: Counter[str]) -> str:
        """Puts marks in the place of what is to be replaced, and of placeholders that stand there.

        URLs go first: they may hold an @.
        """
        if "urls" in self._mark:
            text = self._mark_urls(text, counts)
        if "emails" in self._mark and "@" in text:
            text = self._mark_emails(text, counts)
        if "users" in self._mark and ("@" in text or "＠" in text):
            text, number = _USER.subn(self._mark["users"], text)
            counts["users"] += number
        for mark, placeholder in self._text_of.items():
            if placeholder in text:
                text = re.sub(rf"(?<!\w){re.escape(placeholder)}(?!\w)", mark, text)
        if self._text_of:
            # A placeholder is a word: no letter may touch it.
            text = _BESIDE_MARK.sub(r" \g<0> ", text)
        return text

    def _mark_urls(self, text: str, counts: Counter[str]) -> str:
        placeholder = self._mark["urls"]

        def replace(match: re.Match[str]) -> str:
            found = match[0]
            url = found.rstrip(_AFTER_URL)
            if url[-1] == "/" and url[-2:-1] in ("/", ""):
                return found
            counts["urls"] += 1
            return placeholder + found[len(url) :]

        return _URL.sub(replace, text)

    def _mark_emails(self, text: str, counts: Counter[str]) -> str:
        # From the @ backwards: a search for the local part would look at each long word many times.
        pieces = []
        end = 0
        for match in _AT_DOMAIN.finditer(text):
            before = text[max(end, match.start() - _LOCAL_PART_LENGTH) : match.start()]
            local = len(before) - len(before.rstrip(_LOCAL_PART))
            # Behind another @ it is a user's name on a server.
            if local and text[match.start() - local - 1 : match.start() - local] != "@":
                pieces.append(text[end : match.start() - local])
                end = match.end()
                counts["emails"] += 1
        pieces.append(text[end:])
        return self._mark["emails"].join(pieces)

    def join_lines(self, text: str, counts: Counter[str]) -> str:
        """Lines of placeholders only become a part of the line before, else of the line after.

        Args:
            text: lines, none blank; a line of \\x02 alone stands before each document.
        """
        if not self._text_of:
            return text
        text, joined = _JOINS_PREVIOUS.subn(" ", text)
        counts["filler_sentences_joined"] += joined
        text, joined = _JOINS_NEXT.subn(r"\1 ", text)
        counts["filler_sentences_joined"] += joined
        return text

    def write(self, text: str, counts: Counter[str]) -> str:
        """Placeholders in the place of their marks; with merging, several in a row as `2 placeholder`."""
        if self._merge and self._text_of:

            def merge(match: re.Match[str]) -> str:
                counts["fillers_merged"] += 1
                # A count must not look like the decimals of a number (".@a @b").
                before = match.string[max(0, match.start() - 1) : match.start()]
                space = "" if before in _BEFORE_COUNT else " "
                return f"{space}{(len(match[0]) + 1) // 2} {match[1]}"

            text = _REPEATED.sub(merge, text)
        for mark, placeholder in self._text_of.items():
            text = text.replace(mark, placeholder)
        return text
