"""Packing: every example once, rows as full as they can be, and unpacking gives it all back."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records import shard
from lib.records.masking import VocabularyFacts
from lib.records.packed_sequences import assemble_packed
from lib.records.packing import pack
from lib.records.settings import RecordSettings
from lib.records.tfrecord_reader import decode, read_records
from tests.records.test_tfrecord import VOCABULARY, some_tokens

tf = pytest.importorskip("tensorflow")

Example = tuple[tuple[int, ...], ...]


@st.composite
def lengths_to_pack(draw: st.DrawFn) -> tuple[list[int], int, int]:
    capacity = draw(st.integers(1, 60))
    lengths = draw(st.lists(st.integers(1, capacity), max_size=80))
    return lengths, capacity, draw(st.integers(1, 9))


@given(lengths_to_pack())
@settings(max_examples=300, deadline=None)
def test_every_example_is_in_one_row_that_holds_it(case: tuple[list[int], int, int]) -> None:
    lengths, capacity, most = case
    packs = pack(np.array(lengths, dtype=np.int64), capacity, most)
    assert packs.shape[1] == most
    rows = [[number for number in row if number >= 0] for row in packs.tolist()]
    assert sorted(itertools.chain.from_iterable(rows)) == list(range(len(lengths)))
    for row, padded in zip(rows, packs.tolist(), strict=True):
        assert row and padded == row + [-1] * (most - len(row))
        assert sum(lengths[number] for number in row) <= capacity
    # No two rows could be one.
    if most > 1 and len(rows) > 1:
        sizes = sorted(
            (sum(lengths[number] for number in row), row) for row in rows if len(row) <= most // 2
        )
        assert len(sizes) < 2 or sizes[0][0] + sizes[1][0] > capacity


@given(
    st.integers(4, 128),
    st.lists(st.lists(st.integers(1, 1000), max_size=2), min_size=1, max_size=120),
)
@settings(max_examples=100, deadline=None)
def test_what_was_cut_from_full_rows_is_packed_nearly_as_well(
    capacity: int, cuts: list[list[int]]
) -> None:
    lengths = []
    for row in cuts:
        edges = sorted({0, capacity, *(1 + cut % (capacity - 1) for cut in row)})
        lengths += [stop - start for start, stop in itertools.pairwise(edges)]
    rows = len(pack(np.array(lengths), capacity, 12))
    assert len(cuts) <= rows <= 1.25 * len(cuts) + 1


def test_rows_of_short_texts_are_full() -> None:
    """Lengths as tweets have them, where leaving the smallest gap first leaves 1.5 % empty."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(3.5, 0.45, 20_000).astype(np.int64), 5, 96)
    packs = pack(lengths, 96, 6)
    assert lengths.sum() / (len(packs) * 96) > 0.99


def test_packing_is_a_function_of_the_lengths() -> None:
    lengths = np.random.default_rng(1).integers(5, 97, 3000)
    assert (pack(lengths, 96, 6) == pack(lengths.copy(), 96, 6)).all()
    assert len(pack(np.zeros(0, dtype=np.int64), 96, 6)) == 0


def test_rows_hold_the_examples_with_their_own_positions() -> None:
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
    # Of single segments no pair is to be learnt.
    packed = assemble_packed(
        wide, np.array([3, 5, 4]), np.array([[1, 2, -1], [0, -1, -1]]), 4, False
    )
    expected["next_sentence_weights"] = [[0, 0, 0], [0, 0, 0]]
    assert {name: matrix.tolist() for name, matrix in packed.items()} == expected


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize(("probability", "most"), [(0.15, 20), (0.3, 4), (0.05, 20), (0.9, 20)])
@pytest.mark.parametrize(("length", "packed"), [(20, 3), (24, 4), (17, 9), (9, 2)])
def test_room_for_predictions_is_what_the_worst_row_needs(
    length: int, packed: int, probability: float, most: int, next_sentence: bool
) -> None:
    wanted = RecordSettings(
        length,
        most,
        masked_lm_prob=probability,
        next_sentence=next_sentence,
        packing=True,
        max_examples_per_pack=packed,
    )
    special, shortest = (3, 5) if next_sentence else (2, 3)
    worst = max(
        sum(min(most, max(1, round(size * probability)), size - special) for size in sizes)
        for number in range(1, packed + 1)
        for sizes in itertools.combinations_with_replacement(range(shortest, length + 1), number)
        if sum(sizes) <= length
    )
    assert wanted.predictions_per_sequence() == worst


def unpacked_examples(row: dict[str, np.ndarray]) -> list[Example]:
    """The examples of a packed row, each checked: tokens, segments, masks, label."""
    found = []
    number = int(row["example_ids"].max())
    present = row["next_sentence_weights"].tolist()
    assert present in ([1] * number + [0] * (len(present) - number), [0] * len(present))
    assert (sum(present) > 0) == bool(row["segment_ids"].any())
    assert not row["cls_positions"][number:].any()
    assert not row["next_sentence_labels"][number:].any()
    assert sorted(set(row["example_ids"].tolist()) - {0}) == list(range(1, number + 1))
    for name in "input_ids", "segment_ids", "position_ids":
        assert not row[name][row["example_ids"] == 0].any()
    if "masked_lm_weights" in row:
        real = row["masked_lm_weights"] == 1
        assert not real[int(real.sum()) :].any()
        positions = row["masked_lm_positions"][real]
        assert not row["masked_lm_positions"][~real].any()
        assert not row["masked_lm_ids"][~real].any()
    for index in range(number):
        cells = np.flatnonzero(row["example_ids"] == index + 1)
        assert cells[0] == row["cls_positions"][index]
        assert row["position_ids"][cells].tolist() == list(range(len(cells)))
        assert (np.diff(cells) == 1).all()
        example = [
            tuple(row["input_ids"][cells].tolist()),
            tuple(row["segment_ids"][cells].tolist()),
            (int(row["next_sentence_labels"][index]),),
        ]
        if "masked_lm_weights" in row:
            own = (positions >= cells[0]) & (positions <= cells[-1])
            example += [
                tuple((positions[own] - cells[0]).tolist()),
                tuple(row["masked_lm_ids"][real][own].tolist()),
            ]
        found.append(tuple(example))
    if "masked_lm_weights" in row:
        assert sum(len(example[3]) for example in found) == len(positions)
    return found


