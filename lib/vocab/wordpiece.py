"""WordPiece segmentation of single words: greedy, longest token first (Wu et al., 2016).

With the vocabulary un, aff, ##a, ##aff, ##able, ##e, ##n:

    unaffable  ->  un ##aff ##able
    unable     ->  un ##able
    affe       ->  aff ##e
    unaffx     ->  no split, hence [UNK]: no token continues with x, and there is no backtracking
"""

from collections.abc import Iterable, Mapping

CONTINUATION = "##"


class WordPiece:
    """The tokens of a vocabulary, indexed for matching at the start of a word or inside it."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._initial: dict[str, int] = dict(ids)
        self._continuing = {
            token.removeprefix(CONTINUATION): token_id
            for token, token_id in ids.items()
            if token.startswith(CONTINUATION)
        }
        # Where the search for the longest token starts: the length of the longest known token with
        # the same first two characters. In the example above, `un` -> 2 and `##ab` -> 4.
        self._initial_max_length = _max_length_by_start(self._initial)
        self._continuing_max_length = _max_length_by_start(self._continuing)

    def __contains__(self, token: str) -> bool:
        return token in self._initial

    def add(self, word: str, token_id: int) -> None:
        """Adds a whole word as a token."""
        self._initial[word] = token_id
        start = word[:2]
        self._initial_max_length[start] = max(self._initial_max_length.get(start, 0), len(word))

    def remove(self, tokens: Iterable[str]) -> None:
        """Removes tokens."""
        for token in tokens:
            del self._initial[token]
            if token.startswith(CONTINUATION):
                del self._continuing[token.removeprefix(CONTINUATION)]

    def longest_prefix(self, word: str) -> str | None:
        """The longest token that the word begins with."""
        for end in range(min(len(word), self._initial_max_length.get(word[:2], 1)), 0, -1):
            if word[:end] in self._initial:
                return word[:end]
        return None

    def split(
        self, word: str, continuing: bool = False, max_first_length: int | None = None
    ) -> list[int] | None:
        """The ids of a word's tokens, or None if some part of it matches no token.

        Args:
            continuing: treat `word` as the continuation of a longer word.
            max_first_length: maximum length of the first token, in characters.
        """
        known, max_length = (
            (self._continuing, self._continuing_max_length)
            if continuing
            else (self._initial, self._initial_max_length)
        )
        if max_first_length is None:
            token_id = known.get(word)
            if token_id is not None:
                return [token_id]
            max_first_length = len(word)
        ids: list[int] = []
        start = 0
        while start < len(word):
            longest = max_length.get(word[start : start + 2], 1)
            end = start + (longest if start else min(longest, max_first_length))
            while (token_id := known.get(word[start:end])) is None:
                end -= 1
                if end <= start:
                    return None
            ids.append(token_id)
            start = min(end, len(word))
            known, max_length = self._continuing, self._continuing_max_length
        return ids


def _max_length_by_start(tokens: Iterable[str]) -> dict[str, int]:
    """First two characters -> length of the longest token that begins with them."""
    longest: dict[str, int] = {}
    for token in tokens:
        start = token[:2]
        if len(token) > longest.get(start, 0):
            longest[start] = len(token)
    return longest
