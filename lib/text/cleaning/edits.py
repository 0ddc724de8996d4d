"""The edits of the cleaning, the options that switch them, and the order in which they run.

An edit is a function `edit(text, present, counts) -> text`:

    text     many lines joined by LF. No edit looks across a line end, so the result does not depend
             on which documents are cleaned together.
    present  every character that occurs in the text, and perhaps a few more. Most characters that
             an edit is about do not occur at all, so an edit looks only for those that do. An edit
             that puts new characters into the text adds them here; `of_characters` does so.
    counts   number of edits by reason, for results/preprocess/metrics.json.

To add an edit: write the function, add its option to `Cleaning`, and give it a line in
`chosen_edits`.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, StrictBool

from lib.text.cleaning.emoji import EMOJI_CHARACTERS, character_class, edit_emoji
from lib.text.cleaning.placeholders import Placeholder, Placeholders
from lib.text.cleaning.remnants import BLOCK_NAMES, ENTITY, TAG, TAG_NAMES
from lib.text.cleaning.sentences import split_sentences

Edit = Callable[[str, set[str], Counter[str]], str]


class Cleaning(BaseModel):
    """The section `preprocess.clean` of params.yaml: every option, its default and its values.

    With the defaults only white space, control characters and BERT's special tokens are edited.
    C1 control characters become what they are in Windows-1252 (U+0092: an apostrophe).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unescape_html: StrictBool = False
    html_tags: Literal["keep", "remove"] = "keep"
    unicode: Literal["keep", "NFC", "NFKC"] = "keep"
    format_characters: Literal["keep", "space", "remove"] = "keep"
    urls: Literal["keep", "replace", "remove"] = "keep"
    url_placeholder: Placeholder = "twitterurl"
    emails: Literal["keep", "replace", "remove"] = "keep"
    email_placeholder: Placeholder = "twitteremail"
    users: Literal["keep", "replace", "remove"] = "keep"
    user_placeholder: Placeholder = "twitteruser"
    emoji: Literal["keep", "space", "alias", "remove"] = "keep"
    punctuation: Literal["keep", "ascii", "remove"] = "keep"
    symbols: Literal["keep", "remove"] = "keep"
    lowercase: StrictBool = False
    accents: Literal["keep", "remove"] = "keep"
    arabic_marks: Literal["keep", "remove"] = "keep"
    merge_placeholders: StrictBool = True


def chosen_edits(options: Cleaning, split: bool) -> list[Edit]:
    """The edits that are switched on, in the order in which they run.

    Args:
        split: whether to split lines into sentences (False: each line is a sentence).
    """
    placeholders = Placeholders(
        {
            "urls": (options.urls, options.url_placeholder),
            "emails": (options.emails, options.email_placeholder),
            "users": (options.users, options.user_placeholder),
        },
        options.merge_placeholders,
    )
    edits: list[tuple[bool, Edit]] = [
        (options.unescape_html, unescape_html),
        (options.html_tags == "remove", remove_tags),
        (True, find_characters),  # `present` is complete from here on
        (True, read_c1_controls),
        (options.unicode != "keep", partial(normalize, options.unicode)),
        (True, remove_controls),
        (options.format_characters == "space", zero_width_to_space),
        (options.format_characters != "keep", remove_format_characters),
        (True, unify_spaces),
        (True, tidy_spaces),
        (True, placeholders.mark),
        # Boundaries depend on case and punctuation: what follows may change these.
        (split, split_lines),
        (options.emoji != "keep", partial(edit_emoji, options.emoji)),
        (options.punctuation == "ascii", punctuation_to_ascii),
        (options.punctuation == "remove", remove_punctuation),
        (options.symbols == "remove", remove_symbols),
        (options.lowercase, lowercase),
        (options.accents == "remove", remove_accents),
        (options.arabic_marks == "remove", remove_arabic_marks),
        (True, empty_invisible_lines),
        (True, tidy_spaces),
        (True, placeholders.join_lines),
        (True, placeholders.write),
        (True, open_special_tokens),
    ]
    return [edit for switched_on, edit in edits if switched_on]


# A line of this character alone stands before each document of a text. DocumentCleaner removes it
# from raw text first.
BETWEEN = "\x02"

# The semicolon is required: `?a=1&copy=2` is part of a URL. Text that was escaped several times has
# its ampersands escaped (`&amp;lt;`).
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp;|#38;)+")
_COMMENT = re.compile(r"<!--[^\n]*?-->")

