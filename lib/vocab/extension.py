"""Extension of an existing vocabulary with domain words.

It also records what a trainer needs to initialize the embeddings of the new words.
"""

import hashlib
import heapq
import json
import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.run.errors import UserError
from lib.vocab.settings import MAX_WORD_LENGTH
from lib.vocab.wordpiece import WordPiece
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer

_FILE = "extension.json"
_UNUSED = re.compile(r"\[unused.*\]")
# An unknown word is a single token, [UNK], but one without information: knowing it saves a token.
_UNKNOWN_COST = 2
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class NewToken:
    """A word that was added to a vocabulary.

    Attributes:
        base_ids: ids of the tokens into which the base vocabulary splits the word.
        log_fraction: mean over these tokens of log(count of the word / uses of the token) in the
            sample, at most 0: how much of a token's probability the word takes over.
    """

    id: int
    token: str
    base_ids: tuple[int, ...]
    log_fraction: float


@dataclass(frozen=True)
class Extension:
    """How a vocabulary differs from the base vocabulary that it was made from.

    Attributes:
        base_size: size of the base. A new token has a higher id, or the id of an `[unusedN]` entry.
        base_digest: see `digest`.
        new_tokens: the new words, by id. Empty if the vocabulary is its own base.
    """

    base_size: int
    base_digest: str
    new_tokens: tuple[NewToken, ...]


def no_extension(vocabulary: Sequence[str]) -> Extension:
    """The extension of a vocabulary that is its own base."""
    return Extension(len(vocabulary), digest(vocabulary), ())


def digest(vocabulary: Sequence[str]) -> str:
    """SHA-256 of the tokens, one per line."""
    return hashlib.sha256("".join(f"{token}\n" for token in vocabulary).encode()).hexdigest()


def extend(
    base: WordPieceTokenizer, words: Mapping[str, int], size: int, min_frequency: int
) -> tuple[list[str], Extension]:
    """Adds the words that save the most tokens; every token of the base keeps its id.

    Only whole words are added: a new continuation token would also change how words of general text
    are split, into sequences that the model has never seen.

    If the base splits `covid` into co ##vid, and the sample has {covid: 50, covids: 20}, adding
    `covid` saves 50 + 20 tokens, since covids becomes covid ##s. Both base tokens are used 70
    times, so `log_fraction` is log(50 / 70).

    Args:
        words: counts of the sample's words.
        size: maximum size. `[unusedN]` entries are replaced first, then new entries are appended.
        min_frequency: minimum count of a new word.

    Returns:
        The vocabulary and its extension.

    Raises:
        UserError: `size` is smaller than the base.
    """
    vocabulary = list(base.vocabulary)
    ids = free_ids(vocabulary, size)
    new_tokens = []
    chosen = _select_words(base, words, len(ids), min_frequency)
    uses: Counter[int] = Counter()
    for word, count in words.items():
        for token_id in base.encode_word(word):
            uses[token_id] += count
    for new_id, word in zip(ids, chosen, strict=False):
        base_ids = base.encode_word(word)
        new_tokens.append(new_token(new_id, word, base_ids, words, uses))
        if new_id < len(base.vocabulary):
            vocabulary[new_id] = word
        else:
            vocabulary.append(word)
    return vocabulary, Extension(len(base.vocabulary), digest(base.vocabulary), tuple(new_tokens))


def new_token(
    token_id: int,
    word: str,
    base_ids: Sequence[int],
    words: Mapping[str, int],
    uses: Mapping[int, int],
) -> NewToken:
    """A word as a new token.

    Args:
        base_ids: of the tokens that the base splits it into.
        words, uses: counts of the sample's words, and of the base's tokens in them.
    """
    log_fractions = (math.log(words[word] / uses[base_id]) for base_id in base_ids)
    log_fraction = sum(log_fractions) / len(base_ids)
    # Rounded, because the last digit of a logarithm depends on the machine.
    return NewToken(token_id, word, tuple(base_ids), round(log_fraction, 6))


