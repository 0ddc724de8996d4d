"""BERT's basic tokenizer: what happens to text before WordPiece, character by character.

Follows the BertNormalizer and BertPreTokenizer of Hugging Face's `tokenizers`, whose
`tokenizer.json` is what users will run. Their Unicode tables differ from Python's, and Python's
from one version to the next; so a frozen table (`characters.json`, made by
`tools/freeze_characters.py`) decides, and the same text gives the same words everywhere.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("characters.json")
_END = 0x110000
# The basic multilingual plane ends at U+FFFF.
_BEYOND_BMP_START = "\U00010000"


class CodePoints:
    """A set of code points, held as ranges: `removed` alone has 137 681 members in 25 ranges."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Takes (first, last) pairs, both inclusive, in any order."""
        # 0, 3, 7, 9 means 0..2 and 7..8, so that membership is the parity of one bisection.
        self._bounds: list[int] = []
        for first, last in sorted(ranges):
            if self._bounds and first <= self._bounds[-1]:
                self._bounds[-1] = max(self._bounds[-1], last + 1)
            else:
                self._bounds += [first, last + 1]

    def __contains__(self, code: int) -> bool:
        return bisect_right(self._bounds, code) % 2 == 1

    def ranges(self) -> list[tuple[int, int]]:
        """The (first, last) pairs, both inclusive."""
        return [
            (first, end - 1)
            for first, end in zip(self._bounds[::2], self._bounds[1::2], strict=True)
        ]

    def __or__(self, other: "CodePoints") -> "CodePoints":
        return CodePoints(self.ranges() + other.ranges())

    def complement(self) -> "CodePoints":
        """All code points that are not in this set."""
        bounds = [0, *self._bounds, _END]
        return CodePoints(
            [
                (first, end - 1)
                for first, end in zip(bounds[::2], bounds[1::2], strict=True)
                if first < end
            ]
        )

    def pattern(self) -> str:
        """The members as the inside of a regular expression's `[...]`."""
        return "".join(f"\\U{first:08X}-\\U{last:08X}" for first, last in self.ranges())


class CharacterTable:
    """`characters.json` in memory.

    Attributes:
        removed: dropped by the cleaning (controls, format characters, private use, U+FFFD).
        space: end a word.
        cjk: ideographs, each a word by itself.
        punctuation: each a word by itself.
        marks: nonspacing marks, dropped by accent stripping.
        starter_marks: those marks that have combining class 0.
        order: combining class of every other character that has one above 0.
        decompose: canonical decomposition (NFD), without Hangul syllables.
        lower: lower case without context: there is no final sigma.
    """

    def __init__(self, path: Path) -> None:
        table = json.loads(path.read_text(encoding="ascii"))
        self.removed = _code_points(table["removed"])
        self.space = _code_points(table["space"])
        self.cjk = _code_points(table["cjk"])
        self.punctuation = _code_points(table["punctuation"])
        self.marks = _code_points(table["marks"])
        self.starter_marks = _code_points(table["starter_marks"])
        self.order: dict[int, int] = {int(key, 16): value for key, value in table["order"].items()}
        self.decompose = _images(table["decompose"])
        self.lower = _images(table["lower"])

    def decomposed(self, code: int) -> str:
        """The canonical decomposition of one character: itself if it has none."""
        if 0xAC00 <= code <= 0xD7A3:
            return _decompose_hangul(code)
        return self.decompose.get(code) or chr(code)


def _code_points(ranges: list[str]) -> CodePoints:
    pairs = []
    for text in ranges:
        first, _, last = text.partition("-")
        pairs.append((int(first, 16), int(last or first, 16)))
    return CodePoints(pairs)


def _images(mapping: dict[str, str]) -> dict[int, str]:
    return {
        int(key, 16): "".join(chr(int(code, 16)) for code in image.split())
        for key, image in mapping.items()
    }


def _decompose_hangul(code: int) -> str:
    """A Hangul syllable as its two or three jamo (The Unicode Standard, section 3.12)."""
    lead, rest = divmod(code - 0xAC00, 21 * 28)
    vowel, tail = divmod(rest, 28)
    return chr(0x1100 + lead) + chr(0x1161 + vowel) + (chr(0x11A7 + tail) if tail else "")


