"""Which tokens make an example: the sentence pairs of Google's BERT, without touching a token.

The algorithm is `create_instances_from_document` of google-research/bert (Devlin et al., 2019),
equal in distribution, but over offsets: an example is five numbers, two ranges of token positions
and whether the second is a random one.

What makes it fast: Google's loop takes a *chunk* of sentences from sentence s on, splits it in A
and B, and goes on from some later sentence (B's first when B was replaced by a random text and
its sentences were put back). Where it goes on depends on s and on fresh draws only. So the draws
and chunk ends are made for every sentence at once, as if the loop came by, and the examples are
those of the sentences that it does come by: a walk along `following`, one list lookup each.
Sentences are passed at most once and never backwards, so the walk ends.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lib.records.tokens import Tokens

PAIR_SPECIAL_TOKENS = 3  # [CLS] A [SEP] B [SEP]
SINGLE_SPECIAL_TOKENS = 2  # [CLS] A [SEP]


@dataclass(frozen=True)
class Examples:
    """Examples as ranges of token positions, after truncation; n examples.

    Attributes:
        a_start, a_length: int32 [n]: segment A is ids[a_start:a_start + a_length].
        b_start, b_length: int32 [n]: segment B; b_length is 0 where there is no B.
        is_random: bool [n]: B comes from another document.
        dropped_segments: sentences too short to be an example where no other document exists.
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray
    dropped_segments: int = 0

    def __len__(self) -> int:
        return len(self.a_start)

    @classmethod
    def empty(cls) -> Self:
        nothing = np.zeros(0, dtype=np.int32)
        return cls(nothing, nothing, nothing, nothing, nothing.astype(bool))

    @classmethod
    def concatenate(cls, passes: Sequence["Examples"]) -> Self:
        return cls(
            np.concatenate([one.a_start for one in passes]),
            np.concatenate([one.a_length for one in passes]),
            np.concatenate([one.b_start for one in passes]),
            np.concatenate([one.b_length for one in passes]),
            np.concatenate([one.is_random for one in passes]),
            sum(one.dropped_segments for one in passes),
        )


def make_pairs(
    tokens: Tokens,
    max_seq_length: int,
    short_seq_prob: float,
    random_next_prob: float,
    generator: np.random.Generator,
) -> Examples:
    """Sentence pairs of one pass over a shard, in the order of the text.

    Args:
        max_seq_length: tokens of a row, the three special ones included; at least 5.
        short_seq_prob: share of documents that get a shorter target length, so that the model
            also sees short inputs.
        random_next_prob: share of chunks whose B is replaced by text of another document
            (Google: 0.5). A chunk of one sentence has no B of its own and always gets such a
            text, so the share of random pairs is larger than this.

    A shard with a single document has no other text to take: every pair is a true next there, a
    chunk of one sentence is cut in two at a random token, and one of one token is dropped and
    counted.
    """
    if tokens.sentences == 0:
        return Examples.empty()
    room = max_seq_length - PAIR_SPECIAL_TOKENS
    offsets, document_offsets = tokens.sentence_offsets, tokens.document_offsets
    targets = _target_lengths(tokens.documents, room, short_seq_prob, generator)

    # For each sentence: were a chunk to start here, where would it end and what would it become?
    document = np.repeat(np.arange(tokens.documents), np.diff(document_offsets))
    sentence = np.arange(tokens.sentences)
    chunk_end = np.searchsorted(offsets, offsets[:-1] + targets[document])
    chunk_end = np.minimum(chunk_end, document_offsets[1:][document])
    a_end = sentence + 1 + _uniform_below(chunk_end - sentence - 1, generator)
    is_random = (generator.random(tokens.sentences) < random_next_prob) | (
        chunk_end == sentence + 1
    )
    if tokens.documents == 1:
        is_random[:] = False
    following = np.where(is_random, a_end, chunk_end)

    chosen = _walk(following)
    document, a_end, chunk_end = document[chosen], a_end[chosen], chunk_end[chosen]
    is_random = is_random[chosen]
    a_start, b_start = offsets[chosen], offsets[a_end]
    b_stop = offsets[chunk_end]

    dropped_segments = 0
    if tokens.documents == 1:
        alone = a_end == chunk_end
        b_start = np.where(
            alone, a_start + 1 + _uniform_below(b_stop - a_start - 1, generator), b_start
        )
        kept = b_start < b_stop
        dropped_segments = int(np.count_nonzero(~kept))
        a_start, b_start, b_stop = a_start[kept], b_start[kept], b_stop[kept]
        is_random = is_random[kept]
    a_length = b_start - a_start

    if is_random.any():
        # The random text starts with any sentence of any other document and has as many
        # sentences as the target length asks for, at least one.
        here, missing = document[is_random], (targets[document] - a_length)[is_random]
        other = _uniform_below(np.full(len(here), tokens.documents - 1), generator)
        other += other >= here
        first = document_offsets[other]
        first = first + _uniform_below(document_offsets[other + 1] - first, generator)
        last = np.searchsorted(offsets, offsets[first] + missing)
        last = np.clip(last, first + 1, document_offsets[other + 1])
        b_start[is_random], b_stop[is_random] = offsets[first], offsets[last]

    a_start, a_length, b_start, b_length = _truncate(
        a_start, a_length, b_start, b_stop - b_start, room, generator
    )
    return Examples(
        a_start.astype(np.int32),
        a_length.astype(np.int32),
        b_start.astype(np.int32),
        b_length.astype(np.int32),
        is_random,
        dropped_segments,
    )


