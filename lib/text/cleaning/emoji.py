"""Emoji in text: found as whole sequences, then spelled out, set apart or removed.

A sequence may be long: people joined by ZWJ, skin tones, flags of two regional indicators or of
tags, keycaps. What counts as an emoji, and its name, is the `emoji` package's table.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import emoji

# Another table may give other text: the version belongs into the metrics.
EMOJI_VERSION = emoji.__version__

# Characters that only change or join emoji: variation selectors, ZWJ, keycap, tags.
_JOINERS = "\u200d\ufe0e\ufe0f\u20e3" + "".join(map(chr, range(0xE0020, 0xE0080)))
EMOJI_CHARACTERS = frozenset(
    character
    for sequence in emoji.EMOJI_DATA
    for character in sequence
    if not character.isascii() and character not in _JOINERS
)
# What the names of emoji are made of.
ALIAS_CHARACTERS = frozenset().union(*(names["en"] for names in emoji.EMOJI_DATA.values()))
# Longer runs are not worth remembering, and there is no end of them.
_CACHED_LENGTH = 24


def character_class(members: Iterable[str], present: Iterable[str] | None = None) -> str:
    """The inside of a regular expression's character class, as ranges.

    Args:
        present: all characters of the text to search. Others may then fall into the ranges, which
            makes them few: the search tries each range for each character of the text.
    """
    wanted = set(members)
    others = wanted if present is None else wanted.union(present)
    ranges: list[list[str]] = []
    joins = False  # whether the character before is in the last range
    for character in sorted(others):
        if character not in wanted:
            joins = False
        elif joins and (present is not None or ord(ranges[-1][1]) + 1 == ord(character)):
            ranges[-1][1] = character
        else:
            ranges.append([character, character])
            joins = True
    return "".join(f"\\U{ord(first):08x}-\\U{ord(last):08x}" for first, last in ranges)


EMOJI_CLASS = character_class(EMOJI_CHARACTERS | set(_JOINERS))


def _spell(run: str, treatment: str) -> tuple[str, int]:
    """A run of emoji as text with spaces around each, and the number of emoji."""
    found = emoji.emoji_list(run)
    pieces = []
    end = 0
    for item in found:
        pieces.append(run[end : item["match_start"]])
        if treatment != "remove":
            name = item["emoji"]
            pieces.append(emoji.demojize(name) if treatment == "alias" else name)
        end = item["match_end"]
    pieces.append(run[end:])
    # What is left between two emoji are joiners that join nothing, or half a flag.
    words = [piece for piece in pieces if piece.strip(_JOINERS)]
    return f" {' '.join(words)} ", len(found)


_spell_cached = lru_cache(maxsize=1 << 14)(_spell)


def edit_emoji(
    text: str,
    present: set[str],
    treatment: Literal["space", "alias", "remove"],
    counts: Counter[str],
) -> str:
    """Every emoji of a text set apart by spaces, spelled as `:alias:`, or removed.

    Args:
        present: the characters that occur in `text`.
        counts: gets the number of emoji.
    """
    found = present & EMOJI_CHARACTERS
    if not found and "\u20e3" not in present:
        return text
    member = character_class(found | (present & set(_JOINERS)), present)
    first = character_class(found, present)
    # A pattern that begins with a class is searched for several times as quickly.
    pattern = rf"[{first}][{member}]*+"
    if "\u20e3" in present:
        keycap = "[0-9#*]\ufe0f?\u20e3"
        pattern = rf"(?:{pattern}|{keycap})++" if found else f"(?:{keycap})++"

    def spell(match: re.Match[str]) -> str:
        run = match[0]
        known = _spell_cached if len(run) <= _CACHED_LENGTH else _spell
        spelled, number = known(run, treatment)
        counts["emoji"] += number
        return spelled

    return re.sub(pattern, spell, text)
