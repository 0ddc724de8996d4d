"""Where a text can be cut before a tokenizer.json's tokenizer sees it, without other ids.

text     the naïve fish,  swam     (two spaces)
spans    "the" " naïve" " fish,  swam"
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from lib.vocab.library_files import flattened

# Letters, digits and punctuation that no normalization turns into white space or into a mark at
# their beginning: next to them, a space remains a single space. The exceptions are letters such as
# U+FC5E, a space and two marks in NFKC.
_PLAIN = (
    "[^\\W\u037a\ufc5e-\ufc63\ufdfa\ufdfb\ufe70-\ufe7f\uff9e\uff9f]"
    "|[!-~\u00ab\u00bb\u060c\u061b\u061f\u0964\u0965\u2010-\u2016\u2018-\u2027\u2030-\u203d"
    "\u3001\u3002\u3008-\u3011\uff01-\uff5e]"
)
# Up to the next space between plain characters.
_TO_SPACE = f"(?: [^ \n]*+|[^ \n]++)(?:(?:(?<!{_PLAIN}) | (?!{_PLAIN}))[^ \n]*+)*+"
# Punctuation that neither continues a word nor begins a contraction ('s).
_PUNCTUATION = r"!-&(-/:-@\[-^`{-~"
_BEFORE_SPACE = f"\n|$| (?={_PLAIN})"

# Normalizers that change a character depending on its neighbours at most, so that plain characters
# around a single space stay apart.
_LOCAL_NORMALIZERS = (
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "StripAccents",
    "BertNormalizer",
    "Precompiled",
    "Strip",
)
# Pre-tokenizers that cut before every space between plain characters, and those that only cut
# between some kinds of neighbours.
_SPACE_SPLITTERS = ("Metaspace", "Whitespace", "WhitespaceSplit", "BertPreTokenizer")
_LOCAL_SPLITTERS = ("Digits", "Punctuation", "ByteLevel", "UnicodeScripts")
# Patterns of Split of which no match extends across a space before a plain character: GPT-2's,
# GPT-4's with and without groups of three digits (Llama 3, Qwen), GPT-4o's.
_SUFFIXES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_KNOWN_PATTERNS = (
    _GPT2,
    rf"{_SUFFIXES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}",
    rf"{_SUFFIXES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIXES}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"{_SUFFIXES}?|\p{{N}}{{1,3}}{_REST.replace(']*', '/]*', 1)}",
)


@cache
def _letters() -> str:
    """Letters and digits in the syntax of a character class.

    Only those that every version of Unicode has as such, and that NFC leaves as they are: U+0958
    becomes a letter and a mark, which the patterns take for punctuation.
    """
    old = unicodedata.ucd_3_2_0
    codes = [
        code
        for code in range(0xFFFF)
        if old.category(chr(code))[0] in "LN"
        and unicodedata.category(chr(code))[0] in "LN"
        and unicodedata.normalize("NFC", chr(code)) == chr(code)
        and re.match(_PLAIN, chr(code))
    ]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)


def span_finder(content: Mapping[str, Any]) -> Callable[[str], list[str]]:
    """A function that cuts text into newlines and spans.

    Where the pre-tokenizer's pattern separates words from punctuation, spans end there as well, so
    that there are fewer different ones: `word` instead of `word,` and `word.`.
    """
    fine = ""
    if _is_byte_level(content):
        letters = _letters()
        after = f"[{letters}]|" if _pattern(content) == _GPT2 else ""
        fine = (
            f"| ?+[{letters}]++(?=[{_PUNCTUATION}]|{_BEFORE_SPACE})"
            f"| ?+[{_PUNCTUATION}]++(?={after}{_BEFORE_SPACE})"
        )
    return re.compile(f"\n{fine}|{_TO_SPACE}").findall


def newlines_separate(content: Mapping[str, Any]) -> bool:
    """Whether a newline is tokens by itself, and what follows it is as at the start of a text."""
    return _is_byte_level(content) and _pattern(content) == _GPT2


_match_plain = re.compile(_PLAIN).match


def ends_plain(span: str) -> bool:
    """Whether another span, which begins with a space, can follow a span in one text."""
    return _match_plain(span, len(span) - 1) is not None


def _pattern(content: Mapping[str, Any]) -> str | None:
    """The pattern by which the pre-tokenizer splits, if it is known."""
    steps = list(flattened(content.get("pre_tokenizer"), "pretokenizers"))
    first = steps[0] if steps else {}
    if first.get("type") == "ByteLevel" and first.get("use_regex", True):
        return _GPT2
    if first.get("type") == "Split" and first["behavior"] == "Isolated" and not first["invert"]:
        pattern: str | None = first["pattern"].get("Regex")
        return pattern if pattern in _KNOWN_PATTERNS else None
    return None


def _is_byte_level(content: Mapping[str, Any]) -> bool:
    """Whether a text has the ids of its parts if it is cut between words and punctuation."""
    normalizers = flattened(content.get("normalizer"), "normalizers")
    steps = list(flattened(content.get("pre_tokenizer"), "pretokenizers"))
    return (
        _pattern(content) is not None
        and all(step["type"] == "NFC" for step in normalizers)
        and all(step["type"] in ("ByteLevel", "Split") for step in steps)
        and not any(step.get("add_prefix_space", False) for step in steps)
    )


def cuts_at_spaces(content: Mapping[str, Any]) -> bool:
    """Whether a text has the ids of its parts if it is cut before single spaces.

    The part after a cut must have a word before it, and the text no added token with a single space
    in it.
    """
    for step in flattened(content.get("normalizer"), "normalizers"):
        if step["type"] == "Replace":
            # Several spaces become one: those between plain characters are single.
            if step["pattern"] != {"Regex": " {2,}"}:
                return False
        elif step["type"] not in _LOCAL_NORMALIZERS:
            return False
    for added in content["added_tokens"]:
        if added["content"] == " " or (added["normalized"] and " " in added["content"].strip()):
            return False
    for step in flattened(content.get("pre_tokenizer"), "pretokenizers"):
        kind = step["type"]
        if kind == "Split":
            return _pattern(content) is not None
        if kind == "Metaspace" and step.get("split") is False:
            return False
        if kind in _SPACE_SPLITTERS or (kind == "ByteLevel" and step.get("use_regex", True)):
            return True
        if kind not in _LOCAL_SPLITTERS:
            return False
    return False
