"""Rule-based sentence splitting for text in many scripts, over many lines at once.

A boundary becomes a line end. Examples, with | for the boundaries found:

    Dr. Smith paid $3.50 to J. Jones, e.g. in U.S. dollars.| Fine.
    “Stop!” he said.| “Why?” she asked.
    love it.| so good!| can't wait
    今天很好。|你呢？|我也是！

Candidates are the matches of `_Boundaries.spaced`, such as ". S" after "Dr"; `_continues` rejects
those after which the sentence continues. Every rule looks at a bounded stretch around a mark, and
every repetition in the patterns is possessive or bounded, so that time is linear in the length of
the text.
"""

import re
from typing import NamedTuple

from lib.text.cleaning.abbreviations import (
    BEFORE_ORDINAL,
    CONTEXTS,
    KINDS,
    MONTHS,
    NUMERALS_LAST,
    ORDINALS_FIRST,
    ROMAN_NUMERALS,
    STARTERS,
)
from lib.text.cleaning.emoji import EMOJI_CLASS

# Sentence-final marks that need white space after them...
_SPACED = ".!?…‥．؟۔։‼⁇⁈⁉‽⸮\u037e"
# ... and those of scripts without spaces between sentences (or not always with one): Chinese and
# Japanese, Devanagari, Burmese, Khmer, Ethiopic, Sinhala. The Arabic semicolon is not among them,
# since it separates clauses.
_UNSPACED = "。！？｡।॥။។៕።፧፨෴"
_CLOSERS = "\"'”’»›)\\]}』」）】》〉］"
_OPENERS = "\"'“‘„«‹(\\[{¿¡"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ARMENIAN = "\u0561-\u0587"  # small letters
_KOREAN_ENDINGS = "다요죠까네음함임됨"
_HANGUL = "\uac00-\ud7a3"
_ARABIC = "\u0620-\u064a\u066e-\u06d3"

# A run of marks begins where no mark precedes, so that each run is examined once.
_ALL = _SPACED + _UNSPACED
_RUN = rf"[{_ALL}](?<![{_ALL}][{_ALL}])[{_ALL}]*+"
# What follows the space: nothing that continues a sentence. A dash begins direct speech.
_DASH = r"(?:[-–—]{1,2}+\x20)?+"
_START = rf"(?={_DASH}[{_OPENERS}]*+[^\s{_OPENERS},;:.!?…)\]}}%&/|=>–—-])"
# A colon often replaces the Armenian full stop, which looks like one.
_ARMENIAN_BOUNDARY = re.compile(rf":(?<=[{_ARMENIAN}]:)\x20{_START}")
# In a text with titles: a mark in 《…》 is no boundary, since a title is a part of its sentence.
_NOT_IN_TITLE = r"(?![^《》〈〉。；\n]{0,20}+[》〉])"


class _Boundaries(NamedTuple):
    """Patterns of boundaries; the condition `where` holds after their marks."""

    spaced: re.Pattern[str]
    unspaced: re.Pattern[str]


def _boundaries(where: str) -> _Boundaries:
    return _Boundaries(
        # Emoji and footnote numbers after a mark belong to its sentence.
        re.compile(
            rf"({_RUN}{where}[{_CLOSERS}]*+(?:\x20(?:»|'')(?=\x20))?+)"
            rf"(?:\x20?(?:\[[0-9]++\]|[{EMOJI_CLASS}]++))*+\x20{_START}"
        ),
        # After a mark of _UNSPACED always, but not where a particle or a mark follows a quotation:
        # 「はい。」と言った, 他说“好。”，然后走了. After the others where the space is missing,
        # but not after the number or letter of an item ("1.", "A."); a Korean full stop follows an
        # ending of verbs.
        re.compile(
            rf"[{_ALL}](?:(?<=[{_UNSPACED}])(?![{_ALL}]){where}"
            rf"(?:[{_CLOSERS}]++(?![とっがのをにはもなでへやか的和与及、，,；;：:—{_ALL}]))?+"
            rf"(?![{_CLOSERS}])"
            rf"|(?!\x20)(?:(?=[{_CJK}])(?<![0-9０-９][.．])(?<!\b[A-Za-zＡ-Ｚ][.．])"
            rf"|(?<=[{_KOREAN_ENDINGS}]\.)(?=[{_HANGUL}A-Z0-9“‘「『《〈])(?!라[고는며])"
            rf"|(?<=[!?])(?=[{_HANGUL}])"
            rf"|(?<=[{_ARABIC}][؟!?])(?=[{_ARABIC}])|(?<=[{_ARMENIAN}]։)(?=[\u0531-\u0556])){where})"
        ),
    )


