"""The report's section of the corpus: what was read, dropped and why, split, and cleaned."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from lib.report.markup import (
    Child,
    element,
    facts,
    figures,
    folded,
    number,
    section,
    stack,
    table,
    words,
)
from lib.report.results import Results

_SHOWN_SAMPLES = 4
# preprocess truncates samples to this many characters.
_SAMPLE_LENGTH = 300
# White space; punctuation that is used without it; everything between these.
_WORD = re.compile(r"\s+|[。．！？、，；：…]|[^\s。．！？、，；：…]+")
_PARTS = ("train", "dev", "test")
# Counts of preprocess by reason why something was dropped, in the order of the steps.
_DROPPED = {
    "records_without_text": "records without text",
    "headings_left_out": "headings",
    "documents_empty": "documents that are empty after cleaning",
    "documents_duplicate": "exact duplicates",
    "documents_near_duplicate": "near duplicates",
}
_READ = {
    "files": "files",
    "documents_in": "documents read",
    "lines_in": "lines read",
    "characters_in": "characters read",
}
_KEPT = {
    "documents": "documents kept",
    "sentences": "sentences kept",
    "characters": "characters kept",
}


def corpus(results: Results) -> Element:
    """The section of the corpus."""
    text, split = results.metrics("preprocess"), results.metrics("split")
    return section(
        "text",
        "Text",
        _counts(text) if text else results.absence("preprocess"),
        element("h3", "Where the documents went"),
        _flow(text or {}, split or {}),
        _split(split) if split else results.absence("split"),
        element("h3", "Before and after cleaning"),
        _samples(results),
        figures(*results.images("preprocess"), *results.images("split")),
    )


def _counts(text: Mapping[str, Any]) -> Element:
    formats = ", ".join(f"{count:,} {kind}" for kind, count in text.get("formats", {}).items())
    read = [(label, number(text[key])) for key, label in _READ.items() if key in text]
    read += [("formats", formats)] if formats else []
    kept = [(label, number(text[key])) for key, label in _KEPT.items() if key in text]
    shown = {*_READ, *_KEPT, *_DROPPED, "formats", "rejected", "edits"}
    rest = [
        (words(key), number(value, key))
        for key, value in text.items()
        if key not in shown and not isinstance(value, dict | list)
    ]
    dropped = [(words(reason), number(count)) for reason, count in text.get("rejected", {}).items()]
    dropped += [(label, number(text[key])) for key, label in _DROPPED.items() if text.get(key)]
    edits = [(words(edit), number(count)) for edit, count in text.get("edits", {}).items()]
    return element(
        "div",
        element("div", element("h3", "Read"), facts(read)),
        element("div", element("h3", "Kept"), facts(kept + rest)),
        element(
            "div",
            element("h3", "Rejected and dropped, by reason"),
            facts(dropped) if dropped else element("p", "nothing"),
        ),
        element("div", element("h3", "Cleaning edits"), facts(edits)) if edits else None,
        class_="columns",
    )


def _flow(text: Mapping[str, Any], split: Mapping[str, Any]) -> Element | None:
    """A stacked bar of the documents: train, dev, test, and those that were dropped."""
    parts = [(name, split[name]["documents"]) for name in _PARTS if name in split]
    if not parts and "documents" in text:
        parts = [("kept", text["documents"])]
    parts += [
        (f"dropped: {label}", text[key])
        for key, label in _DROPPED.items()
        if key.startswith("documents") and text.get(key)
    ]
    return stack(parts) if parts else None


def _split(split: Mapping[str, Any]) -> Element:
    parts = {part: split[part] for part in _PARTS if part in split}
    overlap = split.get("overlap", {})
    rows: list[list[Child]] = []
    for name, part in parts.items():
        near = overlap.get(name, {})
        rows.append(
            [
                name,
                *(number(part[key]) for key in ("documents", "sentences", "bytes", "shards")),
                f"{near['near_duplicates']:,} ({near['fraction']:.1%})" if near else "–",
            ]
        )
    heading = "documents", "sentences", "bytes", "shards", "with a near duplicate in training text"
    return table((None, *heading), rows)


@dataclass
class _Sample:
    source: str
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def _read_samples(page: str) -> tuple[list[_Sample], list[_Sample]]:
    """Samples and rejections from the page that `lib.text.cleaning.inspection` writes.

    Lines of text begin with `- ` or `+ `, so they cannot be confused with headings of the page.
    """
    samples: list[_Sample] = []
    rejected: list[_Sample] = []
    target = samples
    for line in page.split("\n"):
        if line.startswith("Rejected input"):
            target = rejected
        elif line.startswith("== "):
            target.append(_Sample(line.removeprefix("== ")))
        elif line.startswith("- ") and target:
            target[-1].before.append(line.removeprefix("- "))
        elif line.startswith("+ ") and target:
            target[-1].after.append(line.removeprefix("+ "))
    return samples, rejected


def _samples(results: Results) -> Element:
    page = results.text("preprocess/samples.txt")
    if page is None:
        return results.absence("preprocess")
    samples, rejected = _read_samples(page)
    if not samples and not rejected:
        return element("p", "Cleaning did not change any document.")
    shown = [_compared(sample) for sample in samples]
    inputs = ((element("bdi", each.source), list(_paragraphs(each.before))) for each in rejected)
    return element(
        "div",
        element(
            "p",
            "Beginnings of documents, drawn at random from those that cleaning changed. After "
            "cleaning, every line is a sentence.",
        ),
        shown[:_SHOWN_SAMPLES],
        folded(f"{len(shown) - _SHOWN_SAMPLES} more", shown[_SHOWN_SAMPLES:])
        if shown[_SHOWN_SAMPLES:]
        else None,
        folded("Rejected input", table(("file and reason", "beginning"), inputs))
        if rejected
        else None,
    )


def _paragraphs(lines: list[str]) -> Iterator[Element]:
    return (element("p", line, dir="auto", class_="corpus") for line in lines)


def _compared(sample: _Sample) -> Element:
    """A sample before and after cleaning, side by side, with the changed words marked."""
    before, after = ([*map(_WORD.findall, lines)] for lines in (sample.before, sample.after))
    old, new = (
        [word for line in lines for word in line if not word.isspace()] for lines in (before, after)
    )
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    same = [set[int](), set[int]()]
    ends = [0, 0]
    for start, other, size in matcher.get_matching_blocks():
        same[0].update(range(start, start + size))
        same[1].update(range(other, other + size))
        if size:
            ends = [start + size, other + size]
    if any(len("\n".join(lines)) >= _SAMPLE_LENGTH for lines in (sample.before, sample.after)):
        # Both are truncated: after the last common word, a difference is not a change.
        same[0].update(range(ends[0], len(old)))
        same[1].update(range(ends[1], len(new)))
    return element(
        "article",
        element("h4", element("bdi", sample.source)),
        element("div", _marked(before, same[0], "del"), class_="before"),
        element("div", _marked(after, same[1], "ins"), class_="after"),
        class_="sample",
    )


def _marked(lines: list[list[str]], same: set[int], tag: str) -> Iterator[Element]:
    """Paragraphs in which the words whose indices are not in `same` are marked."""
    count = 0
    for line in lines:
        paragraph: list[Child] = []
        for word in line:
            if word.isspace():
                paragraph.append(word)
            else:
                paragraph.append(word if count in same else element(tag, word))
                count += 1
        yield element("p", *paragraph, dir="auto", class_="corpus")
