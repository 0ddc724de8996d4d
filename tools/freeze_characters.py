"""Makes characters.json from the behaviour of Hugging Face's `tokenizers`.

    python -m tools.freeze_characters

Asks the library about every code point, because its Unicode tables are of several versions: marks
and punctuation of 8, decompositions of 9, lower case of 17. Needed only if the exported tokenizers
are to follow another version of the library; everything trained before then stays with the old.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from lib.vocab.characters import TABLE

# Surrogates are not characters: no UTF-8 text has them and the library refuses them.
_CODES = [*range(0xD800), *range(0xE000, 0x110000)]
_HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
# Marks with the lowest and the highest combining class there is (1 and 240).
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


def _images(mapping: dict[int, str]) -> dict[str, str]:
    return {
        f"{code:04X}": " ".join(f"{ord(letter):04X}" for letter in image)
        for code, image in sorted(mapping.items())
    }


def _check(what: str, codes: Iterable[int]) -> None:
    """Stops if there are code points with which the library does what the table cannot say."""
    for code in codes:
        raise SystemExit(
            f"freeze: tokenizers {what} (U+{code:04X}); change lib/vocab/characters.py first"
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
            "freeze: the package tokenizers is missing; pip install tokenizers"
        ) from None

    def bert(step: str) -> dict[int, str]:
        """What one step of the BertNormalizer, alone, makes of every code point."""
        steps = dict.fromkeys(
            ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False
        )
        normalizer = normalizers.BertNormalizer(**{**steps, step: True})
        return {code: normalizer.normalize_str(chr(code)) for code in _CODES}

    nfd = normalizers.NFD().normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    cleaned, spaced = bert("clean_text"), bert("handle_chinese_chars")
    stripped, lowered = bert("strip_accents"), bert("lowercase")
    decomposed = {code: nfd(chr(code)) for code in _CODES}

    removed = {code for code in _CODES if cleaned[code] == ""}
    space = {code for code in _CODES if cleaned[code] == " "}
    cjk = {code for code in _CODES if spaced[code] == f" {chr(code)} "}
    punctuation = {code for code in _CODES if len(split(f"a{chr(code)}a")) == 3}
    marks = {code for code in _CODES if decomposed[code] == chr(code) and stripped[code] == ""}
    # Next to a mark of another class a character moves exactly if its own class is not 0.
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

    # What characters.py relies on, beyond the table itself.
    alone, cleared = cjk | punctuation, removed | space
    decomposing = {code for code in _CODES if decomposed[code] != chr(code)}
    _check(
        "replaces a character by another than a space while cleaning",
        (code for code in _CODES if code not in cleared and cleaned[code] != chr(code)),
    )
    _check(
        "isolates a character by something else than spaces",
        (code for code in _CODES if code not in cjk and spaced[code] != chr(code)),
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
    _check("removes a character that separates words", alone & cleared)
    _check("reorders a character that separates words", ordered & (alone | cleared | decomposing))
    for image in (
        stripped,
        lowered,
        {code: "".join(lowered[ord(letter)] for letter in stripped[code]) for code in _CODES},
    ):
        _check(
            "makes an ordinary character of one that is a word by itself",
            (code for code in alone if len(image[code]) != 1 or ord(image[code]) not in alone),
        )
        _check(
            "makes a space or an ideograph of another character",
            (
                code
                for code in _CODES
                if code not in cjk
                and code not in cleared
                and any(ord(letter) in cjk or ord(letter) in space for letter in image[code])
            ),
        )
    _check(
        "has a combining class that this Python does not know",
        (code for code in order if not order[code]),
    )
    _check(
        "orders marks not as this Python's combining classes do",
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
        "decompose": _images(
            {
                code: image
                for code, image in decomposed.items()
                if image != chr(code) and code not in _HANGUL_SYLLABLES
            }
        ),
        "lower": _images({code: image for code, image in lowered.items() if image != chr(code)}),
    }


def main() -> None:
    """Writes characters.json anew."""
    table = json.dumps(derive_table(), indent=1) + "\n"
    TABLE.write_text(table, encoding="ascii", newline="\n")
    print(f"freeze: {TABLE.name}, {len(table):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
