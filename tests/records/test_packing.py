"""Packing: every example once, full sequences, and unpacking returns the same examples."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records import shard
from lib.records.masking import VocabularyFacts
from lib.records.packed_sequences import assemble_packed
from lib.records.packing import pack, pack_and_cut
from lib.records.settings import RecordSettings
from lib.records.tfrecord_reader import decode, read_records
from tests.helpers.records import VOCABULARY, read_packed, single_example, some_tokens, unpack


@st.composite
def lengths_to_pack(draw: st.DrawFn) -> tuple[list[int], int, int]:
    max_seq_length = draw(st.integers(1, 60))
    lengths = draw(st.lists(st.integers(1, max_seq_length), max_size=80))
    return lengths, max_seq_length, draw(st.integers(1, 9))


@given(lengths_to_pack())
@settings(max_examples=300)
def test_every_example_is_in_exactly_one_sequence(case: tuple[list[int], int, int]) -> None:
    lengths, max_seq_length, max_examples = case
    packs = pack(np.array(lengths, dtype=np.int64), max_seq_length, max_examples)
    assert packs.shape[1] == max_examples
    examples = [[number for number in packed if number >= 0] for packed in packs.tolist()]
    assert sorted(itertools.chain.from_iterable(examples)) == list(range(len(lengths)))
    for own, slots in zip(examples, packs.tolist(), strict=True):
        assert own and slots == own + [-1] * (max_examples - len(own))
        assert sum(lengths[number] for number in own) <= max_seq_length
    # No two sequences could be merged.
    if max_examples > 1 and len(examples) > 1:
        sizes = sorted(
            sum(lengths[number] for number in own)
            for own in examples
            if len(own) <= max_examples // 2
        )
        assert len(sizes) < 2 or sizes[0] + sizes[1] > max_seq_length


@given(
    st.integers(4, 128),
    st.lists(st.lists(st.integers(1, 1000), max_size=2), min_size=1, max_size=120),
)
@settings(max_examples=100)
def test_full_sequences_that_were_cut_are_packed_nearly_as_well(
    max_seq_length: int, cuts: list[list[int]]
) -> None:
    lengths = []
    for own in cuts:
        edges = sorted({0, max_seq_length, *(1 + cut % (max_seq_length - 1) for cut in own)})
        lengths += [stop - start for start, stop in itertools.pairwise(edges)]
    sequences = len(pack(np.array(lengths), max_seq_length, 12))
    assert len(cuts) <= sequences <= 1.25 * len(cuts) + 1


def test_the_example_of_the_docstring() -> None:
    packs = pack(np.array([6, 6, 4, 4, 4, 3, 3, 2]), 10, 3)
    assert packs.tolist() == [[0, 2, -1], [1, 3, -1], [4, 5, 6], [7, -1, -1]]


def test_sequences_of_short_texts_are_full() -> None:
    """Lengths like those of tweets, where best-fit decreasing leaves 1.5 % of the tokens empty."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(3.5, 0.45, 20_000).astype(np.int64), 5, 96)
    packs = pack(lengths, 96, 6)
    assert lengths.sum() / (len(packs) * 96) > 0.99


@given(lengths_to_pack(), st.integers(0, 3))
@settings(max_examples=100)
def test_the_pieces_of_an_example_are_its_tokens(
    case: tuple[list[int], int, int], special: int
) -> None:
    tokens, room, max_examples = case
    packed = pack_and_cut(np.array(tokens, np.int64), room + special, max_examples, special)
    pieces = list(zip(packed.examples.tolist(), packed.starts, packed.lengths, strict=True))
    found: dict[int, list[int]] = {number: [] for number in range(len(tokens))}
    for number, start, length in sorted(pieces):
        assert length >= 1
        found[number] += range(start, start + length)
    assert found == {number: list(range(count)) for number, count in enumerate(tokens)}
    sequences = [[piece for piece in own if piece >= 0] for own in packed.packs.tolist()]
    assert sorted(itertools.chain.from_iterable(sequences)) == list(range(len(pieces)))
    for own in sequences:
        assert 1 <= len(own) <= max_examples
        assert sum(pieces[piece][2] + special for piece in own) <= room + special
    # It never takes more sequences, and cuts nothing if it does not take fewer.
    lengths = np.array(tokens, np.int64) + special
    uncut = len(pack(lengths, room + special, max_examples))
    assert len(sequences) <= uncut
    assert len(sequences) < uncut or len(pieces) == len(tokens)


