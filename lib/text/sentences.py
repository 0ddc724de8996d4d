"""Sentence boundaries by rule, for text in many scripts."""

import re

# Words whose full stop seldom ends a sentence (English, Turkish, German, French, Spanish).
_ABBREVIATION_LIST = """
    mr mrs ms dr prof sr jr st vs etc e.g i.e eg ie cf al fig figs no nos vol pp ed eds rev gen col
    sgt capt lt hon inc ltd co corp dept univ approx est jan feb mar apr jun jul aug sep sept oct
    nov dec u.s u.k u.n a.m p.m ph.d b.c a.d bkz vb vd yy örn doç yrd av bzw usw z.b d.h nr bd hrsg
    mme mlle sra srta dra
"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_LIST.split())

# A run of end marks, closing quotes and brackets, then space and something that may begin a
# sentence; CJK marks need no space. The Arabic semicolon separates clauses and does not split.
_BOUNDARY = re.compile(
    r"""(?P<western>[.!?…؟۔।॥]+["'”’»)\]]*)(?P<space>\s+)(?=["'“‘«(\[¿¡]*[^\W_]|["'“‘«(\[¿¡@#])"""
    r"|(?P<cjk>[。！？]+[”’」』）]*)(?P<gap>\s*)(?=\S)"
)
_LAST_WORD = re.compile(r"(\S+)$")
_OPENERS = "\"'“‘«([¿¡"


def _ends_sentence(before: str, marks: str, after: str) -> bool:
    """Whether the marks between `before` and `after` are the end of a sentence."""
    marks = marks.rstrip("\"'”’»)]")
    if marks.strip(".…"):
        return True
    if after.lstrip(_OPENERS)[:1].islower():
        return False
    if len(marks) > 1:
        return True
    match = _LAST_WORD.search(before)
    word = match.group(1).lstrip(_OPENERS) if match else ""
    if word.lower() in _ABBREVIATIONS:
        return False
    # An initial, as in "J. Smith": one capital letter alone.
    if len(word) == 1 and word.isalpha() and word.isupper():
        return False
    # "3. Kapitel", "5. Mai": a short ordinal number before a word.
    return not (word.isdigit() and len(word) <= 2)


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of one paragraph, stripped, none empty.

    Splits after . ! ? … and their Arabic, Urdu and Indic forms when white space and the
    beginning of a word follow, after 。！？ always; not after common abbreviations, initials or
    ordinals, nor before a lower-case letter when the mark is a full stop.
    """
    sentences = []
    start = 0
    for match in _BOUNDARY.finditer(paragraph):
        western = match.group("western")
        if western is not None:
            end = match.end("western")
            if not _ends_sentence(
                paragraph[start : match.start()], western, paragraph[match.end() : match.end() + 8]
            ):
                continue
        else:
            end = match.end("cjk")
        sentences.append(paragraph[start:end].strip())
        start = match.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]
