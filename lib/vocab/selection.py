"""Selection of the tokens that save the most when WordPiece splits the words of the sample.

SentencePiece ranks tokens by its own way of splitting words. WordPiece always takes the longest
token from the left. Many of SentencePiece's tokens (the first half of a frequent word, say) are
then hardly ever used and take the place of more useful ones. Therefore more tokens are trained than
needed, all words are split with all of them, and the least useful tokens are dropped: in several
rounds, because every round changes how words are split.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from lib.vocab.wordpiece import CONTINUATION, WordPiece

# Candidates trained per entry of the vocabulary. With more, a small text's rare words displace
# tokens that are useful in other text.
CANDIDATE_RATIO = 1.3
_DROP_FRACTION = 0.1


def select_tokens(
    candidates: Sequence[str], alphabet: Sequence[str], words: Mapping[str, int], size: int
) -> list[str]:
    """The `size` candidates that save the most tokens, in their original order.

    A token is worth, per use, the number of tokens its text would take without it, minus one. With
    the alphabet a, b, c, ##a, ##b, ##c and the words {abc: 10, abca: 1}:

        candidate   uses   without it      saves
        ab             0   a ##b           0        dropped first: abc and abca always win
        abca           1   abc ##a         1
        abc           10   ab ##c         10        (20 once ab is gone: a ##b ##c)

    Args:
        candidates: best first; among equally useful ones the later are dropped.
        alphabet: the closed alphabet, which the vocabulary contains in any case.
        words: word -> count; every word can be spelt with the alphabet.
    """
    tokens = [*alphabet, *candidates]
    wordpiece = WordPiece({token: token_id for token_id, token in enumerate(tokens)})
    kept = np.arange(len(alphabet), len(tokens))
    order = list(words)
    counts = np.fromiter(words.values(), np.int64, len(words))
    splits = [wordpiece.split(word) or [] for word in order]
    while len(kept) > size:
        # int64 [words]; int64 [tokens of all words, one after the other]; float64 [tokens]
        lengths = np.fromiter(map(len, splits), np.int64, len(splits))
        used = np.fromiter(chain.from_iterable(splits), np.int64, int(lengths.sum()))
        uses = np.bincount(used, np.repeat(counts, lengths), len(tokens))
        saved = uses[kept] * [_saved_per_use(tokens[token_id], wordpiece) for token_id in kept]
        new_size = max(size, int(len(kept) * (1 - _DROP_FRACTION)))
        ranking = np.argsort(-saved, kind="stable")
        dropped = np.zeros(len(tokens), bool)
        dropped[kept[ranking[new_size:]]] = True
        kept = np.sort(kept[ranking[:new_size]])
        wordpiece.remove(tokens[token_id] for token_id in np.flatnonzero(dropped))
        # Only words that used a dropped token have to be split again.
        changed = np.zeros(len(order), bool)
        changed[np.repeat(np.arange(len(order)), lengths)[dropped[used]]] = True
        for index in np.flatnonzero(changed):
            splits[index] = wordpiece.split(order[index]) or []
    return [tokens[token_id] for token_id in kept]


def _saved_per_use(token: str, wordpiece: WordPiece) -> int:
    """The number of tokens that the token's text takes without it, minus one."""
    continuing = token.startswith(CONTINUATION)
    text = token.removeprefix(CONTINUATION)
    split = wordpiece.split(text, continuing, max_first_length=len(text) - 1)
    return (len(text) if split is None else len(split)) - 1