@given(
    st.lists(st.integers(1, 62), min_size=1, max_size=200) | st.just([40] * 500) | st.just([62] * 9)
)
@settings(max_examples=100)
def test_sequences_that_have_enough_slots_are_full(tokens: list[int]) -> None:
    packed = pack_and_cut(np.array(tokens), 64, 64, 2)
    # Every sequence but the last of those that are laid out again has at most two empty positions
    # or two more special tokens.
    total = sum(tokens) + 2 * len(tokens)
    assert len(packed.packs) <= max(math.ceil(total / 62), total / (0.995 * 64))


@pytest.mark.parametrize(
    ("shortest", "longest", "max_examples", "max_cut"),
    [
        (1, 60, 32, 0.01),  # They fit together well.
        (80, 100, 8, 1.0),  # Two never fit together: without cuts 72 % are full.
        (1, 60, 8, 0.1),  # Eight of the many short ones do not fill a sequence.
    ],
)
def test_few_examples_are_cut(
    shortest: int, longest: int, max_examples: int, max_cut: float
) -> None:
    draw = np.random.default_rng(0)
    tokens = shortest + (draw.random(3000) ** 2 * (longest - shortest)).astype(np.int64)
    packed = pack_and_cut(tokens, 128, max_examples, 2)
    sequences = len(packed.packs)
    assert (packed.lengths + 2).sum() / (sequences * 128) > 0.99
    cut = len(packed.lengths) - len(tokens)
    assert cut <= min(sequences, max_cut * len(tokens))


def test_the_example_of_the_docstring_of_pack_and_cut() -> None:
    packed = pack_and_cut(np.full(5, 5), 11, 3, 2)
    pieces = list(
        zip(packed.examples.tolist(), packed.starts.tolist(), packed.lengths.tolist(), strict=True)
    )
    assert [[pieces[piece] for piece in own if piece >= 0] for own in packed.packs.tolist()] == [
        [(0, 0, 5), (4, 0, 2)],
        [(4, 2, 3), (3, 0, 4)],
        [(3, 4, 1), (1, 0, 5)],
        [(2, 0, 5)],
    ]


def test_packing_depends_on_the_lengths_only() -> None:
    lengths = np.random.default_rng(1).integers(5, 97, 3000)
    assert (pack(lengths, 96, 6) == pack(lengths.copy(), 96, 6)).all()
    assert len(pack(np.zeros(0, dtype=np.int64), 96, 6)) == 0


def test_packed_features() -> None:
    examples = {
        "input_ids": np.array([[1, 7, 2, 0, 0, 0], [1, 8, 2, 9, 2, 0], [1, 5, 6, 2, 0, 0]]),
        "segment_ids": np.array([[0] * 6, [0, 0, 0, 1, 1, 0], [0] * 6], np.uint8),
        "next_sentence_labels": np.array([[0], [1], [0]], np.uint8),
        "masked_lm_positions": np.array([[1, 0], [1, 3], [2, 0]], np.int32),
        "masked_lm_ids": np.array([[70, 0], [80, 90], [60, 0]], np.int32),
        "masked_lm_weights": np.array([[1, 0], [1, 1], [1, 0]], np.float32),
    }
    packed = assemble_packed(
        examples, np.array([3, 5, 4]), np.array([[1, -1, -1], [0, -1, -1]]), 3, True
    )
    assert packed["input_ids"].tolist() == [[1, 8, 2, 9, 2, 0], [1, 7, 2, 0, 0, 0]]
    wide = {
        name: np.pad(matrix, ((0, 0), (0, 3 if matrix.shape[1] == 6 else 0)))
        for name, matrix in examples.items()
    }
    packed = assemble_packed(
        wide, np.array([3, 5, 4]), np.array([[1, 2, -1], [0, -1, -1]]), 4, True
    )
    expected = {
        "input_ids": [[1, 8, 2, 9, 2, 1, 5, 6, 2], [1, 7, 2, 0, 0, 0, 0, 0, 0]],
        "segment_ids": [[0, 0, 0, 1, 1, 0, 0, 0, 0], [0] * 9],
        "position_ids": [[0, 1, 2, 3, 4, 0, 1, 2, 3], [0, 1, 2, 0, 0, 0, 0, 0, 0]],
        "example_ids": [[1, 1, 1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 0, 0, 0, 0, 0, 0]],
        "cls_positions": [[0, 5, 0], [0, 0, 0]],
        "next_sentence_labels": [[1, 0, 0], [0, 0, 0]],
        "next_sentence_weights": [[1, 1, 0], [1, 0, 0]],
        "masked_lm_positions": [[1, 3, 7, 0], [1, 0, 0, 0]],
        "masked_lm_ids": [[80, 90, 60, 0], [70, 0, 0, 0]],
        "masked_lm_weights": [[1, 1, 1, 0], [1, 0, 0, 0]],
    }
    assert {name: matrix.tolist() for name, matrix in packed.items()} == expected
    # Single segments have no next-sentence prediction.
    packed = assemble_packed(
        wide, np.array([3, 5, 4]), np.array([[1, 2, -1], [0, -1, -1]]), 4, False
    )
    expected["next_sentence_weights"] = [[0, 0, 0], [0, 0, 0]]
    assert {name: matrix.tolist() for name, matrix in packed.items()} == expected


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize(
    ("probability", "max_predictions"), [(0.15, 20), (0.3, 4), (0.05, 20), (0.9, 20)]
)
@pytest.mark.parametrize(("length", "max_examples"), [(20, 3), (24, 4), (17, 9), (9, 2)])
def test_predictions_per_sequence_is_the_worst_case(
    length: int, max_examples: int, probability: float, max_predictions: int, next_sentence: bool
) -> None:
    record_settings = RecordSettings(
        length,
        max_predictions,
        masked_lm_prob=probability,
        next_sentence=next_sentence,
        packing=True,
        max_examples_per_pack=max_examples,
    )
    special, shortest = (3, 5) if next_sentence else (2, 3)
    worst = max(
        sum(
            min(max_predictions, max(1, round(size * probability)), size - special)
            for size in sizes
        )
        for number in range(1, max_examples + 1)
        for sizes in itertools.combinations_with_replacement(range(shortest, length + 1), number)
        if sum(sizes) <= length
    )
    assert record_settings.predictions_per_sequence() == worst