def make_single_segments(
    tokens: Tokens, max_seq_length: int, short_seq_prob: float, generator: np.random.Generator
) -> Examples:
    """Examples of one segment, for training without next-sentence prediction.

    Each takes as many whole sentences of one document as fit the target length. A sentence that
    is longer than a row is first cut into full rows and a rest, so that no token is lost.
    """
    if tokens.sentences == 0:
        return Examples.empty()
    room = max_seq_length - SINGLE_SPECIAL_TOKENS
    targets = _target_lengths(tokens.documents, room, short_seq_prob, generator)

    # Pieces: sentences, where long ones count as several.
    lengths = np.diff(tokens.sentence_offsets)
    pieces = -(-lengths // room)
    piece_offsets = np.append(0, np.cumsum(pieces))
    document_offsets = piece_offsets[tokens.document_offsets]
    within = np.arange(piece_offsets[-1]) - np.repeat(piece_offsets[:-1], pieces)
    starts = np.repeat(tokens.sentence_offsets[:-1], pieces) + within * room
    offsets = np.append(starts, tokens.sentence_offsets[-1])

    # A piece longer than a short target still makes an example, alone.
    document = np.repeat(np.arange(tokens.documents), np.diff(document_offsets))
    stop = np.searchsorted(offsets, starts + targets[document], side="right") - 1
    stop = np.clip(stop, np.arange(len(starts)) + 1, document_offsets[1:][document])

    chosen = _walk(stop)
    a_start = offsets[chosen].astype(np.int32)
    a_length = (offsets[stop[chosen]] - offsets[chosen]).astype(np.int32)
    nothing = np.zeros_like(a_start)
    return Examples(a_start, a_length, nothing, nothing, nothing.astype(bool))


def _target_lengths(
    documents: int, room: int, short_seq_prob: float, generator: np.random.Generator
) -> np.ndarray:
    """int64 [documents]: `room`, or for some documents uniform in 2 to `room`."""
    short = generator.random(documents) < short_seq_prob
    return np.where(short, 2 + _uniform_below(np.full(documents, room - 1), generator), room)


def _uniform_below(limits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int64 array: uniform in 0 to limit - 1 for each limit (0 where the limit is 0).

    A product of a double below 1 and an integer below 2^53 never rounds up to that integer.
    """
    drawn: np.ndarray = generator.random(len(limits)) * limits
    return drawn.astype(np.int64)


def _walk(following: np.ndarray) -> np.ndarray:
    """int64 array: 0, following[0], following[following[0]], … while below the array's length.

    As a plain list because a walk cannot be vectorised, and lists are read quicker than arrays.
    """
    steps = following.tolist()
    chosen = []
    place = 0
    while place < len(steps):
        chosen.append(place)
        place = steps[place]
    return np.array(chosen, dtype=np.int64)


def _truncate(
    a_start: np.ndarray,
    a_length: np.ndarray,
    b_start: np.ndarray,
    b_length: np.ndarray,
    room: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shortens pairs to `room` tokens; all arrays int64 [n], the result in the same order.

    Google takes one token after the other from the longer segment (from B if both are equal),
    from its front or its back by the toss of a coin. The lengths that this ends with: a segment
    shorter than half the room stays whole and the other gets the rest; two longer ones get half
    each, A the odd token. How many went from the front is a count of heads.
    """
    a_kept = np.minimum(a_length, np.maximum(room - room // 2, room - b_length))
    b_kept = np.minimum(b_length, room - a_kept)
    a_start = a_start + _heads(a_length - a_kept, generator)
    b_start = b_start + _heads(b_length - b_kept, generator)
    return a_start, a_kept, b_start, b_kept


def _heads(tosses: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int64 [n]: Binomial(tosses, 1/2).

    Up to 63 tosses are counted among random bits. The rest is a sum of powers of two, each drawn
    from the table of its distribution: a line of two million tokens costs no more than two words.
    `Generator.binomial` would do, but it calls exp and log, whose last bit depends on the C
    library.
    """
    heads = np.zeros(len(tosses), dtype=np.int64)
    few = tosses & 63
    some = np.flatnonzero(few)
    bits = generator.bit_generator.random_raw(len(some)) >> (64 - few[some]).astype(np.uint64)
    heads[some] = np.bitwise_count(bits)
    for power in range(6, int(tosses.max(initial=0)).bit_length()):
        some = np.flatnonzero(tosses >> power & 1)
        fewest, cumulative = _binomial_table(power)
        drawn = np.searchsorted(cumulative, generator.random(len(some)), side="right")
        heads[some] += fewest + drawn
    return heads


@functools.lru_cache(maxsize=32)
def _binomial_table(power: int) -> tuple[int, np.ndarray]:
    """Binomial(2^power, 1/2): the fewest heads that occur, and float64 cumulative probabilities
    from there on.

    It reaches ten standard deviations to both sides; less than 1e-22 lies beyond. Made of
    products and quotients only, which are the same on every machine.
    """
    tosses = 1 << power
    middle = tosses // 2
    half = min(middle, 5 * math.isqrt(tosses))
    more = np.arange(middle, middle + half)
    # How much rarer than half the tosses are one head more, two more, ...
    rarer = np.cumprod((tosses - more) / (more + 1))
    cumulative = np.cumsum(np.concatenate([rarer[::-1], [1.0], rarer]))
    return middle - half, cumulative / cumulative[-1]
