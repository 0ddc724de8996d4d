"""What a tokenizer's normalization and word rules do to the scripts of a text, measured on it.

Accent stripping removes every nonspacing mark. In Latin text these are accents; in Devanagari or
Khmer many vowels are such marks, が is か with one, and Hangul syllables fall apart into letters.
Words then become other words, which no figure on unknown words shows.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

from lib.vocab.characters import character_table
from lib.vocab.settings import MAX_WORD_LENGTH, ZERO_WIDTH
from lib.vocab.words import WordCounts

_SPACE, _NON_JOINER = ZERO_WIDTH

# A script or character that makes up less of the text is not worth a note.
_MIN_FRACTION = 0.001
_MIN_COUNT = 10
# Of all characters, as Latin letters without accents are ASCII; French has 3 to 4 %.
_MIN_LATIN_FRACTION = 0.01
_MIN_ZERO_WIDTH_FRACTION = 0.0001
# Turkish has 3 to 4 %.
_MIN_DOTLESS_FRACTION = 0.002
# Written without spaces between words; the characters of a word are 4 to 6 on average.
_UNSPACED = frozenset(["Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Javanese", "Balinese"])
_MAX_MEAN_LENGTH = 15
_MIN_UNKNOWN_FRACTION = 0.01
_EXAMPLES = 3
_LATIN = "Latin"
_DOT = "\u0307"  # str.lower makes "i" and this of İ.


@lru_cache(1 << 16)
def _script(character: str) -> str:
    """The script of a letter or mark by its Unicode name (`Devanagari`); "" for others."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    first = unicodedata.name(character, "").partition(" ")[0].capitalize()
    # Combining accents, if the text is decomposed, stand mostly on Latin letters.
    return {"Combining": _LATIN, "Hiragana": "Kana", "Katakana": "Kana"}.get(first, first)


def _stripped(character: str) -> str:
    """A character after accent stripping."""
    table = character_table()
    return "".join(
        letter for letter in table.decomposed(ord(character)) if ord(letter) not in table.marks
    )


def normalization_notes(counts: WordCounts, lowercase: bool, strip_accents: bool) -> Iterator[str]:
    """What the settings of a tokenizer change in the letters of a text, one line each."""
    found, total = counts.raw_characters, max(counts.characters, 1)
    if strip_accents:
        yield from _stripping_notes(found, total)
    if found["ı"] + found["İ"] < _MIN_DOTLESS_FRACTION * total:
        return
    if found["İ"] and lowercase:
        yield (
            f"lower-casing makes i of I, but the text has {found['ı']:,} ı and {found['İ']:,} İ, "
            "as Turkish, where I is the capital of ı: different words become equal; set "
            "vocab.lowercase: false"
        )
    elif found[_DOT] and not found["İ"]:
        yield (
            f"the text was lower-cased although it has {found['ı']:,} ı, as Turkish: its I became "
            f"i, and its İ an i with a dot of its own ({found[_DOT]:,} times), so that different "
            "words are equal; set preprocess.clean.lowercase: false"
        )


def _stripping_notes(found: Mapping[str, int], total: int) -> Iterator[str]:
    letters: Counter[str] = Counter()
    has_letters = set()
    changed: Counter[str] = Counter()
    characters: dict[str, Counter[str]] = {}
    for character, count in found.items():
        script = _script(character)
        if not script:
            continue
        letters[script] += count
        if unicodedata.category(character)[0] == "L":
            has_letters.add(script)
        stripped = _stripped(character)
        # Without its vowel signs and points, text in these two scripts is as it is usually written.
        is_usual = script in ("Arabic", "Hebrew") and not stripped
        if stripped != character and not is_usual:
            changed[script] += count
            characters.setdefault(script, Counter())[character] += count
    for script, count in changed.most_common():
        minimum = _MIN_LATIN_FRACTION if script == _LATIN else _MIN_FRACTION
        # Variation selectors are marks, but of emoji.
        if count < max(_MIN_COUNT, minimum * total) or script not in has_letters | {_LATIN}:
            continue
        common = sorted(characters[script].items(), key=lambda item: (-item[1], item[0]))
        examples = ", ".join(map(_example, (character for character, _ in common[:_EXAMPLES])))
        of_all = total if script == _LATIN else letters[script]
        effect = "different words become equal"
        if script == "Hangul":
            effect = "words consist of two to three times as many characters"
        yield (
            f"vocab.strip_accents: true changes {count:,} characters of the {script} text "
            f"({count / of_all:.1%} of it: {examples}), so that {effect}; set "
            "vocab.strip_accents: false"
        )


def _example(character: str) -> str:
    stripped = _stripped(character)
    if not stripped:
        return f"without ◌{character}"
    if _script(character) == "Hangul":
        return f"{character} to {' '.join(stripped)}"
    return f"{character} to {stripped}"


def meaningful_zero_width(counts: WordCounts) -> tuple[str, ...]:
    """The zero-width characters that are more than noise in a text: a character in 10,000."""
    minimum = max(1.0, _MIN_ZERO_WIDTH_FRACTION * counts.characters)
    return tuple(each for each in ZERO_WIDTH if counts.raw_characters[each] >= minimum)


def zero_width_note(counts: WordCounts, tokens: tuple[str, ...]) -> str | None:
    """What the tokenizer does to zero-width characters between words, if the text has them.

    Args:
        tokens: the zero-width characters that are tokens.
    """
    found = set(meaningful_zero_width(counts))
    joiners, spaces = (f"{counts.raw_characters[each]:,}" for each in (_NON_JOINER, _SPACE))
    numbers = f"{joiners} non-joiners and {spaces} zero-width spaces in the sample"
    if found - set(tokens):
        return (
            "BERT's tokenizer deletes zero-width characters, which joins the words on both sides: "
            f"{numbers}; set preprocess.clean.format_characters: space"
        )
    if _SPACE in found:
        return (
            f"zero-width spaces are tokens, one between any two words: {numbers}; with "
            "preprocess.clean.format_characters: space sequences hold more words"
        )
    return None


def unspaced_note(counts: WordCounts, unknown: float) -> str | None:
    """Why many characters are in words that are too long or hardly words, and what to do.

    Args:
        unknown: fraction of the characters that are in words that become [UNK].
    """
    characters: Counter[str] = Counter()
    words: Counter[str] = Counter()
    too_long = total = 0
    for word, count in counts.words.items():
        script = _script(word[0])
        total += count * len(word)
        if script in _UNSPACED:
            words[script] += count
            characters[script] += count * len(word)
        if len(word) > MAX_WORD_LENGTH:
            too_long += count * len(word)
    share = f"{too_long / max(total, 1):.1%} of the characters are in words of more than "
    share += f"{MAX_WORD_LENGTH} characters, which become [UNK]"
    for script, count in characters.most_common(1):
        mean = count / words[script]
        if count > 0.01 * total and mean > _MAX_MEAN_LENGTH:
            lost = f", and {share}" if too_long else ""
            return (
                f"{script} is written without spaces: its words here have {mean:.0f} characters on "
                f"average{lost}; put spaces between its words with a segmenter first (see Scripts "
                "without spaces in docs/vocabulary.md)"
            )
    if too_long:
        return f"{share} (URLs, data, or text without spaces?); see results/vocab/report.md"
    if unknown > _MIN_UNKNOWN_FRACTION:
        return (
            f"{unknown:.1%} of the characters are in words that become [UNK], since the vocabulary "
            "cannot spell them; see results/vocab/report.md"
        )
    return None
