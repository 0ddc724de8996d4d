"""Packing: assigns examples to sequences, by bin packing on the histogram of their lengths.

There are only `max_seq_length` different lengths. So a packed sequence is described by a *pattern*
of lengths, and a pattern that has been found once is used for as long as there are examples of its
lengths (the idea of Krell et al., 2021, "Efficient Sequence Packing without
Cross-contamination"). Patterns are found by minimum bin slack (Gupta and Ho, 1999, "A new
heuristic algorithm for the one-dimensional bin-packing problem"): start with the longest length
and fill the rest of the sequence exactly if possible. The usual best-fit decreasing stops at
98.7 % on tweets, because it leaves gaps for which no example is short enough; this reaches 99.8 %,
in a millisecond for some 20,000 examples.

Eight examples of these lengths, max_seq_length 10, at most three examples per sequence:

    example  0  1  2  3  4  5  6  7
    length   6  6  4  4  4  3  3  2

    histogram left             pattern    used   packs
    6: 2, 4: 3, 3: 2, 2: 1     6 + 4      twice  [0, 2, -1], [1, 3, -1]
    4: 1, 3: 2, 2: 1           4 + 3 + 3  once   [4, 5, 6]
    2: 1                       2          once   [7, -1, -1]
"""

import numpy as np

_MAX_SEARCHED = 3  # lengths that are searched together to fill a gap exactly


def pack(lengths: np.ndarray, max_seq_length: int, max_examples: int) -> np.ndarray:
    """Distributes examples over packed sequences; every example is in exactly one.

    Args:
        lengths: int64 [N]: tokens per example, 1 to `max_seq_length`.
        max_seq_length: tokens per sequence.
        max_examples: K, the maximum number of examples per sequence.

    Returns:
        int64 [packed sequences, K]: the examples of each sequence, then -1. Sequences of the same
        pattern follow each other; examples of equal length keep their order.
    """
    counts = np.bincount(lengths, minlength=max_seq_length + 1)
    by_length = np.argsort(lengths, kind="stable")
    following = np.cumsum(counts) - counts  # for each length, its next example in by_length
    remaining = _Remaining(counts.tolist(), max_seq_length)
    packs = [np.zeros((0, max_examples), dtype=np.int64)]
    while remaining.lengths:
        pattern = _find_pattern(remaining, max_seq_length, max_examples)
        repeats = 1 + min(remaining.counts[length] // pattern.count(length) for length in pattern)
        repeated = np.full((repeats, max_examples), -1, dtype=np.int64)
        for slot, length in enumerate(pattern):
            first = following[length]
            repeated[:, slot] = by_length[first : first + repeats]
            following[length] += repeats
            remaining.remove(length, repeats - 1)
        packs.append(repeated)
    return np.concatenate(packs)


class _Remaining:
    """The histogram of the lengths of examples that are not packed yet.

    Sets of lengths are the bits of an integer, so that a search among all of them is one operation.

    Attributes:
        counts: number of examples of each length.
        lengths: bit n is set if there is an example of length n.
    """

    def __init__(self, counts: list[int], max_seq_length: int) -> None:
        self.counts = counts
        self.max_seq_length = max_seq_length
        self.lengths = sum(1 << length for length, count in enumerate(counts) if count)
        # The same set mirrored: bit `max_seq_length - n`.
        self._mirrored = sum(
            1 << max_seq_length - length for length, count in enumerate(counts) if count
        )

    def remove(self, length: int, number: int = 1) -> None:
        """Removes `number` examples of a length; a negative number puts them back."""
        self.counts[length] -= number
        if bool(self.counts[length]) != bool(self.lengths >> length & 1):
            self.lengths ^= 1 << length
            self._mirrored ^= 1 << self.max_seq_length - length

    def longest(self, limit: int) -> int:
        """The greatest length up to `limit`, or 0."""
        return max((self.lengths & (2 << limit) - 1).bit_length() - 1, 0)

    def fill(self, gap: int, max_examples: int) -> list[int]:
        """One to `max_examples` (at most three) lengths whose sum is exactly `gap`, or []."""
        if self.lengths >> gap & 1:
            return [gap]
        if max_examples >= 2 and (found := self._pair(gap)):
            return found
        if max_examples >= 3:
            length = self.longest(max(gap - 2, 0))
            while 3 * length >= gap:  # the longest of three is at least a third of the gap
                self.remove(length)
                found = self._pair(gap - length)
                self.remove(length, -1)
                if found:
                    return [length, *found]
                length = self.longest(length - 1)
        return []

    def _pair(self, gap: int) -> list[int]:
        """Two lengths whose sum is `gap`, or [].

        Of several pairs, the one with the smallest difference, so that extreme lengths last longer.
        """
        # Bit n of the shifted mirror is set if there is an example of length gap - n.
        both = self.lengths & self._mirrored >> self.max_seq_length - gap
        half = gap // 2
        if gap % 2 == 0 and both >> half & 1 and self.counts[half] < 2:
            both ^= 1 << half
        longer = (gap + 1) // 2
        upper = both >> longer
        if not upper:
            return []
        longer += (upper & -upper).bit_length() - 1
        return [longer, gap - longer]


def _find_pattern(remaining: _Remaining, max_seq_length: int, max_examples: int) -> list[int]:
    """The lengths of one packed sequence: the longest, and those that fill the rest best.

    They are removed from `remaining`.
    """
    pattern: list[int] = []
    gap = max_seq_length
    while len(pattern) < max_examples and (longest := remaining.longest(gap)):
        searched = min(max_examples - len(pattern), _MAX_SEARCHED)
        if not pattern or (longest * searched < gap and max_examples - len(pattern) > searched):
            found = [longest]  # the gap cannot be filled yet, and there are slots to spare
        else:
            # The largest fillable part of the gap; at the latest, `longest` fills its own length.
            parts = range(min(gap, longest * searched), 0, -1)
            found = next(filter(None, (remaining.fill(part, searched) for part in parts)))
        for length in found:
            remaining.remove(length)
        pattern += found
        gap -= sum(found)
    return pattern
