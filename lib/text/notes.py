"""Notes of preprocess: what its options would treat better in this text, a line each, with figures.

A note is for text that the user could want otherwise; what is refused is an error. Nothing is noted
about a few occurrences: text about HTML has some tags.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lib.text.cleaning.edits import Cleaning
from lib.text.names import shown_name, some_of
from lib.text.reading.reader import RawFile

# Remnants of other formats are noted from this number and this share of characters on.
_FEW_REMNANTS = 20
_REMNANTS = 50e-6
# Hard-wrapped text is noted from this fraction of the text on.
_WRAPPED = 0.002
# As a fraction of all characters. In English text they are 0.01 %, in French 3 to 4 %.
_MANY_ACCENTS = 0.01


def not_read(names: Sequence[str]) -> Iterator[str]:
    """Files that were passed over because of their names."""
    if names:
        yield (
            f"not read, by their names: {len(names):,} backup or temporary file"
            f"{'s' * (len(names) > 1)} ({some_of(names)}); to read them, rename them"
        )


def doubtful_encodings(files: Sequence[RawFile], encoding: str) -> Iterator[str]:
    """Files that are read with `preprocess.encoding`, and what they look like instead."""
    if doubts := [f"{shown_name(file.name)} ({file.doubt})" for file in files if file.doubt]:
        yield (
            f"{len(doubts):,} files to be read as {encoding} (preprocess.encoding) look like "
            f"another encoding: {some_of(doubts)}; convert those to UTF-8 first"
        )


def remnants(counts: Mapping[str, int], clean: Cleaning) -> Iterator[str]:
    """What the raw text has of other formats, and which option removes it.

    Args:
        counts: see `count_remnants`, and `raw_c1_controls`.
    """
    remedies = (
        (
            "raw_html_entities",
            "character entities (&amp; and the like)",
            not clean.unescape_html,
            "preprocess.clean.unescape_html: true makes characters of them",
        ),
        (
            "raw_html_tags",
            "tags of HTML (<br /> and the like)",
            clean.html_tags == "keep",
            "preprocess.clean.html_tags: remove takes them out and ends lines at <br /> and <p>",
        ),
        (
            "raw_replacement_characters",
            "characters U+FFFD (�), each a character that an earlier conversion lost",
            True,
            "convert the original files again",
        ),
        (
            "raw_c1_controls",
            "control characters from U+0080 to U+009F, which were read as quotation marks, dashes "
            "and so on of Windows-1252",
            True,
            "if they are wrong, convert the original files again, or read those with "
            "preprocess.encoding",
        ),
    )
    least = max(_FEW_REMNANTS, _REMNANTS * counts.get("characters_in", 0))
    for key, what, applies, remedy in remedies:
        if applies and (count := counts.get(key, 0)) >= least:
            yield f"the text has {count:,} {what}; {remedy}"


def records(counts: Mapping[str, int], fields: Sequence[str]) -> Iterator[str]:
    """Records that are pages, and fields of `preprocess.text_field` that no record has."""
    if pages := counts.get("records_of_html"):
        yield f"{pages:,} records are pages of HTML, of which only the text was taken"
    total = counts.get("records_of_several_fields")
    for name in fields:
        if total and counts.get(f"records_without_field_{name}") == total:
            yield f"none of {total:,} records has the field {name} of preprocess.text_field"


def line_ends(
    counts: Mapping[str, int], wrapped: Counter[str], setting: str, document: str
) -> Iterator[str]:
    """How much of the text is hard-wrapped, and which option joins its lines.

    Args:
        counts: see `count_wrapped`.
        wrapped: characters of hard-wrapped text that were examined, by file.
        setting, document: `preprocess.line_ends` and `preprocess.document`.
    """
    found, in_wrapped = counts.get("line_ends_wrapped", 0), counts.get("characters_wrapped", 0)
    fraction = in_wrapped / (counts.get("characters_examined") or 1)
    if setting == "join" or not found or fraction < _WRAPPED:
        return
    named = some_of([name for name, _ in wrapped.most_common()])
    also = "preprocess.document: blank_line and " if document == "line" else ""
    yield (
        f"{found:,} of {counts['line_ends_examined']:,} line ends examined, in {fraction:.1%} of "
        "the text, are in hard-wrapped text, whose sentences continue on the next line "
        f"({named}); set {also}preprocess.line_ends: join"
    )


def unclear_splits(names: str, answer: str) -> Iterator[str]:
    """Names that resemble one of a split; see `GivenSplits.question`."""
    if names:
        yield (
            f"read as text of no given split, although the name resembles one: {names}; if it is "
            f"held-out text, set preprocess.splits: {answer}"
        )


def cuts(number: int, document: str) -> Iterator[str]:
    """Documents that were cut because of their length."""
    if number:
        yield (
            f"{number:,} cuts in documents of more than 4 Mi characters; is preprocess.document: "
            f"{document} right for this text?"
        )


def lost_accents(letters: int, characters: int) -> Iterator[str]:
    """Letters that lost their accents, of all characters of the corpus."""
    if letters > _MANY_ACCENTS * characters:
        yield (
            f"{letters:,} letters lost their accents ({letters / characters:.1%} of the "
            "characters), so that words which differ only in them are equal now; if they should "
            "not be, set preprocess.clean.accents: keep"
        )
