"""Sentence boundaries by rule, for text in many scripts, over many lines at once.

A boundary becomes a line end. Every rule looks at a bounded stretch around a mark, and every
repetition in the patterns is possessive, so that the time grows with the length of the text only.
"""

import re

from lib.text.abbreviations import BEFORE_NUMBER, EITHER, OPEN, STARTERS
from lib.text.emoji import EMOJI_CLASS

# Marks that need white space after them...
_SPACED = ".!?…‥؟۔։;‼⁇⁈⁉‽⸮"
# ... and marks of scripts that put no space between sentences, or not always: Chinese and Japanese,
# Devanagari, Burmese, Khmer, Ethiopic, Sinhala. The Arabic semicolon separates clauses: no mark.
_UNSPACED = "。！？｡।॥။។៕።፧፨෴"
_CLOSERS = "\"'”’»›)\\]}』」）】》"
_OPENERS = "\"'“‘„«‹(\\[{¿¡"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"


def _lower_case() -> str:
    """Lower-case letters of the basic plane as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in range(0x10000):
        if chr(code).islower():
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_LOWER = _lower_case()

# A run of marks begins where no mark stands before: each is looked at once.
_ALL = _SPACED + _UNSPACED
_RUN = rf"[{_ALL}](?<![{_ALL}][{_ALL}])[{_ALL}]*+"
# What follows the space: no lower-case letter, no mark that goes on with the sentence.
_START = rf"(?=[{_OPENERS}]*+[^\s{_LOWER}{_OPENERS},;:.!?…)\]}}%&/|=>–—-])"
# Emoji after a mark belong to its sentence.
_BOUNDARY = re.compile(rf"({_RUN}[{_CLOSERS}]*+)(?:\x20?(?![0-9])[{EMOJI_CLASS}]++)*+\x20{_START}")
# Inside Japanese quotes the sentence goes on when a particle follows: 「はい。」と言った.
_UNSPACED_BOUNDARY = re.compile(
    rf"{_RUN}(?:(?<=[{_UNSPACED}])|(?=[{_CJK}]))"
    rf"(?:[{_CLOSERS}]++(?![とっがのをにはもなで、，,]))?+(?![{_CLOSERS}])"
)
_ANY_UNSPACED = re.compile(f"[{_UNSPACED}{_CJK}]")

_LOOK_BACK = 24
_NEXT_WORD = re.compile(rf"[{_OPENERS}]*+([\w']+)")


def _stays(match: re.Match[str]) -> bool:
    """Whether the full stop of a possible boundary belongs to an abbreviation or a number."""
    text, start = match.string, match.start()
    before = text[max(0, start - _LOOK_BACK) : start]
    word = before[max(before.rfind(" "), before.rfind("\n")) + 1 :].lstrip("\"'“‘„«‹([{¿¡#@")
    if not word:
        return False
    lower = word.lower()
    if lower in OPEN:
        return True
    following = _NEXT_WORD.match(text, match.end())
    after = following[1] if following else ""
    if lower in BEFORE_NUMBER and after[:1].isdigit():
        return True
    doubtful = (
        lower in EITHER
        # Initials (J. Smith), and letters with full stops between them (U.S., J.R.R.).
        or (len(word) == 1 and word.isupper())
        or (
            "." in word
            and len(word) % 2
            and not word.replace(".", "").isdigit()
            and len(word.replace(".", "")) * 2 == len(word) + 1
        )
        # An ordinal number: 3. Kapitel, 5. Mai, 2. Dünya Savaşı.
        or (len(word) <= 2 and word.isdigit())
    )
    return doubtful and after.lower() not in STARTERS


def _end(match: re.Match[str]) -> str:
    if match[1] == "." and _stays(match):
        return match[0]
    return match[0][:-1] + "\n"


def split_sentences(text: str) -> str:
    """Lines split into sentences: a line end after each.

    After . ! ? … and their forms in other scripts when white space follows and something that may
    begin a sentence, after 。！？ । ። and the like always; not after abbreviations, initials and
    ordinal numbers, nor before a lower-case letter.

    Args:
        text: lines whose white space is single spaces.

    Returns:
        The text with spaces turned into line ends at boundaries, and line ends put in where no
        space was. Blank lines and spaces at line ends may occur.
    """
    if _ANY_UNSPACED.search(text):
        text = _UNSPACED_BOUNDARY.sub(r"\g<0>\n", text)
    return _BOUNDARY.sub(_end, text)
