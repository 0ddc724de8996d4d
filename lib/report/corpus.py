"""What was read, what was dropped and why, where the rest went, and how cleaning changed it."""

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
    missing,
    number,
    section,
    stack,
    table,
    words,
)
from lib.report.results import Results

_SHOWN_SAMPLES = 4
# preprocess keeps so many characters of a sample at most.
_CUT = 300
# White space; what ends or parts sentences without it; all between these.
_PIECE = re.compile(r"\s+|[。．！？、，；：…]|[^\s。．！？、，；：…]+")
_PARTS = ("train", "dev", "test")
# Counts of preprocess that are documents or other units left out, in the order of the work.
_DROPPED = {
    "records_without_text": "records without text",
    "headings_left_out": "headings",
    "documents_empty": "documents empty after cleaning",
    "documents_duplicate": "documents equal to another",
    "documents_near_duplicate": "documents similar to another",
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
    """The section of the text."""
    text, split = results.metrics("preprocess"), results.metrics("split")
    return section(
        "text",
        "Text",
        _counts(text) if text else missing("preprocess"),
        element("h3", "Where the documents went"),
        _flow(text or {}, split or {}),
        _split(split) if split else missing("split"),
        element("h3", "Before and after cleaning"),
        _samples(results.text("preprocess/samples.txt")),
        figures(*results.images("preprocess"), *results.images("split")),
    )


def _counts(text: Mapping[str, Any]) -> Element:
    formats = ", ".join(f"{count:,} {kind}" for kind, count in text.get("formats", {}).items())
    read = [(label, number(text[key])) for key, label in _READ.items() if key in text]
    read += [("their formats", formats)] if formats else []
    kept = [(label, number(text[key])) for key, label in _KEPT.items() if key in text]
    told = {*_READ, *_KEPT, *_DROPPED, "formats", "rejected", "edits"}
    rest = [
        (words(key), number(value, key))
        for key, value in text.items()
        if key not in told and not isinstance(value, dict | list)
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
            element("h3", "Left out, by reason"),
            facts(dropped) if dropped else element("p", "nothing"),
        ),
        element("div", element("h3", "Edits of cleaning"), facts(edits)) if edits else None,
        class_="columns",
    )


def _flow(text: Mapping[str, Any], split: Mapping[str, Any]) -> Element | None:
    """Documents as parts of one bar: those of training, of tests, and those left out."""
    parts = [(name, split[name]["documents"]) for name in _PARTS if name in split]
    if not parts and "documents" in text:
        parts = [("kept", text["documents"])]
    parts += [
        (f"left out: {label}", text[key])
        for key, label in _DROPPED.items()
        if key.startswith("documents") and text.get(key)
    ]
    return stack(parts) if parts else None


def _split(split: Mapping[str, Any]) -> Element:
    parts = {part: split[part] for part in _PARTS if part in split}
    overlap = split.get("overlap", {})
    rows: list[list[Child]] = []
    for name, part in parts.items():
        twins = overlap.get(name, {})
        rows.append(
            [
                name,
                *(number(part[key]) for key in ("documents", "sentences", "bytes", "shards")),
                f"{twins['near_duplicates']:,} ({twins['fraction']:.1%})" if twins else "–",
            ]
        )
    heading = "documents", "sentences", "bytes", "shards", "with a near twin in training text"
    return table((None, *heading), rows)


@dataclass
class _Sample:
    source: str
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def _read_samples(page: str) -> tuple[list[_Sample], list[_Sample]]:
    """Samples and rejections of the page that `lib.text.cleaning.inspection` writes.

    Lines of text begin with `- ` or `+ `, so none can be taken for one of the page's own.
    """
    samples: list[_Sample] = []
    rejected: list[_Sample] = []
    into = samples
    for line in page.split("\n"):
        if line.startswith("Rejected input"):
            into = rejected
        elif line.startswith("== "):
            into.append(_Sample(line.removeprefix("== ")))
        elif line.startswith("- ") and into:
            into[-1].before.append(line.removeprefix("- "))
        elif line.startswith("+ ") and into:
            into[-1].after.append(line.removeprefix("+ "))
    return samples, rejected


def _samples(page: str | None) -> Element:
    if page is None:
        return missing("preprocess")
    samples, rejected = _read_samples(page)
    if not samples and not rejected:
        return element("p", "Cleaning changed no document.")
    shown = [_compared(sample) for sample in samples]
    left_out = ((element("bdi", each.source), list(_paragraphs(each.before))) for each in rejected)
    return element(
        "div",
        element(
            "p",
            "Documents drawn at random from those that changed, their beginnings; one sentence a "
            "line afterwards.",
        ),
        shown[:_SHOWN_SAMPLES],
        folded(f"{len(shown) - _SHOWN_SAMPLES} more", shown[_SHOWN_SAMPLES:])
        if shown[_SHOWN_SAMPLES:]
        else None,
        folded("Rejected input", table(("where and why", "its beginning"), left_out))
        if rejected
        else None,
    )


def _paragraphs(lines: list[str]) -> Iterator[Element]:
    return (element("p", line, dir="auto", class_="corpus") for line in lines)


def _compared(sample: _Sample) -> Element:
    """Both forms beside each other, what differs marked word by word."""
    before, after = ([*map(_PIECE.findall, lines)] for lines in (sample.before, sample.after))
    old, new = (
        [piece for line in lines for piece in line if not piece.isspace()]
        for lines in (before, after)
    )
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    same = [set[int](), set[int]()]
    ends = [0, 0]
    for start, other, size in matcher.get_matching_blocks():
        same[0].update(range(start, start + size))
        same[1].update(range(other, other + size))
        if size:
            ends = [start + size, other + size]
    if any(len("\n".join(lines)) >= _CUT for lines in (sample.before, sample.after)):
        # Beyond the last word that both have, one is cut earlier than the other: no change.
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
    """Paragraphs in which the words whose numbers are not in `same` are marked."""
    count = 0
    for line in lines:
        paragraph: list[Child] = []
        for piece in line:
            if piece.isspace():
                paragraph.append(piece)
            else:
                paragraph.append(piece if count in same else element(tag, piece))
                count += 1
        yield element("p", *paragraph, dir="auto", class_="corpus")
