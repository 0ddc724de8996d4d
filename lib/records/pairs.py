"""Examples as ranges of token positions: sentence pairs for next-sentence prediction, or segments.

The algorithm for pairs is `create_instances_from_document` of google-research/bert (Devlin et al.,
2019); the distribution of the pairs is the same, but no token is copied: an example is five
numbers, the start and length of its segments A and B, and whether B is random.

Three documents, with the token positions of their sentences; max_seq_length is 12, so that A and B
together have at most 9 tokens:

    document 0   s0: 0-2      s1: 3-6   s2: 7-11
    document 1   s3: 12-17    s4: 18-19
    document 2   s5: 20-23

    chunk     drawn                        A   B                        continue at
    s0 s1 s2  A ends after s0; random B    s0  s3                       s1
    s1 s2     A ends after s1; B is next   s1  s2                       s3
    s3 s4     A ends after s3; B is next   s3  s4                       s5
    s5        one sentence, so random B    s5  s1 s2, cut to 5 tokens   (end)

- A *chunk* takes sentences of one document until it has at least the target length, here 9 tokens.
- A random B begins at a sentence of another document and continues until A and B have the target
  length. The sentences of the chunk that it replaces are put back: the walk continues with them.
- A pair that is too long is truncated: s5 has 4 tokens, s1 s2 has 9. The longer segment loses one
  token after the other from its front or its back, here one from the front and three from the back.

    a_start  a_length  b_start  b_length  is_random
          0         3       12         6  True
          3         4        7         5  False
         12         6       18         2  False
         20         4        4         5  True

Google loops over sentences and tokens. The loop is fast here because where a chunk ends, and at
which sentence the walk continues, depends only on the chunk's first sentence and on new random
draws. So both are computed for all sentences at once, as if every sentence were the first of a
chunk; then the walk picks the sentences that really are, with one list lookup per chunk. It only
moves forward, so it ends.

Shapes: N examples.
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
    """N examples as ranges of token positions, after truncation.

    Attributes:
        a_start, a_length: int32 [N]: segment A is ids[a_start:a_start + a_length].
        b_start, b_length: int32 [N]: segment B; b_length is 0 if there is no B.
        is_random: bool [N]: B comes from another document.
        dropped_segments: number of sentences too short to be split into A and B where there is no
            other document (see `make_pairs`).
    """

    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray
    dropped_segments: int = 0

    def __len__(self) -> int:
        return len(self.a_start)

    def sequence_lengths(self) -> np.ndarray:
        """int64 [N]: tokens per sequence, special tokens included."""
        a_length, b_length = self.a_length.astype(np.int64), self.b_length.astype(np.int64)
        special = np.where(b_length > 0, PAIR_SPECIAL_TOKENS, SINGLE_SPECIAL_TOKENS)
        lengths: np.ndarray = a_length + b_length + special
        return lengths

    def take(self, chosen: np.ndarray) -> Self:
        """The examples with the indices `chosen`; none count as dropped."""
        return type(self)(
            self.a_start[chosen],
            self.a_length[chosen],
            self.b_start[chosen],
            self.b_length[chosen],
            self.is_random[chosen],
        )

    @classmethod
    def single_segments(cls, starts: np.ndarray, lengths: np.ndarray) -> Self:
        """Examples of one segment from the starts and lengths of their ranges."""
        nothing = np.zeros(len(starts), dtype=np.int32)
        return cls(
            starts.astype(np.int32),
            lengths.astype(np.int32),
            nothing,
            nothing,
            nothing.astype(bool),
        )

    @classmethod
    def empty(cls) -> Self:
        nothing = np.zeros(0, dtype=np.int32)
        return cls(nothing, nothing, nothing, nothing, nothing.astype(bool))

    @classmethod
    def concatenate(cls, passes: Sequence["Examples"]) -> Self:
        return cls(
            np.concatenate([examples.a_start for examples in passes]),
            np.concatenate([examples.a_length for examples in passes]),
            np.concatenate([examples.b_start for examples in passes]),
            np.concatenate([examples.b_length for examples in passes]),
            np.concatenate([examples.is_random for examples in passes]),
            sum(examples.dropped_segments for examples in passes),
        )


def make_pairs(
    tokens: Tokens,
    max_seq_length: int,
    short_seq_prob: float,
    random_next_prob: float,
    generator: np.random.Generator,
) -> Examples:
    """Sentence pairs of one pass over a shard, in the order of the text.

    A shard with a single document has no text for a random B. There B always follows A, a chunk
    of one sentence is split at a random token, and a sentence of one token is dropped and counted.

    Args:
        max_seq_length: tokens per sequence, the three special tokens included; at least 5.
        short_seq_prob: fraction of documents with a shorter target length, so that the model also
            sees short inputs.
        random_next_prob: fraction of chunks whose B is replaced by text of another document
            (Google: 0.5). A chunk of one sentence has no B of its own and always gets a random
            one, so the fraction of random pairs is larger than this.
    """
    if tokens.sentences == 0:
        return Examples.empty()
    max_num_tokens = max_seq_length - PAIR_SPECIAL_TOKENS
    offsets, document_offsets = tokens.sentence_offsets, tokens.document_offsets
    targets = _target_lengths(tokens.documents, max_num_tokens, short_seq_prob, generator)

    # For every sentence: if a chunk started here, where would it end, and what would A and B be?
    # All arrays are [sentences].
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

    # From here on all arrays are [N].
    chosen = _walk(following)
    document, a_end, chunk_end = document[chosen], a_end[chosen], chunk_end[chosen]
    is_random = is_random[chosen]
    a_start, b_start = offsets[chosen], offsets[a_end]
    b_stop = offsets[chunk_end]

    dropped_segments = 0
    if tokens.documents == 1:
        no_b = a_end == chunk_end
        b_start = np.where(
            no_b, a_start + 1 + _uniform_below(b_stop - a_start - 1, generator), b_start
        )
        kept = b_start < b_stop
        dropped_segments = int(np.count_nonzero(~kept))
        a_start, b_start, b_stop = a_start[kept], b_start[kept], b_stop[kept]
        is_random = is_random[kept]
    a_length = b_start - a_start

    if is_random.any():
        # A random B starts at any sentence of any other document, and has as many sentences as it
        # takes to reach the target length, at least one.
        here, missing = document[is_random], (targets[document] - a_length)[is_random]
        other = _uniform_below(np.full(len(here), tokens.documents - 1), generator)
        other += other >= here
        first = document_offsets[other]
        first = first + _uniform_below(document_offsets[other + 1] - first, generator)
        last = np.searchsorted(offsets, offsets[first] + missing)
        last = np.clip(last, first + 1, document_offsets[other + 1])
        b_start[is_random], b_stop[is_random] = offsets[first], offsets[last]

    a_start, a_length, b_start, b_length = _truncate(
        a_start, a_length, b_start, b_stop - b_start, max_num_tokens, generator
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

    Each has as many whole sentences of one document as fit the target length. A sentence that is
    longer than a sequence is first cut into full sequences and a rest, so that no token is lost:
    with max_seq_length 12, a sentence of 25 tokens becomes parts of 10, 10 and 5 tokens.
    """
    if tokens.sentences == 0:
        return Examples.empty()
    max_num_tokens = max_seq_length - SINGLE_SPECIAL_TOKENS
    targets = _target_lengths(tokens.documents, max_num_tokens, short_seq_prob, generator)

    # Parts: sentences, long ones cut. `starts` and `offsets` are token positions of the parts.
    lengths = np.diff(tokens.sentence_offsets)
    parts = -(-lengths // max_num_tokens)  # number of parts of each sentence
    part_offsets = np.append(0, np.cumsum(parts))
    document_offsets = part_offsets[tokens.document_offsets]
    within = np.arange(part_offsets[-1]) - np.repeat(part_offsets[:-1], parts)
    starts = np.repeat(tokens.sentence_offsets[:-1], parts) + within * max_num_tokens
    offsets = np.append(starts, tokens.sentence_offsets[-1])

    # A part that is longer than a short target is an example by itself.
    document = np.repeat(np.arange(tokens.documents), np.diff(document_offsets))
    stop = np.searchsorted(offsets, starts + targets[document], side="right") - 1
    stop = np.clip(stop, np.arange(len(starts)) + 1, document_offsets[1:][document])

    chosen = _walk(stop)
    return Examples.single_segments(offsets[chosen], offsets[stop[chosen]] - offsets[chosen])


def cut_documents(
    tokens: Tokens, max_seq_length: int, short_seq_prob: float, generator: np.random.Generator
) -> Examples:
    """Examples of one segment that begin and end at any token; each token is in exactly one.

    A document that fits into a sequence is one example. A longer one is cut: the first example has
    a random length, so that each pass cuts elsewhere, and the others are full but for the last.
    With max_seq_length 12, thus up to 10 tokens per example, a document of 25 tokens becomes
    examples of 4, 10, 10 and 1 tokens, or of 10, 10 and 5. In a fraction `short_seq_prob` of the
    documents each full example is cut once more, at a random token.

    A cut may fall inside a word. Cuts between words would leave sequences with room for a token or
    two, in which no other example fits.
    """
    if tokens.sentences == 0:
        return Examples.empty()
    room = max_seq_length - SINGLE_SPECIAL_TOKENS
    # Arrays are [documents] down to `document`, then [N].
    offsets = tokens.sentence_offsets[tokens.document_offsets]
    lengths = np.diff(offsets)
    is_short = generator.random(len(lengths)) < short_seq_prob
    first = 1 + _uniform_below(np.full(len(lengths), room), generator)
    first = np.where(lengths > room, first, lengths)
    counts = 1 + -(-(lengths - first) // room)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = offsets[document] + np.where(number > 0, first[document] + (number - 1) * room, 0)
    stops = np.append(starts[1:], offsets[-1])  # No document is empty, so examples are adjacent.
    chosen = np.flatnonzero(is_short[document] & (stops - starts == room))
    cuts = starts[chosen] + 1 + _uniform_below(np.full(len(chosen), room - 1), generator)
    starts = np.sort(np.concatenate([starts, cuts]))
    return Examples.single_segments(starts, np.diff(starts, append=offsets[-1]))


def _target_lengths(
    documents: int, max_num_tokens: int, short_seq_prob: float, generator: np.random.Generator
) -> np.ndarray:
    """int64 [documents]: `max_num_tokens`, or for some documents uniform in 2 to that."""
    is_short = generator.random(documents) < short_seq_prob
    short = 2 + _uniform_below(np.full(documents, max_num_tokens - 1), generator)
    return np.where(is_short, short, max_num_tokens)


def _uniform_below(limits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int64 array: for each limit, uniform in 0 to limit - 1 (0 if the limit is 0).

    The product of a double below 1 and an integer below 2^53 never rounds up to that integer.
    """
    drawn: np.ndarray = generator.random(len(limits)) * limits
    return drawn.astype(np.int64)


def _walk(following: np.ndarray) -> np.ndarray:
    """int64 array: 0, following[0], following[following[0]], ... while below the array's length.

    A walk cannot be vectorised; it runs on a list because lists are faster to index than arrays.
    """
    steps = following.tolist()
    chosen = []
    position = 0
    while position < len(steps):
        chosen.append(position)
        position = steps[position]
    return np.array(chosen, dtype=np.int64)


def _truncate(
    a_start: np.ndarray,
    a_length: np.ndarray,
    b_start: np.ndarray,
    b_length: np.ndarray,
    max_num_tokens: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truncates pairs to `max_num_tokens`; all arrays int64 [N], returned in the same order.

    Google's `truncate_seq_pair` removes one token after the other from the longer segment (from B
    if both are equal), from the front or the back with probability 1/2 each. The result can be
    computed at once: a segment up to half of `max_num_tokens` is kept whole, and the other gets
    the rest; of two longer ones each keeps half, and A the odd token. The number of tokens that
    were removed from the front is Binomial(removed, 1/2).
    """
    half = max_num_tokens - max_num_tokens // 2
    a_kept = np.minimum(a_length, np.maximum(half, max_num_tokens - b_length))
    b_kept = np.minimum(b_length, max_num_tokens - a_kept)
    a_start = a_start + _heads(a_length - a_kept, generator)
    b_start = b_start + _heads(b_length - b_kept, generator)
    return a_start, a_kept, b_start, b_kept


def _heads(tosses: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int64 [N]: number of heads in fair coin tosses, Binomial(tosses, 1/2); `tosses` is int64 [N].

    The number of tosses is split into powers of two: 200 = 128 + 64 + 8. The part below 64 is the
    number of ones among that many random bits; each larger power is drawn from the table of its
    distribution. So a line of two million tokens costs no more than one of two words.
    `Generator.binomial` is not used because it calls exp and log, whose last bit depends on the C
    library.
    """
    heads = np.zeros(len(tosses), dtype=np.int64)
    below_64 = tosses & 63
    some = np.flatnonzero(below_64)
    bits = generator.bit_generator.random_raw(len(some)) >> (64 - below_64[some]).astype(np.uint64)
    heads[some] = np.bitwise_count(bits)
    for power in range(6, int(tosses.max(initial=0)).bit_length()):
        some = np.flatnonzero(tosses >> power & 1)
        lowest, cumulative = _binomial_table(power)
        drawn = np.searchsorted(cumulative, generator.random(len(some)), side="right")
        heads[some] += lowest + drawn
    return heads


@functools.lru_cache(maxsize=32)
def _binomial_table(power: int) -> tuple[int, np.ndarray]:
    """Binomial(2^power, 1/2): the lowest number of heads in the table, and from there on the
    cumulative probabilities, float64.

    The table covers ten standard deviations on both sides; less than 1e-22 lies beyond. It is
    computed with products and quotients only, which are the same on every machine.
    """
    tosses = 1 << power
    middle = tosses // 2
    half = min(middle, 5 * math.isqrt(tosses))
    more = np.arange(middle, middle + half)
    # Probability of one head more than `middle`, two more, ..., relative to that of `middle`.
    relative = np.cumprod((tosses - more) / (more + 1))
    cumulative = np.cumsum(np.concatenate([relative[::-1], [1.0], relative]))
    return middle - half, cumulative / cumulative[-1]
