"""Generator of characters.json from the behaviour of Hugging Face's `tokenizers`.

    python -m tools.freeze_characters

It runs the library on every code point, because the library's tables are from several versions of
Unicode: marks and punctuation from 8, decompositions from 9, lower case from 17. It is needed only
to follow another version of the library; everything trained before needs the old table.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from lib.vocab.characters import TABLE

# Without surrogates: no UTF-8 text has them, and the library refuses them.
_CODES = [*range(0xD800), *range(0xE000, 0x110000)]
_HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
# Marks with the lowest and the highest combining class (1 and 240).
_LOWEST, _HIGHEST = "\u0334", "\u0345"


def _ranges(codes: Iterable[int]) -> list[str]:
    """Sorted code points as `0041-005A`, or `0041` for a single one."""
    ranges: list[list[int]] = []
    for code in sorted(codes):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return [
        f"{first:04X}" if first == last else f"{first:04X}-{last:04X}" for first, last in ranges
    ]


def _replacements(mapping: dict[int, str]) -> dict[str, str]:
    """Code point -> replacement, both in hexadecimal: `00E9` -> `0065 0301`."""
    return {
        f"{code:04X}": " ".join(f"{ord(letter):04X}" for letter in replacement)
        for code, replacement in sorted(mapping.items())
    }


def _check(what: str, codes: Iterable[int]) -> None:
    """Stops if the library does anything to these code points that the table cannot express."""
    for code in codes:
        raise SystemExit(
            f"freeze: tokenizers {what} (U+{code:04X}); extend lib/vocab/characters.py first"
        )


def derive_table() -> dict[str, Any]:
    """The content of characters.json.

    Raises:
        SystemExit: `tokenizers` is missing, or does something that the table cannot express.
    """
    try:
        library = import_module("tokenizers")
        normalizers = import_module("tokenizers.normalizers")
        pre_tokenizers = import_module("tokenizers.pre_tokenizers")
    except ImportError:
        raise SystemExit(
            "freeze: the package tokenizers is missing; install it with make interop"
        ) from None

    def bert(step: str) -> dict[int, str]:
        """Code point -> result of a BertNormalizer with this step only."""
        steps = dict.fromkeys(
            ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False
        )
        normalizer = normalizers.BertNormalizer(**{**steps, step: True})
        return {code: normalizer.normalize_str(chr(code)) for code in _CODES}

    nfd = normalizers.NFD().normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    cleaned, isolated = bert("clean_text"), bert("handle_chinese_chars")
    stripped, lowered = bert("strip_accents"), bert("lowercase")
    decomposed = {code: nfd(chr(code)) for code in _CODES}

    removed = {code for code in _CODES if cleaned[code] == ""}
    space = {code for code in _CODES if cleaned[code] == " "}
    cjk = {code for code in _CODES if isolated[code] == f" {chr(code)} "}
    punctuation = {code for code in _CODES if len(split(f"a{chr(code)}a")) == 3}
    marks = {code for code in _CODES if decomposed[code] == chr(code) and stripped[code] == ""}
    # Next to a mark of another class, a character moves exactly if its own class is not 0.
    ordered = {
        code
        for code in _CODES
        if nfd(_HIGHEST + chr(code)) != _HIGHEST + decomposed[code]
        or nfd(chr(code) + _LOWEST) != decomposed[code] + _LOWEST
    }
    ordered = {
        code for code in ordered | {ord(_LOWEST), ord(_HIGHEST)} if decomposed[code] == chr(code)
    }
    order = {code: unicodedata.combining(chr(code)) for code in ordered - marks}

    # What characters.py assumes in addition to the table itself.
    standalone, cleared = cjk | punctuation, removed | space
    decomposing = {code for code in _CODES if decomposed[code] != chr(code)}
    _check(
        "replaces a character with something other than a space when cleaning",
        (code for code in _CODES if code not in cleared and cleaned[code] != chr(code)),
    )
    _check(
        "isolates a character with something other than spaces",
        (code for code in _CODES if code not in cjk and isolated[code] != chr(code)),
    )
    _check(
        "strips more than marks",
        (
            code
            for code in _CODES
            if stripped[code]
            != "".join(letter for letter in decomposed[code] if ord(letter) not in marks)
        ),
    )
    _check("removes a character that separates words", standalone & cleared)
    _check(
        "reorders a character that separates words",
        ordered & (standalone | cleared | decomposing),
    )
    for result in (
        stripped,
        lowered,
        {code: "".join(lowered[ord(letter)] for letter in stripped[code]) for code in _CODES},
    ):
        _check(
            "turns a character that is a word by itself into an ordinary one",
            (
                code
                for code in standalone
                if len(result[code]) != 1 or ord(result[code]) not in standalone
            ),
        )
        _check(
            "turns another character into a space or an ideograph",
            (
                code
                for code in _CODES
                if code not in cjk
                and code not in cleared
                and any(ord(letter) in cjk or ord(letter) in space for letter in result[code])
            ),
        )
    _check(
        "sorts by a combining class that this Python does not have",
        (code for code in order if not order[code]),
    )
    _check(
        "sorts marks differently from this Python's combining classes",
        (
            first
            for first in order
            for second in order
            if (nfd(chr(first) + chr(second)) != chr(first) + chr(second))
            != (order[first] > order[second])
        ),
    )
    return {
        "source": f"tokenizers {library.__version__}",
        "removed": _ranges(removed),
        "space": _ranges(space),
        "cjk": _ranges(cjk),
        "punctuation": _ranges(punctuation),
        "marks": _ranges(marks),
        "starter_marks": _ranges(marks - ordered),
        "order": {f"{code:04X}": order[code] for code in sorted(order)},
        "decompose": _replacements(
            {
                code: replacement
                for code, replacement in decomposed.items()
                if replacement != chr(code) and code not in _HANGUL_SYLLABLES
            }
        ),
        "lower": _replacements(
            {code: lower for code, lower in lowered.items() if lower != chr(code)}
        ),
    }


def main() -> None:
    """Regenerates characters.json."""
    table = json.dumps(derive_table(), indent=1) + "\n"
    TABLE.write_text(table, encoding="ascii", newline="\n")
    print(f"freeze: {TABLE.name}, {len(table):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
