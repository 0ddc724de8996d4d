"""Shingles and Jaccard similarity in plain Python, as the reference for lib.text.dedup."""

import re


def word_runs(text: str) -> set:
    """Shingles of text of ASCII letters, digits, white space and punctuation."""
    words = re.findall("[a-z0-9]+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))} if words else {text}


def jaccard(one: set, other: set) -> float:
    return len(one & other) / len(one | other)