def single_example(row: dict[str, np.ndarray]) -> Example:
    """The example of an unpacked row in the same form."""
    length = int(row["input_mask"].sum())
    example = [
        tuple(row["input_ids"][:length].tolist()),
        tuple(row["segment_ids"][:length].tolist()),
        tuple(row["next_sentence_labels"].tolist()),
    ]
    if "masked_lm_weights" in row:
        real = row["masked_lm_weights"] == 1
        example += [
            tuple(row["masked_lm_positions"][real].tolist()),
            tuple(row["masked_lm_ids"][real].tolist()),
        ]
    return tuple(example)


@pytest.mark.parametrize(
    ("max_seq_length", "change"),
    [
        (96, {}),
        (96, {"whole_word_mask": True}),
        (200, {"next_sentence": False, "masked_lm_prob": 0.3}),
        (64, {"masking": "dynamic"}),
        (300, {"max_predictions_per_seq": 7, "max_examples_per_pack": 18}),
    ],
)
def test_unpacking_gives_the_unpacked_examples(
    max_seq_length: int, change: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "BATCHES_PER_WINDOW", 2)  # several windows in a small shard
    tokens = some_tokens(300)
    given = {"max_predictions_per_seq": 20, "dupe_factor": 3, "max_examples_per_pack": 6, **change}
    plain = RecordSettings(max_seq_length, **given)
    packed = RecordSettings(max_seq_length, **given, packing=True)
    single = shard.write_shard(tmp_path / "single.tfrecord", tokens, plain, VOCABULARY, 7, 0)
    path = tmp_path / "packed.tfrecord"
    several = shard.write_shard(path, tokens, packed, VOCABULARY, 7, 0)

    rows = parsed_packed(path, packed)
    unpacked = Counter(itertools.chain.from_iterable(map(unpacked_examples, rows)))
    assert unpacked == Counter(
        single_example(decode(record)) for record in read_records(tmp_path / "single.tfrecord")
    )
    assert several.examples == single.examples == unpacked.total()
    assert several.sequences == len(rows) < single.sequences
    for name in "tokens", "predictions", "masked_tokens", "random_next", "dropped_segments":
        assert getattr(several, name) == getattr(single, name)
    assert (several.example_lengths == single.example_lengths).all()
    filled = [int((row["example_ids"] > 0).sum()) for row in rows]
    assert (
        several.sequence_lengths.tolist()
        == np.bincount(filled, minlength=max_seq_length + 1).tolist()
    )
    # Sequences are shuffled: those of long examples are not all in front.
    longest = [np.bincount(row["example_ids"])[1:].max() for row in rows]
    middle = len(longest) // 2
    assert abs(np.mean(longest[:middle]) - np.mean(longest[middle:])) < 0.1 * np.mean(longest)


def parsed_packed(path: Path, wanted: RecordSettings) -> list[dict[str, np.ndarray]]:
    """All rows of a packed file as TensorFlow parses them, with static shapes."""
    cells, examples = wanted.max_seq_length, wanted.examples_per_sequence
    sizes = {
        **dict.fromkeys(["input_ids", "segment_ids", "position_ids", "example_ids"], cells),
        **dict.fromkeys(["cls_positions", "next_sentence_labels"], examples),
    }
    floats = {"next_sentence_weights": examples}
    if wanted.masking == "static":
        predictions = wanted.predictions_per_sequence()
        sizes |= dict.fromkeys(["masked_lm_positions", "masked_lm_ids"], predictions)
        floats["masked_lm_weights"] = predictions
    specification = {
        **{name: tf.io.FixedLenFeature([size], tf.int64) for name, size in sizes.items()},
        **{name: tf.io.FixedLenFeature([size], tf.float32) for name, size in floats.items()},
    }
    serialized = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert decode(serialized[0]).keys() == specification.keys()  # and nothing else
    batch = {
        name: value.numpy()
        for name, value in tf.io.parse_example(serialized, specification).items()
    }
    return [
        {name: values[number] for name, values in batch.items()}
        for number in range(len(serialized))
    ]


def test_more_examples_in_a_row_than_a_byte_can_count() -> None:
    count = 300
    examples = {
        "input_ids": np.pad(np.ones((count, 3), np.int32), ((0, 0), (0, 3 * count - 3))),
        "segment_ids": np.zeros((count, 3 * count), np.uint8),
        "next_sentence_labels": np.zeros((count, 1), np.uint8),
    }
    packs = pack(np.full(count, 3), 3 * count, count)
    packed = assemble_packed(examples, np.full(count, 3), packs, 1, True)
    assert packed["example_ids"].tolist() == [np.arange(1, count + 1).repeat(3).tolist()]


def test_an_empty_shard_has_no_packs() -> None:
    tokens = some_tokens(0)
    wanted = RecordSettings(32, 5, packing=True)
    nothing = VocabularyFacts(2, 3, 4, 10, np.zeros(10, dtype=bool))
    blocks = list(shard.shard_records(tokens, wanted, nothing, 1, 0))
    assert [data for data, _ in blocks] == [b""]
