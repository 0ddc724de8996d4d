"""Sentences with one word hidden, and what the model put there."""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from lib.report.markup import bar, element, folded, missing, section
from lib.report.results import Results

_BLANK = "____"
_SHOWN = 8


def holes(results: Results) -> Element:
    """The section of filled holes."""
    name, title = "holes", "Filled holes"
    found = results.holes()
    if found is None:
        return section(name, title, missing("evaluate"))
    shown = element("ul", map(_hole, found[:_SHOWN]), class_="holes")
    more = element("ul", map(_hole, found[_SHOWN:]), class_="holes")
    return section(
        name,
        title,
        element("p", "Words of test sentences, hidden from the model, and its guesses for them."),
        shown if found else element("p", "No test sentence had a fitting word.", class_="missing"),
        folded(f"{len(found) - _SHOWN} more", more) if found[_SHOWN:] else None,
    )


def _hole(hole: Mapping[str, Any]) -> Element:
    hidden = str(hole.get("word", ""))
    before, blank, after = str(hole.get("sentence", "")).partition(_BLANK)
    word = element("mark", element("bdi", hidden), title="hidden from the model")
    guesses = []
    chances = zip(hole.get("guesses") or [], hole.get("probabilities") or [], strict=False)
    for guess, probability in chances:
        right = guess == hidden
        guesses.append(
            element(
                "tr",
                element("td", element("bdi", str(guess)), class_="right" if right else None),
                element("td", bar(probability, "" if right else "baseline")),
                element("td", f"{probability:.1%}"),
            )
        )
    by_frequency = hole.get("unigram_guess")
    return element(
        "li",
        element("p", before, word if blank else None, after, dir="auto", class_="corpus"),
        element("table", element("tbody", guesses), class_="guesses"),
        element("small", "by frequency alone: ", element("bdi", str(by_frequency)))
        if by_frequency
        else None,
    )