def free_ids(
    vocabulary: Sequence[str], size: int, unused: Sequence[int] | None = None
) -> list[int]:
    """The ids for new tokens in a vocabulary that may have `size` entries, in order of their use.

    Args:
        unused: ids of entries to replace; by default those of `[unusedN]` tokens.

    Raises:
        UserError: `size` is smaller than the vocabulary.
    """
    if unused is None:
        unused = [token_id for token_id, token in enumerate(vocabulary) if _UNUSED.fullmatch(token)]
    if size < len(vocabulary):
        raise UserError(
            f"vocab.size: {size} is smaller than the vocabulary to extend ({len(vocabulary)} "
            f"entries); set {len(vocabulary)} to use only its {len(unused)} [unusedN] entries, "
            "or more"
        )
    return [*unused, *range(len(vocabulary), size)]


def _select_words(
    base: WordPieceTokenizer, words: Mapping[str, int], max_words: int, min_frequency: int
) -> list[str]:
    """Greedily selects new words: each saves the most tokens, given those selected before it.

    A new word also changes, for better or worse, how longer words that begin with it are split
    (`lockdown` those of `lockdowns`), and they are counted too. Adding a word hardly ever increases
    what another one saves, so a saving computed earlier is an upper bound: only the word at the
    front of the queue is computed again (the lazy greedy algorithm of Minoux, 1978).
    """
    ordered = sorted(word for word in words if len(word) <= MAX_WORD_LENGTH)
    wordpiece = WordPiece({token: token_id for token_id, token in enumerate(base.vocabulary)})
    costs = {word: _cost(wordpiece.split(word)) for word in ordered}

    def beginning_with(word: str) -> list[str]:
        start = bisect_left(ordered, word)
        return ordered[start : bisect_left(ordered, word + _LAST_CHARACTER, start)]

    def cost_with(longer: str, word: str) -> int:
        """The cost of `longer`, which begins with `word`, if `word` were a token."""
        if longer == word:
            return 1
        prefix = wordpiece.longest_prefix(longer)
        if prefix is not None and len(prefix) > len(word):
            return costs[longer]
        rest = wordpiece.split(longer[len(word) :], continuing=True)
        return _UNKNOWN_COST if rest is None else 1 + len(rest)

    def saving(word: str) -> int:
        return sum(
            words[longer] * (costs[longer] - cost_with(longer, word))
            for longer in beginning_with(word)
        )

    queue = [
        (-saving(word), word)
        for word in ordered
        if words[word] >= min_frequency and word not in wordpiece
    ]
    heapq.heapify(queue)
    chosen: list[str] = []
    while queue and len(chosen) < max_words:
        bound, word = heapq.heappop(queue)
        current = saving(word)
        if current <= 0:
            continue
        if -current > bound and queue and (-current, word) > queue[0]:
            heapq.heappush(queue, (-current, word))
            continue
        for longer in beginning_with(word):
            costs[longer] = cost_with(longer, word)
        wordpiece.add(word, len(base.vocabulary))
        chosen.append(word)
    return chosen


def _cost(split: list[int] | None) -> int:
    return _UNKNOWN_COST if split is None else len(split)


def write_extension(directory: Path, extension: Extension) -> None:
    """Writes extension.json, from which a trainer initializes the embeddings of new tokens."""
    text = json.dumps(asdict(extension), ensure_ascii=False, indent=1)
    (directory / _FILE).write_text(text + "\n", encoding="utf-8")


def read_extension(directory: Path) -> Extension:
    """Reads extension.json.

    Raises:
        UserError: it is missing or damaged.
    """
    path = directory / _FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        new_tokens = tuple(
            NewToken(
                int(new["id"]),
                str(new["token"]),
                tuple(map(int, new["base_ids"])),
                float(new["log_fraction"]),
            )
            for new in values["new_tokens"]
        )
        return Extension(int(values["base_size"]), str(values["base_digest"]), new_tokens)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage vocab first") from None
    except (ValueError, KeyError, TypeError) as failure:
        raise UserError(f"{path}: damaged ({failure!r}); run the stage vocab again") from None