# Invisible: soft hyphen, zero-width space, direction marks and embeddings, word joiner, annotation.
# Joiners (ZWJ, ZWNJ) and the tags of flags carry meaning and stay.
_FORMAT = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufff9-\ufffb]"
)
# All invisible characters: also joiners, fillers, blanks, variation selectors and tags.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0f\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_INVISIBLE_CHARACTER = re.compile(f"[{_INVISIBLE}]")
_INVISIBLE_LINE = re.compile(f"^ *+[{_INVISIBLE}][{_INVISIBLE} ]*+$", re.MULTILINE)
# Zero-width spaces, and non-joiners that separate parts of a word (as in Persian); after a virama
# one only chooses a letter's form.
_ZERO_WIDTH = re.compile(
    "\u200b|(?<![\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca\u1039\u17d2])\u200c"
)
# Combining marks of Latin, Greek and Cyrillic; in other scripts such marks are vowels.
_ACCENT = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20dc\ufe20-\ufe2f]+")
# Quranic signs, vowel signs, superscript alef, and tatweel, which only stretches a word.
_ARABIC_MARK = re.compile(
    "[\u0610-\u061a\u0640\u064b-\u0652\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]+"
)

_SPECIAL_TOKEN = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK)\]")

# Marks for which neither NFKC nor the Unicode category gives an ASCII form.
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


def unescape_html(text: str, present: set[str], counts: Counter[str]) -> str:
    """HTML entities as characters, also if escaped repeatedly: `&lt;` and `&amp;amp;lt;` to <."""
    if "&" not in text:
        return text
    text = _ESCAPED_AMPERSAND.sub("&", text)

    def unescape(match: re.Match[str]) -> str:
        character = _entity(match[0])
        if character != match[0]:
            counts["html_entities"] += 1
        return character

    return ENTITY.sub(unescape, text)


def remove_tags(text: str, present: set[str], counts: Counter[str]) -> str:
    """Text without the tags of HTML; those of paragraphs, line ends and the like end a line."""
    if "<" not in text:
        return text

    def replacement(match: re.Match[str]) -> str:
        name = match[1].lower()
        if name not in TAG_NAMES:
            return match[0]
        counts["html_tags"] += 1
        return "\n" if name in BLOCK_NAMES else ""

    if "<!--" in text:
        text, number = _COMMENT.subn("", text)
        counts["html_tags"] += number
    return TAG.sub(replacement, text)


@lru_cache(maxsize=4096)
def _entity(entity: str) -> str:
    character = html.unescape(entity)
    # An escaped line end or control character is a space: it must not end a line of this text.
    return " " if character.isspace() or "\0" <= character < " " else character


def normalize(
    form: Literal["keep", "NFC", "NFKC"], text: str, present: set[str], counts: Counter[str]
) -> str:
    """Text in a Unicode normalization form."""
    if form == "keep":
        return text
    return find_characters(unicodedata.normalize(form, text), present, counts)


def find_characters(text: str, present: set[str], counts: Counter[str]) -> str:
    """Adds the text's characters to `present`; the text stays as it is."""
    # A table of all code points is three times as fast as a set of the text.
    seen = np.zeros(0x110000, np.bool_)
    seen[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)] = True
    present.update(map(chr, np.flatnonzero(seen).tolist()))
    return text


def of_characters(reason: str) -> Callable[[Callable[[str], str]], Edit]:
    """Makes an edit of a function from a character to the text in its place; changes are counted.

    Args:
        reason: the key of `counts`.
    """

    def edit_of(replacement: Callable[[str], str]) -> Edit:
        cached = lru_cache(maxsize=1 << 16)(replacement)

        @wraps(replacement)
        def edit(text: str, present: set[str], counts: Counter[str]) -> str:
            replacements = {old: new for old in present if (new := cached(old)) != old}
            if not replacements:
                return text
            pattern = f"[{character_class(replacements, present)}]"
            text, number = re.subn(pattern, lambda match: replacements[match[0]], text)
            counts[reason] += number
            present.update(*replacements.values())
            return text

        return edit

    return edit_of


