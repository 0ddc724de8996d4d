"""Sentence pairs: the fast algorithm against a plain implementation of Google's; segments."""

import collections
import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records.pairs import (
    Examples,
    _binomial_table,
    _heads,
    _truncate,
    cut_documents,
    make_pairs,
    make_single_segments,
)
from lib.records.tokens import Tokens
from lib.run.random import generator

Document = list[list[int]]  # sentences of tokens; here each token is its own position in the text
Pair = tuple[int, int, int, int, bool]  # a_start, a_length, b_start, b_length, is_random


def documents_of(lengths: list[list[int]]) -> list[Document]:
    """Documents whose tokens are numbered consecutively, from the lengths of their sentences."""
    counter = itertools.count()
    return [[[next(counter) for _ in range(n)] for n in sentences] for sentences in lengths]


def tokens_of(lengths: list[list[int]]) -> Tokens:
    sentences = list(itertools.chain.from_iterable(lengths))
    return Tokens(
        np.arange(sum(sentences), dtype=np.int32),
        np.cumsum([0, *sentences]),
        np.cumsum([0, *map(len, lengths)]),
    )


def pairs_of(examples: Examples) -> list[Pair]:
    columns = (
        examples.a_start,
        examples.a_length,
        examples.b_start,
        examples.b_length,
        examples.is_random,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def joined(sentences: Document) -> list[int]:
    return list(itertools.chain.from_iterable(sentences))


def slow_truncate(a: list[int], b: list[int], max_num_tokens: int, draw: random.Random) -> None:
    while len(a) + len(b) > max_num_tokens:
        longer = a if len(a) > len(b) else b
        longer.pop(0 if draw.random() < 0.5 else -1)


def slow_pairs(
    documents: list[Document], max_seq_length: int, short_seq_prob: float, draw: random.Random
) -> list[Pair]:
    """One pass of Google's algorithm, sentence by sentence and token by token."""
    max_num_tokens = max_seq_length - 3
    pairs = []
    for number, document in enumerate(documents):
        is_short = draw.random() < short_seq_prob
        target = draw.randint(2, max_num_tokens) if is_short else max_num_tokens
        sentence = 0
        while sentence < len(document):
            chunk: Document = []
            while sentence < len(document) and sum(map(len, chunk)) < target:
                chunk.append(document[sentence])
                sentence += 1
            split = draw.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
            a = joined(chunk[:split])
            is_random = len(chunk) == 1 or draw.random() < 0.5
            if is_random:
                sentence -= len(chunk) - split
                others = [other for other in range(len(documents)) if other != number]
                other = documents[draw.choice(others)]
                b: list[int] = []
                for each in other[draw.randint(0, len(other) - 1) :]:
                    b = b + each
                    if len(b) >= target - len(a):
                        break
            else:
                b = joined(chunk[split:])
            slow_truncate(a, b, max_num_tokens, draw)
            pairs.append((a[0], len(a), b[0], len(b), is_random))
    return pairs


def z_score(x: list[float], y: list[float]) -> float:
    """Welch's z of two samples' means."""
    error = math.sqrt(np.var(x) / len(x) + np.var(y) / len(y))
    return float((np.mean(x) - np.mean(y)) / max(error, 1e-12))


@pytest.mark.parametrize("short_seq_prob", [0.0, 0.5, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "lengths",
    [
        [[1], [2, 1], [3, 1, 2]],
        [[9, 1, 30], [4, 4, 4, 4], [1, 1, 1, 1, 1, 1, 1, 1]],
        [[5, 5], [20], [2, 2, 7, 1, 1]],
    ],
)
def test_every_pair_is_as_frequent_as_with_google(
    lengths: list[list[int]], short_seq_prob: float
) -> None:
    runs = 4000
    tokens, documents = tokens_of(lengths), documents_of(lengths)
    fast: collections.Counter[Pair] = collections.Counter()
    slow: collections.Counter[Pair] = collections.Counter()
    draws, draw = generator(1, "test"), random.Random(1)
    for _ in range(runs):
        fast.update(pairs_of(make_pairs(tokens, 12, short_seq_prob, 0.5, draws)))
        slow.update(slow_pairs(documents, 12, short_seq_prob, draw))
    for pair in fast.keys() | slow.keys():
        # Two counts of the same rare event differ by about the root of their sum.
        difference = abs(fast[pair] - slow[pair])
        assert difference < 5 * math.sqrt(fast[pair] + slow[pair]) + 5, pair


def test_statistics_equal_googles() -> None:
    """On natural sentence lengths: number of pairs, their lengths, fraction of random ones."""
    samples: dict[str, tuple[list[float], list[float]]] = collections.defaultdict(lambda: ([], []))
    for seed in range(40):
        draw = random.Random(seed)
        lengths = [
            [1 + int(draw.expovariate(1 / 20)) for _ in range(draw.randint(1, 30))]
            for _ in range(30)
        ]
        fast = pairs_of(make_pairs(tokens_of(lengths), 64, 0.1, 0.5, generator(seed, "test")))
        slow = slow_pairs(documents_of(lengths), 64, 0.1, draw)
        for side, pairs in enumerate((fast, slow)):
            a, a_length, b, b_length, is_random = (np.array(x) for x in zip(*pairs, strict=True))
            for name, value in {
                "pairs": len(pairs),
                "random": is_random.mean(),
                "a length": a_length.mean(),
                "b length": b_length.mean(),
                "square of b length": (b_length**2).mean(),
                "a length of random": a_length[is_random].mean(),
                "full": (a_length + b_length == 61).mean(),
                "distance": np.abs(a - b)[is_random].mean(),
            }.items():
                samples[name][side].append(float(value))
    for name, (fast_sample, slow_sample) in samples.items():
        assert abs(z_score(fast_sample, slow_sample)) < 4, name


corpora = st.lists(
    st.lists(st.integers(1, 40) | st.just(1), min_size=1, max_size=12), min_size=0, max_size=8
)


@given(corpora, st.integers(5, 40), st.sampled_from([0.0, 0.1, 1.0]), st.floats(0, 1))
@settings(max_examples=300)
def test_pairs_are_well_formed(
    lengths: list[list[int]], max_seq_length: int, short_seq_prob: float, random_next_prob: float
) -> None:
    tokens = tokens_of(lengths)
    draws = generator(0, "test")
    examples = make_pairs(tokens, max_seq_length, short_seq_prob, random_next_prob, draws)
    document = np.repeat(np.arange(len(lengths)), list(map(sum, lengths)))  # of each token
    max_num_tokens = max_seq_length - 3
    for a, a_length, b, b_length, is_random in pairs_of(examples):
        assert a_length >= 1
        assert b_length >= 1
        assert a_length + b_length <= max_num_tokens
        assert document[a] == document[a + a_length - 1]
        assert document[b] == document[b + b_length - 1]
        assert (document[a] != document[b]) == is_random
        if not is_random:
            # Only truncated tokens lie in between.
            assert b >= a + a_length
            assert b == a + a_length or a_length + b_length == max_num_tokens
    assert examples.a_start.dtype == examples.b_length.dtype == np.int32
    assert len(examples) == len(examples.b_start) == len(examples.is_random)
    if len(lengths) == 1:
        assert not examples.is_random.any()
        # Every sentence becomes a pair or, if it has one token only, is dropped.
        assert len(examples) + examples.dropped_segments > 0
    else:
        assert examples.dropped_segments == 0


@given(corpora, st.integers(5, 40))
@settings(max_examples=100)
def test_every_document_starts_a_pair(lengths: list[list[int]], max_seq_length: int) -> None:
    tokens = tokens_of(lengths)
    if len(lengths) < 2:
        return
    examples = make_pairs(tokens, 10_000, 0.0, 0.0, generator(max_seq_length, "test"))
    # If whole documents fit and there is no random next, A and B are the document.
    for sentences, (a, a_length, b, b_length, is_random), start in zip(
        lengths, pairs_of(examples), np.cumsum([0, *map(sum, lengths)]), strict=False
    ):
        assert a == start
        if len(sentences) > 1:
            assert not is_random
            assert b == a + a_length
            assert a_length + b_length == sum(sentences)
        else:
            assert is_random
            assert a_length == sum(sentences)


def test_the_example_of_the_docstring() -> None:
    tokens = tokens_of([[3, 4, 5], [6, 2], [4]])
    assert pairs_of(make_pairs(tokens, 12, 0.0, 0.5, generator(3164, "test"))) == [
        (0, 3, 12, 6, True),
        (3, 4, 7, 5, False),
        (12, 6, 18, 2, False),
        (20, 4, 4, 5, True),
    ]


def test_random_next_probability() -> None:
    tokens = tokens_of([[5] * 40] * 50)
    for probability in (0.0, 0.2, 1.0):
        is_random = [
            make_pairs(tokens, 33, 0.0, probability, generator(seed, "test")).is_random
            for seed in range(20)
        ]
        fraction = np.concatenate(is_random).mean()
        # The last sentence of a document may be a chunk of its own, and then B is random, too.
        assert probability - 0.02 <= fraction <= probability + 0.1


def test_a_single_document_has_no_random_pairs() -> None:
    """B always follows A, and a single sentence is split in two."""
    cuts: collections.Counter[int] = collections.Counter()
    for seed in range(1200):
        examples = make_pairs(tokens_of([[7, 1]]), 10, 0.0, 0.5, generator(seed, "test"))
        assert examples.dropped_segments == 1
        ((a, a_length, b, b_length, is_random),) = pairs_of(examples)
        assert (a, b, a_length + b_length, is_random) == (0, a_length, 7, False)
        cuts[b] += 1
    assert set(cuts) == {1, 2, 3, 4, 5, 6}
    assert all(140 < count < 260 for count in cuts.values())


def test_truncation_equals_googles() -> None:
    draw = random.Random(0)
    a, b = np.array(list(itertools.product(range(1, 25), repeat=2))).T
    for length in range(2, 18):
        draws = generator(length, "test")
        fast = _truncate(np.zeros_like(a), a, np.zeros_like(b), b, length, draws)
        for a_all, b_all, a_start, a_length, b_start, b_length in zip(a, b, *fast, strict=True):
            slow_a, slow_b = list(range(a_all)), list(range(b_all))
            slow_truncate(slow_a, slow_b, length, draw)
            assert (a_length, b_length) == (len(slow_a), len(slow_b))
            assert 0 <= a_start <= a_all - a_length
            assert 0 <= b_start <= b_all - b_length


@pytest.mark.parametrize("tosses", [0, 1, 3, 64, 65, 200])
def test_heads_are_binomial(tosses: int) -> None:
    count = 40_000
    heads = _heads(np.full(count, tosses), generator(tosses, "test"))
    frequencies = np.bincount(heads, minlength=tosses + 1)
    assert len(frequencies) == tosses + 1
    for number, frequency in enumerate(frequencies):
        expected = count * math.comb(tosses, number) / 2**tosses
        assert abs(frequency - expected) < 5 * math.sqrt(expected) + 5


@pytest.mark.parametrize("power", [6, 7, 10, 12])
def test_tables_hold_the_binomial_distribution(power: int) -> None:
    """Against exact fractions."""
    tosses = 1 << power
    lowest, cumulative = _binomial_table(power)
    probabilities = np.diff(cumulative, prepend=0.0)
    below = sum(math.comb(tosses, heads) for heads in range(lowest))
    assert below < 2**tosses // 10**22 + 1
    for heads in range(lowest, lowest + len(cumulative), max(1, len(cumulative) // 100)):
        exact = Fraction(math.comb(tosses, heads), 2**tosses)
        assert abs(float(exact) - probabilities[heads - lowest]) < 1e-14


def test_heads_of_a_very_long_text() -> None:
    tosses, count = 2_000_003, 20_000
    heads = _heads(np.full(count, tosses), generator(0, "test"))
    deviation = math.sqrt(tosses) / 2
    assert abs(heads.mean() - tosses / 2) < 5 * deviation / math.sqrt(count)
    assert abs(heads.std() / deviation - 1) < 5 / math.sqrt(2 * count)
    for times in (-2, -1, 0, 1, 2):
        expected = (1 + math.erf(times / math.sqrt(2))) / 2
        below = np.mean(heads <= tosses / 2 + times * deviation)
        assert abs(below - expected) < 5 * math.sqrt(expected * (1 - expected) / count) + 1e-3


def test_heads_of_mixed_numbers() -> None:
    tosses = np.array([0, 1000, 0, 64, 1, 2**31 - 1])
    heads = _heads(tosses, generator(0, "test"))
    assert (heads <= tosses).all()
    assert 400 < heads[1] < 600
    assert abs(heads[-1] - 2**30) < 10 * 2**15
    assert tosses.tolist() == [0, 1000, 0, 64, 1, 2**31 - 1]
    assert _heads(np.zeros(0, np.int64), generator(0, "test")).tolist() == []


@given(corpora, st.integers(5, 40), st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=200)
def test_single_segments_lose_no_token(
    lengths: list[list[int]], max_seq_length: int, short_seq_prob: float
) -> None:
    tokens = tokens_of(lengths)
    examples = make_single_segments(tokens, max_seq_length, short_seq_prob, generator(3, "test"))
    document = np.repeat(np.arange(len(lengths)), list(map(sum, lengths)))
    sentence_starts = set(tokens.sentence_offsets.tolist())
    position = 0
    for a, a_length, b, b_length, is_random in pairs_of(examples):
        assert a == position  # directly after the example before
        assert (b, b_length, is_random) == (0, 0, False)
        assert 1 <= a_length <= max_seq_length - 2
        assert document[a] == document[a + a_length - 1]
        position = a + a_length
        # Ends with a sentence, or inside one that is longer than a sequence.
        assert position in sentence_starts or a_length == max_seq_length - 2
        if short_seq_prob == 0 and position < len(document) and document[position] == document[a]:
            following = min(n for n in sentence_starts if n > position) - position
            part = min(following, max_seq_length - 2)
            assert a_length + part > max_seq_length - 2  # no more would have fitted
    assert position == len(document)


def test_short_single_segments() -> None:
    tokens = tokens_of([[1] * 500] * 200)
    counts = [
        len(make_single_segments(tokens, 52, prob, generator(1, "test")))
        for prob in (0.0, 0.5, 1.0)
    ]
    assert counts[0] == 2000
    assert counts[0] < counts[1] < counts[2]


@given(corpora, st.integers(5, 40), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 99))
@settings(max_examples=100)
def test_the_pieces_of_a_document_are_its_tokens(
    lengths: list[list[int]], max_seq_length: int, short_seq_prob: float, seed: int
) -> None:
    tokens, room = tokens_of(lengths), max_seq_length - 2
    examples = cut_documents(tokens, max_seq_length, short_seq_prob, generator(seed, "test"))
    pieces = [list(range(a, a + n)) for a, n, *_ in pairs_of(examples)]
    assert not examples.b_length.any() and not examples.is_random.any()
    for document in documents_of(lengths):
        whole, own = joined(document), []
        while sum(map(len, own)) < len(whole):
            own.append(pieces.pop(0))
        assert joined(own) == whole
        assert all(1 <= len(piece) <= room for piece in own)
        if len(whole) < room or (short_seq_prob == 0 and len(whole) == room):
            assert len(own) == 1
        if short_seq_prob == 0:
            assert all(len(piece) == room for piece in own[1:-1])
        if short_seq_prob == 1:
            assert all(len(piece) < room for piece in own)
            # Two of these are what would have been a full one.
            assert len(own) <= 2 * math.ceil(len(whole) / room) + 1
    assert not pieces


def test_every_pass_cuts_a_document_elsewhere() -> None:
    """The first cut is uniform over a sequence, so that no token is always at its end."""
    tokens, runs = tokens_of([[1000]]), 2000
    draws = generator(1, "test")
    firsts = np.bincount(
        [int(cut_documents(tokens, 22, 0.0, draws).a_length[0]) for _ in range(runs)], minlength=21
    )
    assert firsts[0] == 0 and len(firsts) == 21
    assert abs(firsts[1:] - runs / 20).max() < 5 * math.sqrt(runs / 20)


def test_pairs_depend_on_the_key_only() -> None:
    tokens = tokens_of([[7, 3, 9]] * 20)
    first, again, other = (
        pairs_of(make_pairs(tokens, 20, 0.1, 0.5, generator(seed, "pairs", 0)))
        for seed in (1, 1, 2)
    )
    assert first == again != other