# Without these characters a text has no boundaries without a space.
_WITHOUT_SPACES = re.compile(f"[{_UNSPACED}{_CJK}{_HANGUL}{_ARABIC}{_ARMENIAN}]")
_ANYWHERE = _boundaries("")
_OUTSIDE_TITLES = _boundaries(_NOT_IN_TITLE)

_AROUND = 60  # characters before and after a mark that are looked at
_NEXT_WORD = re.compile(rf"({_DASH})[{_OPENERS}]*+\x20?(\w*+)")
_BEFORE_NEXT_WORD = frozenset(_OPENERS + "-–— ")
# Letters with full stops between them: U.S., J.R.R., J.-P.
_LETTERS = re.compile(r"\w(?:\.-?\w)+")
_BEFORE_WORD = "\"'“‘„«‹([{¿¡#@*_~`•·|<>=+—–-（「『【《〈…"
# The last part of a word, after a bracket, hyphen, slash, apostrophe or the like; with more than
# one letter (l'art., Dipl.-Ing., but not don't and km/h).
_LAST_PART = re.compile(r".*[^\w.°ª]_*+([^\W\d_][\w.°ª]++)")
_NUMBERED_AFTER = tuple(_SPACED + _UNSPACED)


def _number_follows(after: str, rest: str) -> bool:
    """Whether a word is a number; `rest` is what follows it. `I` may be the English pronoun."""
    if after in ROMAN_NUMERALS:
        return len(after) > 1 or not (rest[:1] == " " and rest[1:2].islower())
    return after[:1].isdigit()


def _rest_of_line(text: str, end: int) -> str:
    return text[end : end + _AROUND].partition("\n")[0]


