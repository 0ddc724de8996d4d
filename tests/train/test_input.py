"""Batches: every sequence once per epoch, equal after resuming, divided among workers."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records import tfrecord
from lib.records.manifest import Manifest, Split
from lib.train import input as batches_from
from lib.train.input import evaluation_batches, training_batches
from lib.train.mixture import Mixture
from tests.helpers.masking import VOCABULARY

LENGTH = 8


def write(
    folder: Path,
    file_sequences: list[int],
    masking: str = "static",
    inputs: tuple[str, ...] = (),
) -> Manifest:
    """Records of sequences of 7 tokens; each has its number as `segment_ids`."""
    for number, (sequences, start) in enumerate(
        zip(file_sequences, itertools.accumulate(file_sequences, initial=0), strict=False)
    ):
        numbers = np.arange(start, start + sequences, dtype=np.int32)[:, None]
        ids = np.tile(np.array([1, 4, 5, 6, 7, 8, 2, 0], np.int32), (sequences, 1))
        features = {
            "input_ids": ids,
            "input_mask": (ids > 0).view(np.uint8),
            # The number of the sequence, which only the test looks at.
            "segment_ids": np.repeat(numbers, LENGTH, axis=1),
        }
        if masking == "static":
            features |= {
                "masked_lm_positions": np.ones((sequences, 2), np.int32),
                "masked_lm_ids": np.ones((sequences, 2), np.int32),
                "masked_lm_weights": np.ones((sequences, 2), np.float32),
            }
        features["next_sentence_labels"] = np.zeros((sequences, 1), np.uint8)
        data = tfrecord.encode(features) if sequences else b""
        (folder / f"{number}.tfrecord").write_bytes(data)
    files = tuple(f"{number}.tfrecord" for number in range(len(file_sequences)))
    total, counts = sum(file_sequences), tuple(file_sequences)
    split = Split(total, total, masking, files, counts, file_inputs=inputs)  # type: ignore[arg-type]
    return Manifest(LENGTH, True, False, 1, 2, 0.3, 2, False, "", {"train": split})


def numbers(batch: dict[str, tf.Tensor]) -> list[int]:
    return batch["segment_ids"][:, 0].numpy().tolist()


def read(folder: Path, manifest: Manifest, count: int, **named: Any) -> list[list[int]]:
    """Numbers of the sequences in the first batches."""
    batches = training_batches(folder, manifest, VOCABULARY, seed=1, **named)
    return [numbers(batch) for batch in batches.take(count)]


runs = st.fixed_dictionaries(
    {
        "file_sequences": st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
        "batch_size": st.integers(1, 7),
        "buffer": st.integers(1, 12),
        "steps": st.integers(1, 20),
    }
)


@given(runs, st.data())
@settings(max_examples=6)
def test_batches_from_any_step_on_equal_those_of_an_uninterrupted_run(tmp_path_factory, run, data):
    folder = tmp_path_factory.mktemp("records")
    manifest = write(folder, run.pop("file_sequences"))
    steps, total = run["steps"], manifest.splits["train"].sequences
    whole = read(folder, manifest, steps, **run)
    assert [len(sequences) for sequences in whole] == [run["batch_size"]] * steps
    # Each epoch has each sequence exactly once.
    seen = [sequence for batch in whole for sequence in batch]
    for start in range(0, len(seen), total):
        epoch = seen[start : start + total]
        assert len(set(epoch)) == len(epoch) and set(epoch) <= set(range(total))
    first = data.draw(st.integers(0, steps - 1))
    assert read(folder, manifest, steps - first, **run, first_step=first) == whole[first:]
    # So do those of a phase that goes on in the order of another one, or has read other records.
    offset = first * run["batch_size"]
    assert read(folder, manifest, steps - first, **run, offset=offset) == whole[first:]
    replaced = read(folder, manifest, steps - first, **run, first_step=first, offset=-offset)
    assert replaced == whole[: steps - first]


@given(runs, st.data())
@settings(max_examples=6)
def test_a_mixture_takes_each_sequence_from_the_input_that_it_says(tmp_path_factory, run, data):
    folder = tmp_path_factory.mktemp("records")
    file_sequences = [*run.pop("file_sequences"), 3]
    owners = [data.draw(st.sampled_from("abc")) for _ in file_sequences[:-1]] + ["a"]
    manifest = write(folder, file_sequences, inputs=tuple(owners))
    input_of = [
        owner for owner, count in zip(owners, file_sequences, strict=True) for _ in range(count)
    ]
    weights = {name: data.draw(st.sampled_from([0.1, 0.3, 1.0])) for name in sorted({*input_of})}
    mixture, steps = Mixture(weights), run["steps"]
    run["batch_size"] *= 2
    whole = read(folder, manifest, steps, **run, mixture=mixture)
    order = [sequence for batch in whole for sequence in batch]
    expected = [mixture.names[number] for number in mixture.inputs(0, len(order))]
    assert [input_of[sequence] for sequence in order] == expected
    # Within an input each epoch has each sequence once.
    for name in mixture.names:
        own = [sequence for sequence in order if input_of[sequence] == name]
        total = input_of.count(name)
        for start in range(0, len(own), total):
            epoch = own[start : start + total]
            assert len(set(epoch)) == len(epoch)
    first = data.draw(st.integers(0, steps - 1))
    rest = read(folder, manifest, steps - first, **run, first_step=first, mixture=mixture)
    assert rest == whole[first:]
    both = [
        read(folder, manifest, steps, **run, mixture=mixture, worker=worker, workers=2)
        for worker in (0, 1)
    ]
    assert [a + b for a, b in zip(*both, strict=True)] == whole


@given(runs, st.integers(2, 3), st.data())
@settings(max_examples=3)
def test_workers_divide_the_sequences(tmp_path_factory, run, workers, data):
    folder = tmp_path_factory.mktemp("records")
    file_sequences = run.pop("file_sequences")
    manifest = write(folder, file_sequences)
    total, steps = sum(file_sequences), run["steps"]
    run["batch_size"] *= workers
    each = [
        read(folder, manifest, steps, **run, worker=worker, workers=workers)
        for worker in range(workers)
    ]
    own_size = run["batch_size"] // workers
    assert all(len(sequences) == own_size for own in each for sequences in own)
    if sum(sequences > 0 for sequences in file_sequences) >= workers:
        # Each has a part for itself and reads all of it equally often.
        parts = []
        for own in each:
            counts = Counter(itertools.chain.from_iterable(own))
            size = {-(-total // workers), total // workers}
            assert max(counts.values()) - min(counts.values()) <= 1
            if max(counts.values()) > 1:
                assert len(counts) in size
            parts.append(set(counts))
        assert sum(map(len, parts)) == len(set().union(*parts))
    else:
        alone = read(folder, manifest, steps, **run)
        assert [list(itertools.chain(*sequences)) for sequences in zip(*each, strict=True)] == alone
    first = data.draw(st.integers(0, steps - 1))
    worker = data.draw(st.integers(0, workers - 1))
    named = {"worker": worker, "workers": workers, "first_step": first}
    assert read(folder, manifest, steps - first, **run, **named) == each[worker][first:]
    named |= {"first_step": 0, "offset": first * run["batch_size"]}
    assert read(folder, manifest, steps - first, **run, **named) == each[worker][first:]


@pytest.mark.parametrize(("masking", "workers"), [("static", 2), ("dynamic", 1)])
def test_files_that_were_read_before_the_first_step_are_not_read_again(
    tmp_path, monkeypatch, masking, workers
):
    """An epoch of 8 files and 60 steps per worker; resumed at step 45, three are not needed."""
    manifest = write(tmp_path, [30] * 8 * workers, masking)
    run = {"batch_size": 4 * workers, "steps": 60, "buffer": 2, "seed": 3, "workers": workers}
    run["worker"] = workers - 1
    whole = list(training_batches(tmp_path, manifest, VOCABULARY, **run).take(60))
    counts = []
    original = batches_from._placeholders
    monkeypatch.setattr(
        batches_from, "_placeholders", lambda count: counts.append(count) or original(count)
    )
    for first in (20, 45):
        rest = training_batches(tmp_path, manifest, VOCABULARY, **run, first_step=first)
        for one, two in zip(rest.take(60 - first), whole[first:], strict=True):
            for name, values in one.items():
                assert np.array_equal(values, two[name]), name
    assert counts == [90]


def test_order_depends_on_seed_and_epoch(tmp_path):
    manifest = write(tmp_path, [30, 30, 30])
    orders = [
        numbers(batch)
        for seed in (1, 2)
        for batch in training_batches(
            tmp_path, manifest, VOCABULARY, batch_size=90, steps=2, buffer=20, seed=seed
        ).take(2)
    ]
    assert all(sorted(order) == list(range(90)) for order in orders)
    assert len(set(map(tuple, orders))) == 4
    # The order of files differs, too: another one is last.
    assert len({order[-1] // 30 for order in orders}) > 1


@pytest.mark.parametrize("workers", [1, 3])
def test_dynamic_masks_are_new_in_each_epoch_and_equal_after_resuming(tmp_path, workers):
    manifest = write(tmp_path, [20, 21], "dynamic")
    run = {"batch_size": 6, "steps": 28, "buffer": 8, "seed": 3, "workers": workers}

    def masks(first_step: int) -> list[list[tuple]]:
        """For each sequence of each batch its number, masked positions and masked ids."""
        batches = [
            training_batches(
                tmp_path, manifest, VOCABULARY, **run, first_step=first_step, worker=worker
            ).take(28 - first_step)
            for worker in range(workers)
        ]
        return [
            [
                (sequence, *positions, *ids)
                for batch in step
                for sequence, positions, ids in zip(
                    numbers(batch),
                    batch["masked_lm_positions"].numpy().tolist(),
                    batch["input_ids"].numpy().tolist(),
                    strict=True,
                )
            ]
            for step in zip(*batches, strict=True)
        ]

    whole = masks(0)
    assert masks(13) == whole[13:]
    by_sequence: dict[int, list] = {}
    for sequence, *mask in itertools.chain.from_iterable(whole):
        by_sequence.setdefault(sequence, []).append(tuple(mask))
    # Four times each; with few choices of positions, some masks come twice.
    assert np.mean([len(set(found)) / len(found) for found in by_sequence.values()]) > 0.8
    if workers == 3:  # more workers than files: together they are one
        run["workers"], workers = 1, 1
        assert masks(0) == whole


def test_batches_that_cannot_be_divided_equally_are_refused(tmp_path):
    manifest = write(tmp_path, [5])
    with pytest.raises(ValueError, match="`batch_size` 5 should be a multiple of 2 workers"):
        read(tmp_path, manifest, 1, batch_size=5, steps=1, buffer=1, workers=2)


@pytest.mark.parametrize("limit", [1, 5, 22, 23, 99])
def test_evaluation_reads_the_first_sequences_of_each_file_up_to_a_limit(tmp_path, limit):
    manifest = write(tmp_path, [7, 0, 16])
    batches = evaluation_batches(tmp_path, manifest, "train", 4, max_sequences=limit)
    found = [
        number
        for batch in batches
        for number, weight in zip(numbers(batch), batch["example_weights"].numpy(), strict=True)
        if weight
    ]
    assert len(found) == min(limit, 23)
    first = sum(number < 7 for number in found)
    assert abs(first - 7 * limit / 23) < 1 or limit > 23
    assert found == [*range(first), *range(7, 7 + len(found) - first)]


@pytest.mark.parametrize("batch_size", [4, 5, 23, 50])
def test_evaluation_reads_each_sequence_once_in_order(tmp_path, batch_size):
    manifest = write(tmp_path, [7, 0, 16])
    batches = list(evaluation_batches(tmp_path, manifest, "train", batch_size))
    assert all(len(numbers(batch)) == batch_size for batch in batches)
    weights = np.concatenate([batch["example_weights"] for batch in batches])
    assert weights.tolist() == [1] * 23 + [0] * (len(weights) - 23) and len(weights) < 23 + 50
    assert list(itertools.chain(*map(numbers, batches)))[:23] == list(range(23))


def test_shapes_are_static_and_types_as_the_model_needs_them(tmp_path):
    for masking in ("static", "dynamic"):
        manifest = write(tmp_path, [9], masking)
        batches = training_batches(
            tmp_path, manifest, VOCABULARY, batch_size=4, steps=2, buffer=3, seed=1
        )
        shapes = {
            name: (specification.shape.as_list(), specification.dtype)
            for name, specification in batches.element_spec.items()
        }
        assert shapes == {
            **{
                name: ([4, LENGTH], tf.int32) for name in ("input_ids", "input_mask", "segment_ids")
            },
            "masked_lm_positions": ([4, 2], tf.int32),
            "masked_lm_ids": ([4, 2], tf.int32),
            "masked_lm_weights": ([4, 2], tf.float32),
            "next_sentence_labels": ([4, 1], tf.int32),
            "example_weights": ([4], tf.float32),
        }
