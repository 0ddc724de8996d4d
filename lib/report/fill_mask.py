"""The report's section of fill-mask examples: sentences with one masked word, and predictions."""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from lib.report.markup import bar, element, folded, section
from lib.report.results import Results

_BLANK = "____"
_SHOWN = 8


def fill_mask(results: Results) -> Element:
    """The section of fill-mask examples."""
    name, title = "fill-mask", "Fill-mask examples"
    examples = results.fill_mask()
    if examples is None:
        return section(name, title, results.absence("evaluate"))
    shown = element("ul", map(_example, examples[:_SHOWN]), class_="examples")
    more = element("ul", map(_example, examples[_SHOWN:]), class_="examples")
    none = element("p", "No test sentence had a suitable word.", class_="missing")
    return section(
        name,
        title,
        element("p", "Test sentences with one word masked, and the model's predictions for it."),
        shown if examples else none,
        folded(f"{len(examples) - _SHOWN} more", more) if examples[_SHOWN:] else None,
    )


def _example(example: Mapping[str, Any]) -> Element:
    masked = str(example.get("word", ""))
    before, blank, after = str(example.get("sentence", "")).partition(_BLANK)
    word = element("mark", element("bdi", masked), title="masked")
    rows = []
    for guess, probability in zip(
        example.get("guesses") or [], example.get("probabilities") or [], strict=False
    ):
        correct = guess == masked
        rows.append(
            element(
                "tr",
                element("td", element("bdi", str(guess)), class_="correct" if correct else None),
                element("td", bar(probability, "" if correct else "baseline")),
                element("td", f"{probability:.1%}"),
            )
        )
    unigram = example.get("unigram_guess")
    return element(
        "li",
        element("p", before, word if blank else None, after, dir="auto", class_="corpus"),
        element("table", element("tbody", rows), class_="guesses"),
        element("small", "unigram baseline: ", element("bdi", str(unigram))) if unigram else None,
    )