def _continues(match: re.Match[str]) -> bool:
    """Whether the sentence continues after the marks of a candidate boundary."""
    text, start, end, marks = match.string, match.start(), match.end(), match[1]
    following = _NEXT_WORD.match(text, end)
    dash, after = following.groups() if following else ("", "")
    lower_case = after[:1].islower()
    if marks != ".":
        # Before a lower-case letter, an ellipsis is a pause, and a quotation is followed by
        # "she said" or the like.
        return lower_case and (dash != "" or marks[-1] not in _SPACED or not marks.strip(".…"))
    before = text[max(0, start - _AROUND) : start].rpartition("\n")[2]
    last_word = before.rpartition(" ")[2]
    word = last_word.lstrip(_BEFORE_WORD)
    if not word.isalpha() and (part := _LAST_PART.fullmatch(word)) and part[1] in KINDS:
        word = part[1]
    kind = KINDS.get(word) or (KINDS.get(word.lower()) if "." in word else None)
    context = CONTEXTS.get(word.lower()) if kind in ("context", "word") else None
    if context and context.search(f"{before}¦{_rest_of_line(text, end)}"):
        kind = "doubtful"
    if lower_case:
        # Informal writing: "love it. so good". A capitalised word or a single letter is more likely
        # an abbreviation; in Armenian and Georgian, a stop before a lower-case letter does not end
        # a sentence.
        ordinary = (
            not dash and len(word) > 1 and word.isalpha() and word.islower() and word[0] < "\u0530"
        )
        return not ordinary or kind not in (None, "word", "context")
    if not word:
        return False
    previous = before.removesuffix(last_word).rstrip(" ").rpartition(" ")[2]
    numeral = (word.isdigit() and len(word) <= 4) or kind == "roman"
    if numeral and (not previous or previous.endswith(_NUMBERED_AFTER)):
        # The number of a list item or a paragraph, but not the last word of "vol. 2.".
        return previous[:-1] not in KINDS and previous[:-1].lower() not in KINDS
    if kind == "open":
        return True
    rest = text[following.end() : following.end() + 2] if following else ""
    if kind in ("number", "word") and _number_follows(after, rest):
        return True
    # An initial, an abbreviation, or a name such as O'Brien, but not "I'm".
    in_name = rest[:1] == "." or (len(after) == 1 and after != "I" and rest[:1] in ("'", "’"))
    if kind == "end" and after[:1].isupper():
        return False
    if kind == "roman":
        line = before.removesuffix(word) + _rest_of_line(text, end)
        doubtful = bool(
            BEFORE_ORDINAL.search(before.removesuffix(word))
            or ORDINALS_FIRST.search(line)
            or (previous[:1].islower() and not NUMERALS_LAST.search(line))
        )
    elif len(word) == 1 and word.islower() and word < "\u0530" and previous[-1:].isdigit():
        # A unit or a year (5 m., 1990 r.), unless a letter or Chr. follows (44 a. C.).
        doubtful = in_name or after == "Chr" or not after[:1].isupper()
    else:
        doubtful = (
            kind in ("doubtful", "end")
            # An ordinal number: 3. Kapitel, 5. Mai, 2. Dünya Savaşı (but not "on May 5. Germany").
            or (len(word) <= 2 and word.isdigit() and previous not in MONTHS)
            # Initials (J. Smith, z. B.) and letters with full stops between them.
            or (len(word) == 1 and word.lower() != word.upper())
            or _LETTERS.fullmatch(word) is not None
        )
    return doubtful and bool(after) and (in_name or after.lower() not in STARTERS)


def _end(match: re.Match[str]) -> str:
    """The text of a candidate boundary, with a line end in place of its last space if it is one."""
    text, start = match.string, match.start()
    first = text[match.end()]
    # The most frequent cases first: other marks than a full stop before a capital letter, and the
    # full stop of an ordinary word or a year.
    if match[1] != ".":
        ends = not (first.islower() or first in _BEFORE_NEXT_WORD) or not _continues(match)
    else:
        floor = start - _AROUND if start > _AROUND else 0
        space = text.rfind(" ", floor, start)
        word = text[space + 1 if space >= 0 else floor : start]
        if word.isalpha():
            ordinary = len(word) > 1 and word not in KINDS
            if first.islower():
                ordinary = ordinary and word < "\u0530" and word.islower()
            else:
                ordinary = ordinary and first not in _BEFORE_NEXT_WORD
        else:
            ordinary = first.isupper() and (
                not word[-1:].isalnum()
                or (len(word) > 2 and word.isdigit() and space > 0 and text[space - 1].isalnum())
            )
        ends = ordinary or not _continues(match)
    return match[0][:-1] + "\n" if ends else match[0]


def split_sentences(text: str) -> str:
    """Lines split into sentences, with a line end after each.

    A sentence ends

    - after . ! ? … and their forms in other scripts, when white space and something that may begin
      a sentence follow;
    - after 。！？ । ။ and the like, always;
    - after marks of either kind without white space, where the script shows that it is missing;
    - not after abbreviations, initials and ordinal numbers, nor in titles in 《》;
    - before a lower-case letter only after the full stop of an ordinary word, and after ! or ?
      without a quotation mark.

    Args:
        text: lines whose only white space is single spaces.

    Returns:
        The text with line ends in place of the spaces at boundaries, and line ends inserted where
        there was no space. It may have blank lines and spaces at line ends.
    """
    boundaries = _ANYWHERE
    if not text.isascii():
        if "》" in text or "〉" in text:
            boundaries = _OUTSIDE_TITLES
        if _WITHOUT_SPACES.search(text):
            text = boundaries.unspaced.sub(r"\g<0>\n", text)
        text = _ARMENIAN_BOUNDARY.sub(":\n", text)
    return boundaries.spaced.sub(_end, text)
