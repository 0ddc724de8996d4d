"""Edits of characters, on many lines at once, each counted by its reason.

A text here is lines joined by LF. No edit looks across a line end, so that the result does not
depend on which lines come together. Most characters that an edit is about do not occur in a given
text: each edit looks for those only that do.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lib.text.cleaning.emoji import EMOJI_CHARACTERS, character_class

# Stands before each document in a text of many. Raw text has no control characters left by then.
BETWEEN = "\x02"

# With its semicolon only: `?a=1&copy=2` is an address. Escaping twice or more often escapes the
# ampersand of an entity.
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp;|#38;)+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

# Invisible: soft hyphen, zero-width space, marks and embeddings of direction, word joiner, and
# annotation. Joiners (ZWJ, ZWNJ) and the tags of flags carry meaning and stay.
_FORMAT = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufff9-\ufffb]"
)
# Combining marks of Latin, Greek and Cyrillic; elsewhere marks are vowels.
_ACCENT = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20dc\ufe20-\ufe2f]+")
# Koranic signs, vowel signs, superscript alef, and tatweel, which only stretches a word.
_ARABIC_MARK = re.compile(
    "[\u0610-\u061a\u0640\u064b-\u0652\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]+"
)

_SPECIAL_TOKEN = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK)\]")

# What neither NFKC nor the category brings to ASCII.
_TO_ASCII = {
    **dict.fromkeys("‘’‚‛‹›′‵´`〈〉", "'"),
    **dict.fromkeys("“”„‟«»″‶〝〞〟《》「」『』｢｣", '"'),
    **dict.fromkeys("。۔।॥።։", "."),
    **dict.fromkeys("、،፣", ","),
    **dict.fromkeys("【〔〖", "["),
    **dict.fromkeys("】〕〗", "]"),
    "…": "...",
    "‥": "..",
    "؛": ";",
    "؟": "?",
    "¿": "?",
    "¡": "!",
    "•": "*",
    "⁄": "/",
}


def characters(text: str) -> set[str]:
    """The distinct characters of a text."""
    # A table of all code points is three times as quick as a set of the text.
    seen = np.zeros(0x110000, np.bool_)
    seen[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)] = True
    return set(map(chr, np.flatnonzero(seen).tolist()))


def unescape_html(text: str, counts: Counter[str]) -> str:
    """Entities to the characters they stand for, `&amp;lt;` and `&amp;amp;lt;` too."""
    if "&" not in text:
        return text
    text = _ESCAPED_AMPERSAND.sub("&", text)

    def unescape(match: re.Match[str]) -> str:
        character = _entity(match[0])
        if character != match[0]:
            counts["html_entities"] += 1
        return character

    return _ENTITY.sub(unescape, text)


@lru_cache(maxsize=4096)
def _entity(entity: str) -> str:
    character = html.unescape(entity)
    # A line end here is none of the text's; a control character neither.
    return " " if character.isspace() or "\0" <= character < " " else character


def tidy_space(text: str, present: set[str]) -> str:
    """White space runs to one space, none at line ends, no blank lines."""
    for character in present:
        # Line separators other than LF would be line ends to some readers and not to others.
        if character.isspace() and character not in " \n":
            text = text.replace(character, " ")
    if "  " in text:
        text = re.sub("  +", " ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    if "\n\n" in text:
        text = re.sub("\n\n+", "\n", text)
    return text.strip(" \n")


def _replace(
    text: str,
    present: set[str],
    edit: Callable[[str], str],
    counts: Counter[str],
    reason: str,
) -> str:
    """Single characters replaced by what `edit` makes of them, each counted."""
    replacements = {character: edit(character) for character in present}
    replacements = {old: new for old, new in replacements.items() if new != old}
    if not replacements:
        return text
    pattern = f"[{character_class(replacements, present)}]"
    text, number = re.subn(pattern, lambda match: replacements[match[0]], text)
    counts[reason] += number
    return text


def remove_controls(text: str, present: set[str], counts: Counter[str]) -> str:
    """Without control characters that are no white space, byte order marks, and surrogates."""
    return _replace(text, present, _without_control, counts, "control_characters")


@lru_cache(maxsize=1 << 16)
def _without_control(character: str) -> str:
    if character.isspace() or character == BETWEEN:
        return character
    return (
        ""
        if character == "\ufeff" or unicodedata.category(character) in ("Cc", "Cs")
        else character
    )


def remove_format(text: str, counts: Counter[str]) -> str:
    """Without invisible characters other than joiners."""
    text, number = _FORMAT.subn("", text)
    counts["format_characters"] += number
    return text


def punctuation_to_ascii(text: str, present: set[str], counts: Counter[str]) -> str:
    """Punctuation of all scripts to its nearest ASCII form, where there is one."""
    return _replace(text, present, _ascii_punctuation, counts, "punctuation")


@lru_cache(maxsize=1 << 16)
def _ascii_punctuation(character: str) -> str:
    if character in _TO_ASCII:
        return _TO_ASCII[character]
    category = unicodedata.category(character)
    if character.isascii() or category[0] != "P":
        return character
    if category == "Pd":
        return "-"
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if compatible.isascii() else character


def remove_punctuation(text: str, present: set[str], counts: Counter[str]) -> str:
    """A space for punctuation and symbols other than emoji."""
    return _replace(text, present, _without_punctuation, counts, "punctuation")


@lru_cache(maxsize=1 << 16)
def _without_punctuation(character: str) -> str:
    kind = unicodedata.category(character)[0]
    return " " if kind in "PS" and character not in EMOJI_CHARACTERS else character


def remove_symbols(text: str, present: set[str], counts: Counter[str]) -> str:
    """A space for characters of category So (symbol, other) that are no emoji."""
    return _replace(text, present, _without_symbol, counts, "symbols")


@lru_cache(maxsize=1 << 16)
def _without_symbol(character: str) -> str:
    symbol = unicodedata.category(character) == "So" and character not in EMOJI_CHARACTERS
    return " " if symbol else character


def remove_accents(text: str, present: set[str], counts: Counter[str]) -> str:
    """Latin, Greek and Cyrillic letters without their accents."""
    return _replace(text, present, _without_accent, counts, "accents")


@lru_cache(maxsize=1 << 16)
def _without_accent(character: str) -> str:
    apart = unicodedata.normalize("NFD", character)
    bare = _ACCENT.sub("", apart)
    return unicodedata.normalize("NFC", bare) if bare != apart else character


def remove_arabic_marks(text: str, counts: Counter[str]) -> str:
    """Arabic without vowel signs and tatweel."""
    bare = _ARABIC_MARK.sub("", text)
    counts["arabic_marks"] += len(text) - len(bare)
    return bare


def open_special_tokens(text: str, counts: Counter[str]) -> str:
    """`[MASK]` in a text to `[ MASK ]`: BERT tokenizers would take it for their own."""
    text, number = _SPECIAL_TOKEN.subn(r"[ \1 ]", text)
    counts["special_tokens_in_text"] += number
    return text
