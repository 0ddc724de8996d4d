"""Tokens of the words of a line, such that every masked word has tokens of its own.

WordPiece splits each word by itself. Tokens of other vocabularies may have parts of several words.
Then the line is cut around a masked word that shares a token with another one, and its parts are
tokenized separately. For the masked word "(" in

    text     he left (early)
    tokens   Ġhe | Ġleft | Ġ( | early | )        a token of its own: nothing to do
    tokens   Ġhe | Ġleft | Ġ(early | )           cut: Ġhe Ġleft | Ġ( | early )

Thus the same words are masked for every vocabulary, and elsewhere the model sees the tokens that it
was trained on.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from lib.vocab.library_tokenizer import LibraryTokenizer


def word_tokens(
    tokenizer: LibraryTokenizer, line: str, words: Sequence[str], masked: Sequence[bool]
) -> list[list[int]]:
    """The ids of each word; those of a token with several words belong to the first of them.

    Args:
        words: of the line, in order; each is part of it, but for characters that were left out.
        masked: whether each word is masked.
    """
    if not words:
        return []
    bounds = _positions(line, words)
    tokens, shared = _assign(tokenizer, line, bounds, masked, continued=False)
    if not shared:
        return tokens
    # Pieces of the line: (first character, number of words), each of its own.
    cuts = sorted({0, *(n for word in shared for n in (word, word + 1)), len(words)})
    found: list[list[int]] = []
    for first, stop in pairwise(cuts):
        # A piece has the spaces before its first word.
        start = bounds[first - 1][1] if first else 0
        end = bounds[stop - 1][1] if stop < len(words) else len(line)
        own = [(a - start, b - start) for a, b in bounds[first:stop]]
        inside = [False] * len(own)
        found += _assign(tokenizer, line[start:end], own, inside, continued=first > 0)[0]
    return found


def _positions(line: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """The characters (start, end) of the line that each word stands for."""
    bounds = []
    position = 0
    for word in words:
        start = line.find(word, position)
        if start >= 0 and not line[position:start].strip():
            position = start + len(word)
        else:
            # Characters within the word were left out: find its own, one after the other.
            start = line.index(word[0], position)
            position = start
            for character in word:
                position = line.index(character, position) + 1
        bounds.append((start, position))
    return bounds


def _assign(
    tokenizer: LibraryTokenizer,
    text: str,
    bounds: Sequence[tuple[int, int]],
    masked: Sequence[bool],
    continued: bool,
) -> tuple[list[list[int]], list[int]]:
    """The ids of each word, and which masked words share a token with other words."""
    ids, offsets = tokenizer.encode_with_offsets(text, continued)
    starts = [start for start, _ in bounds]
    tokens: list[list[int]] = [[] for _ in bounds]
    ends = [0] * len(bounds)  # of the last token of each word
    word = 0
    for number, (start, end) in zip(ids, offsets, strict=True):
        first = start
        while first < end and text[first].isspace():
            first += 1
        # Only spaces belong to the word after them.
        after = bisect_right(starts, end - 1) if first == end > start else None
        own = bisect_right(starts, first) - 1 if after is None else min(after, len(bounds) - 1)
        # Characters that are part of no word never go back to the word before.
        word = max(word, own)
        tokens[word].append(number)
        ends[word] = max(ends[word], end)
    shared = []
    end_before = 0
    for index, (start, end) in enumerate(bounds):
        after = starts[index + 1] if index + 1 < len(starts) else len(text)
        if masked[index] and (end_before > start or ends[index] > max(after, end)):
            shared.append(index)
        end_before = max(end_before, ends[index])
    return tokens, shared