@pytest.mark.parametrize(
    ("max_seq_length", "change"),
    [
        (96, {"whole_word_mask": True}),
        (200, {"next_sentence": False, "masked_lm_prob": 0.3}),
        pytest.param(96, {}, marks=pytest.mark.slow),
        pytest.param(64, {"masking": "dynamic"}, marks=pytest.mark.slow),
        (300, {"max_predictions_per_seq": 7, "max_examples_per_pack": 18}),
    ],
)
def test_unpacking_returns_the_unpacked_examples(
    max_seq_length: int, change: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "BATCHES_PER_WINDOW", 2)  # several windows in a small shard
    tokens = some_tokens(300)
    given = {"max_predictions_per_seq": 20, "dupe_factor": 3, "max_examples_per_pack": 6, **change}
    unpacked_settings = RecordSettings(max_seq_length, **given)
    packed_settings = RecordSettings(max_seq_length, **given, packing=True)
    path = tmp_path / "unpacked.tfrecord"
    unpacked = shard.write_shard(path, tokens, unpacked_settings, VOCABULARY, 7, 0)
    examples = Counter(single_example(decode(record)) for record in read_records(path))
    path = tmp_path / "packed.tfrecord"
    packed = shard.write_shard(path, tokens, packed_settings, VOCABULARY, 7, 0)
    sequences = read_packed(path, packed_settings)
    assert Counter(itertools.chain.from_iterable(map(unpack, sequences))) == examples

    assert packed.examples == unpacked.examples == examples.total()
    assert packed.sequences == len(sequences) < unpacked.sequences
    for name in "tokens", "predictions", "masked_tokens", "random_next", "dropped_segments":
        assert getattr(packed, name) == getattr(unpacked, name)
    assert (packed.example_lengths == unpacked.example_lengths).all()
    lengths = [int((sequence["example_ids"] > 0).sum()) for sequence in sequences]
    histogram = np.bincount(lengths, minlength=max_seq_length + 1)
    assert packed.sequence_lengths.tolist() == histogram.tolist()
    # The sequences are shuffled: those of long examples are not all at the front.
    longest = [np.bincount(sequence["example_ids"])[1:].max() for sequence in sequences]
    middle = len(longest) // 2
    assert abs(np.mean(longest[:middle]) - np.mean(longest[middle:])) < 0.1 * np.mean(longest)


def test_more_than_255_examples_per_sequence() -> None:
    count = 300
    examples = {
        "input_ids": np.pad(np.ones((count, 3), np.int32), ((0, 0), (0, 3 * count - 3))),
        "segment_ids": np.zeros((count, 3 * count), np.uint8),
        "next_sentence_labels": np.zeros((count, 1), np.uint8),
    }
    packs = pack(np.full(count, 3), 3 * count, count)
    packed = assemble_packed(examples, np.full(count, 3), packs, 1, True)
    assert packed["example_ids"].tolist() == [np.arange(1, count + 1).repeat(3).tolist()]


def test_an_empty_shard_has_no_packed_records() -> None:
    tokens = some_tokens(0)
    record_settings = RecordSettings(32, 5, packing=True)
    nothing = VocabularyFacts(2, 3, 4, 10, np.zeros(10, dtype=bool))
    batches = list(shard.shard_records(tokens, record_settings, nothing, 1, 0))
    assert [data for data, _ in batches] == [b""]