@of_characters("c1_controls")
def read_c1_controls(character: str) -> str:
    """Text with U+0080 to U+009F as the characters of Windows-1252, as browsers read them.

    They come from Windows text that was read as Latin-1: U+0092 is an apostrophe. Five of them have
    no character there and stay what they are.
    """
    if not "\x80" <= character <= "\x9f":
        return character
    return character.encode("latin-1").decode("cp1252", "ignore") or character


@of_characters("control_characters")
def remove_controls(character: str) -> str:
    """Text without byte order marks, surrogates and control characters, white space excepted."""
    if character.isspace() or character == BETWEEN:
        return character
    removed = character == "\ufeff" or unicodedata.category(character) in ("Cc", "Cs")
    return "" if removed else character


def remove_format_characters(text: str, present: set[str], counts: Counter[str]) -> str:
    """Text without invisible characters other than joiners."""
    text, number = _FORMAT.subn("", text)
    counts["format_characters"] += number
    return text


def empty_invisible_lines(text: str, present: set[str], counts: Counter[str]) -> str:
    """Text with empty lines instead of those that have only spaces and invisible characters."""
    if not _INVISIBLE_CHARACTER.search("".join(present)):
        return text
    text, number = _INVISIBLE_LINE.subn("", text)
    counts["invisible_lines"] += number
    return text


def zero_width_to_space(text: str, present: set[str], counts: Counter[str]) -> str:
    """A space for each zero-width space and non-joiner between words or parts of them."""
    if present.isdisjoint("\u200b\u200c"):
        return text
    text, number = _ZERO_WIDTH.subn(" ", text)
    counts["zero_width_to_space"] += number
    present.add(" ")
    return text


def unify_spaces(text: str, present: set[str], counts: Counter[str]) -> str:
    """A space for every white space character other than LF.

    Among them are line separators (such as U+2028) that some readers take for a line end.
    """
    for character in present:
        if character.isspace() and character not in " \n":
            text = text.replace(character, " ")
    present.add(" ")
    return text


def tidy_spaces(text: str, present: set[str], counts: Counter[str]) -> str:
    """Single spaces only, none at line ends, no blank lines."""
    if "  " in text:
        text = re.sub("  +", " ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    if "\n\n" in text:
        text = re.sub("\n\n+", "\n", text)
    return text.strip(" \n")


def split_lines(text: str, present: set[str], counts: Counter[str]) -> str:
    """Lines split into sentences."""
    return split_sentences(text)


@of_characters("punctuation")
def punctuation_to_ascii(character: str) -> str:
    """Punctuation of all scripts in its nearest ASCII form, where there is one."""
    if character in _TO_ASCII:
        return _TO_ASCII[character]
    category = unicodedata.category(character)
    if character.isascii() or category[0] != "P":
        return character
    if category == "Pd":
        return "-"
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if compatible.isascii() else character


@of_characters("punctuation")
def remove_punctuation(character: str) -> str:
    """A space for each punctuation mark and for each symbol that is not an emoji."""
    kind = unicodedata.category(character)[0]
    return " " if kind in "PS" and character not in EMOJI_CHARACTERS else character


@of_characters("symbols")
def remove_symbols(character: str) -> str:
    """A space for each character of category So (symbol, other) that is not an emoji."""
    symbol = unicodedata.category(character) == "So" and character not in EMOJI_CHARACTERS
    return " " if symbol else character


def lowercase(text: str, present: set[str], counts: Counter[str]) -> str:
    """Text in lower case."""
    # One character at a time, except that only context makes a final sigma.
    present.update(*map(str.lower, present), "ς")
    return text.lower()


@of_characters("accents")
def remove_accents(character: str) -> str:
    """Latin, Greek and Cyrillic letters without their accents."""
    apart = unicodedata.normalize("NFD", character)
    bare = _ACCENT.sub("", apart)
    return unicodedata.normalize("NFC", bare) if bare != apart else character


def remove_arabic_marks(text: str, present: set[str], counts: Counter[str]) -> str:
    """Arabic text without vowel signs and tatweel."""
    bare = _ARABIC_MARK.sub("", text)
    counts["arabic_marks"] += len(text) - len(bare)
    return bare


def open_special_tokens(text: str, present: set[str], counts: Counter[str]) -> str:
    """`[MASK]` in a text as `[ MASK ]`: BERT tokenizers would take it for their own token."""
    text, number = _SPECIAL_TOKEN.subn(r"[ \1 ]", text)
    counts["special_tokens_in_text"] += number
    return text
