"""The report's section of the corpus: what was read, dropped and why, split, and cleaned."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib.report.results import Results

# preprocess truncates samples to this many characters.
_SAMPLE_LENGTH = 300
# White space; punctuation that is used without it; everything between these.
_WORD = re.compile(r"\s+|[。．！？、，；：…]|[^\s。．！？、，；：…]+")
_PARTS = ("train", "dev", "test")
# Counts of preprocess by reason why something was dropped, in the order of the steps.
DROPPED = {
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

# A paragraph: its words and what is between them, each with whether cleaning changed it.
Marked = list[tuple[str, bool]]


def corpus(results: Results) -> dict[str, Any]:
    """Counts, the way of the documents, samples of cleaning and rejections."""
    text, split = results.metrics("preprocess"), results.metrics("split")
    page = results.text("preprocess/samples.txt")
    samples, rejected = _read_samples(page or "")
    return {
        "text": text,
        "counts": _counts(text or {}),
        "flow": _flow(text or {}, split or {}),
        "split": split,
        "parts": {part: split[part] for part in _PARTS if part in split} if split else {},
        "has_samples": page is not None,
        "samples": [(each.source, *_compared(each)) for each in samples],
        "rejected": rejected,
    }


def _counts(text: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Counts by name, in columns with titles."""

    def chosen(labels: Mapping[str, str]) -> dict[str, Any]:
        return {label: text[key] for key, label in labels.items() if key in text}

    shown = {*_READ, *_KEPT, *DROPPED}
    formats = ", ".join(f"{count:,} {name}" for name, count in text.get("formats", {}).items())
    return {
        "Read": chosen(_READ) | ({"formats": formats} if formats else {}),
        "Kept": chosen(_KEPT)
        | {
            key: value
            for key, value in text.items()
            if key not in shown and not isinstance(value, dict | list)
        },
        "Rejected and dropped, by reason": {
            **text.get("rejected", {}),
            **{label: count for label, count in chosen(DROPPED).items() if count},
        },
        "Cleaning edits": text.get("edits", {}),
    }


def _flow(text: Mapping[str, Any], split: Mapping[str, Any]) -> dict[str, int]:
    """The number of documents in train, dev and test, and of those that were dropped."""
    parts = {name: split[name]["documents"] for name in _PARTS if name in split}
    if not parts and "documents" in text:
        parts = {"kept": text["documents"]}
    dropped = {
        f"dropped: {label}": text[key]
        for key, label in DROPPED.items()
        if key.startswith("documents") and text.get(key)
    }
    return parts | dropped


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


def _compared(sample: _Sample) -> tuple[list[Marked], list[Marked]]:
    """The paragraphs of a sample before and after cleaning, with the changed words marked."""
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
    return _marked(before, same[0]), _marked(after, same[1])


def _marked(lines: list[list[str]], same: set[int]) -> list[Marked]:
    """Lines of words in which those whose indices are not in `same` are marked."""
    indices = iter(range(sum(map(len, lines))))
    return [
        [(word, not word.isspace() and next(indices) not in same) for word in line]
        for line in lines
    ]