@cache
def character_table() -> CharacterTable:
    """The table, read once per process."""
    return CharacterTable(TABLE)


_BEYOND_BMP = CodePoints([(ord(_BEYOND_BMP_START), _END - 1)])


@cache
def _alone() -> CodePoints:
    """The characters that are words by themselves."""
    table = character_table()
    return table.punctuation | table.cjk


@cache
def word_pattern() -> str:
    """A regular expression for words: punctuation and ideographs alone, everything else in runs.

    In normalised text it finds the words. In raw text it finds pieces that can be normalised one
    by one, because whatever ends a run there also does so after normalisation.

    Beyond the BMP everything counts as part of runs, and normalisation puts spaces around what is
    a word by itself: a class of single ranges there would be tried range by range wherever a run
    ends, which takes as long as all the rest.
    """
    alone = (_alone().complement() | _BEYOND_BMP).complement()
    within = (alone | character_table().space).complement()
    return f"[{within.pattern()}]++|[{alone.pattern()}]"


class _Translation(dict[int, str | None]):
    """What becomes of each character, for str.translate; computed when it is first met.

    Almost no text needs more than a few thousand of the 1 112 064 code points.
    """

    def __init__(self, decompose: bool, drop_marks: bool, lowercase: bool) -> None:
        super().__init__()
        self._table = character_table()
        self._alone = _alone()
        self._decompose = decompose
        self._drop_marks = drop_marks
        self._lowercase = lowercase

    def __missing__(self, code: int) -> str | None:
        self[code] = image = self._image(code)
        return image

    def _image(self, code: int) -> str | None:
        table = self._table
        if code in table.removed:
            return None  # not "": str.translate has a fast path for ASCII that "" would end
        if code in table.space:
            return " "
        image = ""
        for letter in table.decomposed(code) if self._decompose else chr(code):
            if self._drop_marks and ord(letter) in table.marks:
                continue
            for lower in table.lower.get(ord(letter), letter) if self._lowercase else letter:
                is_word = lower >= _BEYOND_BMP_START and ord(lower) in self._alone
                image += f" {lower} " if is_word else lower
        return image


class BasicTokenizer:
    """Splits text into words as BertNormalizer and BertPreTokenizer do.

    Order of the steps there: clean, isolate ideographs, decompose and drop marks, lower-case,
    isolate punctuation. Here ideographs are isolated last, together with punctuation: the steps
    between neither make nor unmake one.
    """

    def __init__(self, lowercase: bool, strip_accents: bool) -> None:
        table = character_table()
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self._translation = _Translation(strip_accents, strip_accents, lowercase)
        self._find_words = re.compile(word_pattern()).findall
        # Decomposition also sorts neighbouring marks by combining class. Nearly all of them are
        # dropped afterwards, so that only those that are kept (U+1D165, U+302E, ...) can show it.
        self._order = table.order
        self._decomposition = _Translation(decompose=True, drop_marks=False, lowercase=False)
        kept = CodePoints((code, code) for code in table.order)
        dropped = (table.marks.complement() | table.starter_marks).complement()
        self._find_disorder = re.compile(f"[{kept.pattern()}]{{2}}").search
        self._sequence = re.compile(f"[{(kept | dropped).pattern()}]{{2,}}")

    def _normalise(self, text: str) -> str:
        """The cleaned, stripped and lower-cased text, in which `word_pattern` finds the words."""
        normal = text.translate(self._translation)
        if self.strip_accents and not normal.isascii() and self._find_disorder(normal):
            ordered = self._sequence.sub(self._sort, text.translate(self._decomposition))
            normal = ordered.translate(self._translation)
        return normal

    def _sort(self, sequence: re.Match[str]) -> str:
        """Canonical ordering, of the characters that accent stripping will leave."""
        kept = [letter for letter in sequence.group() if ord(letter) in self._order]
        return "".join(sorted(kept, key=lambda letter: self._order[ord(letter)]))

    def words(self, text: str) -> list[str]:
        """The words of a text, in order; every punctuation mark and ideograph is one."""
        if text.isascii() and text.isalnum():  # nearly all: nothing to remove, one word
            return [text.lower() if self.lowercase else text]
        return self._find_words(self._normalise(text))
