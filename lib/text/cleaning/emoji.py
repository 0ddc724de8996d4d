"""Emoji in text: found as whole sequences, then spelled out, set off by spaces, or removed.

A sequence may be long: people joined by ZWJ, skin tones, flags made of two regional indicators or
of tags, keycaps. The table of the `emoji` package says what is an emoji and what it is called.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import emoji

# Another version of the table may give other text, so it is among the metrics.
EMOJI_VERSION = emoji.__version__

# Characters that only change or join emoji: variation selectors, ZWJ, keycap, tags.
_JOINERS = "\u200d\ufe0e\ufe0f\u20e3" + "".join(map(chr, range(0xE0020, 0xE0080)))
EMOJI_CHARACTERS = frozenset(
    character
    for sequence in emoji.EMOJI_DATA
    for character in sequence
    if not character.isascii() and character not in _JOINERS
)
# The characters of all emoji names.
_ALIAS_CHARACTERS = frozenset().union(*(names["en"] for names in emoji.EMOJI_DATA.values()))
# Longer runs hardly ever repeat: they are not cached.
_CACHED_LENGTH = 24


def character_class(members: Iterable[str], present: Iterable[str] | None = None) -> str:
    """The inside of a regular expression's character class, as ranges.

    Args:
        present: every character of the text to search. Characters that do not occur may then fall
            into the ranges. That keeps the ranges few, and the search tries each of them at each
            character of the text.
    """
    inside = set(members)
    candidates = inside if present is None else inside.union(present)
    ranges: list[list[str]] = []
    extends = False  # whether the last range ends with the previous character
    for character in sorted(candidates):
        if character not in inside:
            extends = False
        elif extends and (present is not None or ord(ranges[-1][1]) + 1 == ord(character)):
            ranges[-1][1] = character
        else:
            ranges.append([character, character])
            extends = True
    return "".join(f"\\U{ord(first):08x}-\\U{ord(last):08x}" for first, last in ranges)


EMOJI_CLASS = character_class(EMOJI_CHARACTERS | set(_JOINERS))


def _spell(run: str, treatment: str) -> tuple[str, int]:
    """A run of emoji as text with spaces around each, and the number of emoji."""
    found = emoji.emoji_list(run)
    parts = []
    end = 0
    for item in found:
        parts.append(run[end : item["match_start"]])
        if treatment != "remove":
            sequence = item["emoji"]
            parts.append(emoji.demojize(sequence) if treatment == "alias" else sequence)
        end = item["match_end"]
    parts.append(run[end:])
    # Between two emoji there may be joiners that join nothing (dropped), or half a flag (kept).
    words = [part for part in parts if part.strip(_JOINERS)]
    return f" {' '.join(words)} ", len(found)


_spell_cached = lru_cache(maxsize=1 << 14)(_spell)


def edit_emoji(
    treatment: Literal["keep", "space", "alias", "remove"],
    text: str,
    present: set[str],
    counts: Counter[str],
) -> str:
    """Every emoji set off by spaces, spelled out as `:alias:`, or removed (an edit, see edits.py).

    "so👍🏽❤️it is" becomes, with `alias`, "so :thumbs_up_medium_skin_tone: :red_heart: it is".
    """
    found = present & EMOJI_CHARACTERS
    if not found and "\u20e3" not in present:
        return text
    member = character_class(found | (present & set(_JOINERS)), present)
    first = character_class(found, present)
    # The search is several times as fast for a pattern that begins with a character class.
    pattern = rf"[{first}][{member}]*+"
    if "\u20e3" in present:
        keycap = "[0-9#*]\ufe0f?\u20e3"
        pattern = rf"(?:{pattern}|{keycap})++" if found else f"(?:{keycap})++"

    def spell(match: re.Match[str]) -> str:
        run = match[0]
        spell_run = _spell_cached if len(run) <= _CACHED_LENGTH else _spell
        spelled, number = spell_run(run, treatment)
        counts["emoji"] += number
        return spelled

    present.add(" ")
    if treatment == "alias":
        present |= _ALIAS_CHARACTERS  # some do not occur, which does no harm
    return re.sub(pattern, spell, text)
