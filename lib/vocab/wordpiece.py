"""WordPiece segmentation of single words: greedy, longest piece first (Wu et al., 2016)."""

from collections.abc import Iterable, Mapping

CONTINUATION = "##"


class WordPiece:
    """The pieces of a vocabulary by where they may stand: at a word's start, or within one."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        """
        Args:
            ids: piece -> its id; pieces that continue a word begin with `##`.
        """
        self._initial: dict[str, int] = dict(ids)
        self._continuing = {
            piece.removeprefix(CONTINUATION): number
            for piece, number in ids.items()
            if piece.startswith(CONTINUATION)
        }
        # Where to begin the search for the longest piece: no known piece that begins with these
        # two characters is longer.
        self._initial_reach = _longest_by_start(self._initial)
        self._continuing_reach = _longest_by_start(self._continuing)

    def __contains__(self, piece: str) -> bool:
        return piece in self._initial

    def add(self, word: str, number: int) -> None:
        """Makes a whole word a piece."""
        self._initial[word] = number
        self._initial_reach[word[:2]] = max(self._initial_reach.get(word[:2], 0), len(word))

    def remove(self, pieces: Iterable[str]) -> None:
        """Forgets pieces."""
        for piece in pieces:
            del self._initial[piece]
            if piece.startswith(CONTINUATION):
                del self._continuing[piece.removeprefix(CONTINUATION)]

    def first(self, word: str) -> str | None:
        """The longest piece that a word begins with."""
        for end in range(min(len(word), self._initial_reach.get(word[:2], 1)), 0, -1):
            if word[:end] in self._initial:
                return word[:end]
        return None

    def split(
        self, word: str, continuing: bool = False, first_at_most: int | None = None
    ) -> list[int] | None:
        """The ids of a word's pieces, or None if a part of it is no piece.

        Args:
            continuing: take the word for the inner part of another.
            first_at_most: the longest that the first piece may be, in characters.
        """
        known, reach = (
            (self._continuing, self._continuing_reach)
            if continuing
            else (self._initial, self._initial_reach)
        )
        if first_at_most is None:
            number = known.get(word)
            if number is not None:
                return [number]
            first_at_most = len(word)
        ids: list[int] = []
        start = 0
        while start < len(word):
            longest = reach.get(word[start : start + 2], 1)
            end = start + (longest if start else min(longest, first_at_most))
            while (number := known.get(word[start:end])) is None:
                end -= 1
                if end <= start:
                    return None
            ids.append(number)
            start, known, reach = min(end, len(word)), self._continuing, self._continuing_reach
        return ids


def _longest_by_start(pieces: Iterable[str]) -> dict[str, int]:
    """First two characters -> length of the longest of the pieces that begin with them."""
    longest: dict[str, int] = {}
    for piece in pieces:
        start = piece[:2]
        if len(piece) > longest.get(start, 0):
            longest[start] = len(piece)
    return longest
