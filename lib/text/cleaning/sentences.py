"""Rule-based sentence splitting for text in many scripts, over many lines at once.

A boundary becomes a line end. Examples, with | for the boundaries found:

    Dr. Smith paid $3.50 to J. Jones, e.g. in U.S. dollars.| Fine.
    “Stop!” he said.| “Why?” she asked.
    love it.| so good!| can't wait
    今天很好。|你呢？|我也是！

Candidates are the matches of `_BOUNDARY`, such as ". S" after "Dr"; `_continues` rejects those
after which the sentence continues. Every rule looks at a bounded stretch around a mark, and every
repetition in the patterns is possessive, so that time is linear in the length of the text.
"""

import re

from lib.text.cleaning.abbreviations import BEFORE_NUMBER, EITHER, OPEN, STARTERS
from lib.text.cleaning.emoji import EMOJI_CLASS

# Sentence-final marks that need white space after them...
_SPACED = ".!?…‥؟۔։‼⁇⁈⁉‽⸮\u037e"
# ... and those of scripts without spaces between sentences (or not always with one): Chinese and
# Japanese, Devanagari, Burmese, Khmer, Ethiopic, Sinhala. The Arabic semicolon is not among them,
# since it separates clauses.
_UNSPACED = "。！？｡।॥။។៕።፧፨෴"
_CLOSERS = "\"'”’»›)\\]}』」）】》"
_OPENERS = "\"'“‘„«‹(\\[{¿¡"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

# A run of marks begins where no mark precedes, so that each run is examined once.
_ALL = _SPACED + _UNSPACED
_RUN = rf"[{_ALL}](?<![{_ALL}][{_ALL}])[{_ALL}]*+"
# What follows the space: nothing that continues a sentence. A dash begins direct speech.
_DASH = r"(?:[-–—]{1,2}+\x20)?+"
_START = rf"(?={_DASH}[{_OPENERS}]*+[^\s{_OPENERS},;:.!?…)\]}}%&/|=>–—-])"
# Emoji and footnote numbers after a mark belong to its sentence.
_BOUNDARY = re.compile(
    rf"({_RUN}[{_CLOSERS}]*+(?:\x20(?:»|'')(?=\x20))?+)"
    rf"(?:\x20?(?:\[[0-9]++\]|[{EMOJI_CLASS}]++))*+\x20{_START}"
)
# After a Japanese quotation the sentence continues when a particle follows: 「はい。」と言った.
_UNSPACED_BOUNDARY = re.compile(
    rf"{_RUN}(?:(?<=[{_UNSPACED}])|(?=[{_CJK}]))"
    rf"(?:[{_CLOSERS}]++(?![とっがのをにはもなで、，,]))?+(?![{_CLOSERS}])"
)
# A colon often replaces the Armenian full stop, which looks like one.
_ARMENIAN_BOUNDARY = re.compile(rf":(?<=[\u0561-\u0587]:)\x20{_START}")
_ANY_UNSPACED = re.compile(f"[{_UNSPACED}{_CJK}]")

_LOOK_BACK = 24  # characters; no abbreviation is longer
_NEXT_WORD = re.compile(rf"({_DASH})[{_OPENERS}]*+\x20?([\w']*+)")
_LETTERS = re.compile(r"\w(?:\.\w)+")
_BEFORE_WORD = "\"'“‘„«‹([{¿¡#@"
_NUMBERED_AFTER = tuple(_SPACED + _UNSPACED)
_ABBREVIATIONS = OPEN | EITHER | BEFORE_NUMBER


def _continues(match: re.Match[str]) -> bool:
    """Whether the sentence continues after the marks of a candidate boundary."""
    text, start, marks = match.string, match.start(), match[1]
    capital = text[match.end()].isupper()
    if capital and marks != ".":
        return False
    before = text[max(0, start - _LOOK_BACK) : start].rpartition("\n")[2]
    last_word = before.rpartition(" ")[2]
    word = last_word.lstrip(_BEFORE_WORD)
    lower = word.lower()
    # The most frequent case first: an ordinary word, a full stop, a capital letter.
    if capital and len(word) > 1 and word.isalpha() and lower not in OPEN and lower not in EITHER:
        return False
    following = _NEXT_WORD.match(text, match.end())
    dash, after = following.groups() if following else ("", "")
    lower_case = after[:1].islower()
    if marks != ".":
        # Before a lower-case letter, an ellipsis is a pause, and a quotation is followed by
        # "she said" or the like.
        return lower_case and (dash != "" or marks[-1] not in _SPACED or not marks.strip(".…"))
    if lower_case:
        # Informal writing: "love it. so good". A capitalised word or a single letter is more likely
        # an abbreviation; in Armenian and Georgian, a stop before a lower-case letter does not end
        # a sentence.
        ordinary = (
            not dash and len(word) > 1 and word.isalpha() and word.islower() and word[0] < "\u0530"
        )
        return not ordinary or word in _ABBREVIATIONS
    if not word:
        return False
    if word.isdigit() and len(word) <= 4:
        # The number of a list item or a paragraph, but not the last word of "vol. 2.".
        previous = before.removesuffix(last_word).rstrip(" ").rpartition(" ")[2]
        if not previous or previous.endswith(_NUMBERED_AFTER):
            return previous[:-1].lower() not in _ABBREVIATIONS
    if lower in OPEN or (lower in BEFORE_NUMBER and after[:1].isdigit()):
        return True
    doubtful = (
        lower in EITHER
        # An ordinal number: 3. Kapitel, 5. Mai, 2. Dünya Savaşı.
        or (len(word) <= 2 and word.isdigit())
        # Initials (J. Smith, z. B.) and letters with full stops between them (U.S., J.R.R.).
        or (len(word) == 1 and word.lower() != word.upper())
        or _LETTERS.fullmatch(word) is not None
    )
    return doubtful and after.lower() not in STARTERS and bool(after)


def _end(match: re.Match[str]) -> str:
    return match[0] if _continues(match) else match[0][:-1] + "\n"


def split_sentences(text: str) -> str:
    """Lines split into sentences, with a line end after each.

    A sentence ends

    - after . ! ? … and their forms in other scripts, when white space and something that may begin
      a sentence follow;
    - after 。！？ । ။ and the like, always;
    - not after abbreviations, initials and ordinal numbers;
    - before a lower-case letter only after the full stop of an ordinary word, and after ! or ?
      without a quotation mark.

    Args:
        text: lines whose only white space is single spaces.

    Returns:
        The text with line ends in place of the spaces at boundaries, and line ends inserted where
        there was no space. It may have blank lines and spaces at line ends.
    """
    if not text.isascii() and _ANY_UNSPACED.search(text):
        text = _UNSPACED_BOUNDARY.sub(r"\g<0>\n", text)
    text = _ARMENIAN_BOUNDARY.sub(":\n", text)
    return _BOUNDARY.sub(_end, text)
