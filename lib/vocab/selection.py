"""Which pieces a vocabulary keeps: those that save most tokens when WordPiece really splits words.

SentencePiece ranks pieces by how it would split a word itself. WordPiece takes the longest piece
from the left, so that many of them (the first half of a frequent word, say) are hardly ever used,
and take the room of others that would be. So more pieces are trained than there is room for, all
words are split with all of them, and the least useful go, in several rounds because what goes
changes how words are split.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from lib.vocab.wordpiece import CONTINUATION, WordPiece

# Pieces trained for each that is kept. With more, a small text's rare words win places that
# other text has no use for.
SURPLUS = 1.3
_DROPPED_AT_ONCE = 0.1


def most_useful(
    pieces: Sequence[str], letters: Sequence[str], words: Mapping[str, int], room: int
) -> list[str]:
    """The `room` pieces that save the most tokens, in their order.

    A piece saves, each time it is used, the tokens that its text takes without it, less one.

    Args:
        pieces: candidates, best first; equally useful ones stay in this order.
        letters: the closed alphabet, which is in the vocabulary anyhow.
        words: word -> count, all of these letters.
    """
    rows = [*letters, *pieces]
    wordpiece = WordPiece({piece: number for number, piece in enumerate(rows)})
    kept = np.arange(len(letters), len(rows))
    order = list(words)
    counts = np.fromiter(words.values(), np.int64, len(words))
    splits = [wordpiece.split(word) or [] for word in order]
    while len(kept) > room:
        lengths = np.fromiter(map(len, splits), np.int64, len(splits))
        used = np.fromiter(chain.from_iterable(splits), np.int64, int(lengths.sum()))
        uses = np.bincount(used, np.repeat(counts, lengths), len(rows))
        saved = uses[kept] * [_saved(rows[number], wordpiece) for number in kept]
        left = max(room, int(len(kept) * (1 - _DROPPED_AT_ONCE)))
        ranking = np.argsort(-saved, kind="stable")
        dropped = np.zeros(len(rows), bool)
        dropped[kept[ranking[left:]]] = True
        kept = np.sort(kept[ranking[:left]])
        wordpiece.remove(rows[number] for number in np.flatnonzero(dropped))
        changed = np.zeros(len(order), bool)
        changed[np.repeat(np.arange(len(order)), lengths)[dropped[used]]] = True
        for place in np.flatnonzero(changed):
            splits[place] = wordpiece.split(order[place]) or []
    return [rows[number] for number in kept]


def _saved(piece: str, wordpiece: WordPiece) -> int:
    """Tokens that the piece's text takes without it, less one."""
    continuing = piece.startswith(CONTINUATION)
    text = piece.removeprefix(CONTINUATION)
    split = wordpiece.split(text, continuing, first_at_most=len(text) - 1)
    return (len(text) if split is None else len(split)) - 1
