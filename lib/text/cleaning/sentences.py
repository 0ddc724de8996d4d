"""Sentence boundaries by rule, for text in many scripts, over many lines at once.

A boundary becomes a line end. Every rule looks at a bounded stretch around a mark, and every
repetition in the patterns is possessive, so that the time grows with the length of the text only.
"""

import re

from lib.text.cleaning.abbreviations import BEFORE_NUMBER, EITHER, OPEN, STARTERS
from lib.text.cleaning.emoji import EMOJI_CLASS

# Marks that need white space after them...
_SPACED = ".!?…‥؟۔։‼⁇⁈⁉‽⸮\u037e"
# ... and marks of scripts that put no space between sentences, or not always: Chinese and Japanese,
# Devanagari, Burmese, Khmer, Ethiopic, Sinhala. The Arabic semicolon separates clauses: no mark.
_UNSPACED = "。！？｡।॥။។៕።፧፨෴"
_CLOSERS = "\"'”’»›)\\]}』」）】》"
_OPENERS = "\"'“‘„«‹(\\[{¿¡"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"


# A run of marks begins where no mark stands before: each is looked at once.
_ALL = _SPACED + _UNSPACED
_RUN = rf"[{_ALL}](?<![{_ALL}][{_ALL}])[{_ALL}]*+"
# What follows the space: no mark that goes on with the sentence. A dash begins direct speech.
_DASH = r"(?:[-–—]{1,2}+\x20)?+"
_START = rf"(?={_DASH}[{_OPENERS}]*+[^\s{_OPENERS},;:.!?…)\]}}%&/|=>–—-])"
# Emoji and numbers of notes after a mark belong to its sentence.
_BOUNDARY = re.compile(
    rf"({_RUN}[{_CLOSERS}]*+(?:\x20(?:»|'')(?=\x20))?+)"
    rf"(?:\x20?(?:\[[0-9]++\]|[{EMOJI_CLASS}]++))*+\x20{_START}"
)
# Inside Japanese quotes the sentence goes on when a particle follows: 「はい。」と言った.
_UNSPACED_BOUNDARY = re.compile(
    rf"{_RUN}(?:(?<=[{_UNSPACED}])|(?=[{_CJK}]))"
    rf"(?:[{_CLOSERS}]++(?![とっがのをにはもなで、，,]))?+(?![{_CLOSERS}])"
)
# A colon often stands for the Armenian full stop, which looks like one.
_ARMENIAN_BOUNDARY = re.compile(rf":(?<=[\u0561-\u0587]:)\x20{_START}")
_ANY_UNSPACED = re.compile(f"[{_UNSPACED}{_CJK}]")

# No abbreviation is longer.
_LOOK_BACK = 24
_NEXT_WORD = re.compile(rf"({_DASH})[{_OPENERS}]*+\x20?([\w']*+)")
_LETTERS = re.compile(r"\w(?:\.\w)+")
_BEFORE_WORD = "\"'“‘„«‹([{¿¡#@"
_NUMBERED_AFTER = tuple(_SPACED + _UNSPACED)
_ABBREVIATIONS = OPEN | EITHER | BEFORE_NUMBER


def _goes_on(match: re.Match[str]) -> bool:
    """Whether the sentence goes on after the marks of a possible boundary."""
    text, start, marks = match.string, match.start(), match[1]
    capital = text[match.end()].isupper()
    if capital and marks != ".":
        return False
    before = text[max(0, start - _LOOK_BACK) : start].rpartition("\n")[2]
    last_word = before.rpartition(" ")[2]
    word = last_word.lstrip(_BEFORE_WORD)
    lower = word.lower()
    # Most of all: an ordinary word, a full stop, a capital letter.
    if capital and len(word) > 1 and word.isalpha() and lower not in OPEN and lower not in EITHER:
        return False
    following = _NEXT_WORD.match(text, match.end())
    dash, after = following.groups() if following else ("", "")
    lower_case = after[:1].islower()
    if marks != ".":
        # Before a lower-case letter an ellipsis is a pause, and a quotation is being told.
        return lower_case and (dash != "" or marks[-1] not in _SPACED or not marks.strip(".…"))
    if lower_case:
        # Informal writing. A capitalised word is rather an abbreviation, and so is one letter; in
        # Armenian and Georgian a stop before a lower-case letter is no full stop.
        ordinary = (
            not dash and len(word) > 1 and word.isalpha() and word.islower() and word[0] < "\u0530"
        )
        return not ordinary or word in _ABBREVIATIONS
    if not word:
        return False
    if word.isdigit() and len(word) <= 4:
        # The number of a list's item or of a paragraph, but not the last word of "vol. 2.".
        ahead = before.removesuffix(last_word).rstrip(" ").rpartition(" ")[2]
        if not ahead or ahead.endswith(_NUMBERED_AFTER):
            return ahead[:-1].lower() not in _ABBREVIATIONS
    if lower in OPEN or (lower in BEFORE_NUMBER and after[:1].isdigit()):
        return True
    doubtful = (
        lower in EITHER
        # An ordinal number: 3. Kapitel, 5. Mai, 2. Dünya Savaşı.
        or (len(word) <= 2 and word.isdigit())
        # Initials (J. Smith, z. B.), and letters with full stops between them (U.S., J.R.R.).
        or (len(word) == 1 and word.lower() != word.upper())
        or _LETTERS.fullmatch(word) is not None
    )
    return doubtful and after.lower() not in STARTERS and bool(after)


def _end(match: re.Match[str]) -> str:
    return match[0] if _goes_on(match) else match[0][:-1] + "\n"


def split_sentences(text: str) -> str:
    """Lines split into sentences: a line end after each.

    After . ! ? … and their forms in other scripts when white space follows and something that may
    begin a sentence, after 。！？ । ። and the like always; not after abbreviations, initials and
    ordinal numbers. Before a lower-case letter only after an ordinary word's full stop, and after
    ! or ? without a quote.

    Args:
        text: lines whose white space is single spaces.

    Returns:
        The text with spaces turned into line ends at boundaries, and line ends put in where no
        space was. Blank lines and spaces at line ends may occur.
    """
    if not text.isascii() and _ANY_UNSPACED.search(text):
        text = _UNSPACED_BOUNDARY.sub(r"\g<0>\n", text)
    text = _ARMENIAN_BOUNDARY.sub(":\n", text)
    return _BOUNDARY.sub(_end, text)
