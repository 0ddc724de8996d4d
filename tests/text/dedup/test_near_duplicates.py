"""MinHash signatures, and the documents dropped as near duplicates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.text.dedup import near_duplicates as module
from lib.text.dedup.near_duplicates import (
    SLOTS,
    SignatureTask,
    near_duplicates,
    slots_per_band,
    write_signatures,
)
from lib.text.documents import format_document
from tests.helpers.similarity import jaccard, word_runs


def signatures(documents):
    return np.concatenate([np.zeros((0, SLOTS), np.uint16), *module.signatures(documents)])


def test_signatures_are_written_next_to_the_text(tmp_path):
    texts = [format_document(f"A text of number {number}.\nNot long.") for number in range(99)]
    (tmp_path / "x.txt").write_bytes(b"".join(texts))
    task = SignatureTask(tmp_path / "x.txt", len(texts), "code")
    write_signatures(task)
    assert np.array_equal(np.load(task.target), signatures(texts))


@given(st.lists(st.text(max_size=30), max_size=12), st.integers(0, 12))
def test_signatures_do_not_depend_on_batches(texts, cut):
    documents = [text.encode() for text in texts]
    signed = signatures(documents)
    assert signed.shape == (len(texts), SLOTS)
    assert signed.dtype == np.uint16
    parts = np.concatenate([signatures(documents[:cut]), signatures(documents[cut:])])
    np.testing.assert_array_equal(parts, signed)


def test_agreeing_slots_estimate_the_jaccard_similarity():
    generator = np.random.default_rng(5)
    documents, exact = [], []
    for changed in (0, 1, 4, 12, 40, 100):
        for _ in range(60):
            words = generator.integers(0, 10**9, 100)
            other = words.copy()
            other[generator.permutation(100)[:changed]] = generator.integers(0, 10**9, changed)
            texts = [" ".join(map(str, each)) for each in (words, other)]
            documents += [text.encode() for text in texts]
            exact.append(jaccard(*map(word_runs, texts)))
    signed = signatures(documents)
    similarity = np.array(exact)
    errors = (signed[0::2] == signed[1::2]).mean(axis=1) - similarity
    deviations = np.sqrt(similarity * (1 - similarity) / SLOTS)
    assert np.all(np.abs(errors) <= 5 * deviations)
    # Over all pairs the estimate is unbiased.
    assert abs(errors.sum()) <= 4 * np.sqrt((deviations**2).sum())


def test_half_of_each_hash_is_enough():
    # Documents without a common word agree in hardly any slot, short or long.
    generator = np.random.default_rng(6)
    for size in (1, 4, 30, 3000):
        documents = [
            " ".join(map(str, generator.integers(0, 10**12, size))).encode() for _ in range(50)
        ]
        signed = signatures(documents)
        agreeing = [(signed[i] == signed[j]).mean() for i in range(50) for j in range(i)]
        assert np.mean(agreeing) < 1e-3


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_pairs_at_the_threshold_share_a_bucket(threshold):
    width = slots_per_band(threshold)
    slots = np.random.default_rng(1).random((20_000, SLOTS // width, width)) < threshold
    assert slots.all(axis=2).any(axis=1).mean() >= 0.985


def save(folder, tables):
    paths = []
    for number, table in enumerate(tables):
        paths.append(folder / f"{number}.npy")
        np.save(paths[-1], table)
    return paths


@st.composite
def signature_tables(draw):
    """A few families of signatures with some slots changed, as likely to be similar as not."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    families = generator.integers(0, 1 << 16, (draw(st.integers(1, 4)), SLOTS), np.uint16)
    count = draw(st.integers(0, 30))
    signed = families[generator.integers(0, len(families), count)]
    noise = generator.random((count, SLOTS)) < generator.choice([0, 0.02, 0.1, 0.3], (count, 1))
    signed = np.where(noise, generator.integers(0, 1 << 16, signed.shape, np.uint16), signed)
    mask = generator.random(count) < draw(st.sampled_from([1.0, 0.8]))
    return signed.astype(np.uint16), mask


@settings(max_examples=40)
@given(
    signature_tables(),
    st.sampled_from([0.5, 0.8, 0.9, 1.0]),
    st.lists(st.integers(0, 40), max_size=3),
    st.sampled_from([(30, 3, 1), (7, 20, 5), (30, 100, 7)]),
)
def test_the_first_of_each_group_is_kept(tmp_path_factory, table, threshold, cuts, sizes):
    signed, mask = table
    folder = tmp_path_factory.mktemp("tables")
    [left] = near_duplicates(save(folder, [signed]), [mask], threshold)

    # The definition, pair by pair.
    width = slots_per_band(threshold)
    similar = (signed[:, None] == signed).mean(axis=2) >= threshold
    bands = (signed[:, None] == signed)[:, :, : SLOTS // width * width]
    bucket = bands.reshape(len(signed), len(signed), SLOTS // width, width).all(axis=3).any(axis=2)
    similar &= bucket & mask & mask[:, None]
    earlier = np.tri(len(signed), k=-1, dtype=bool)
    assert not np.any(similar & earlier & left & left[:, None])
    assert np.all((similar & earlier).any(axis=1)[mask & ~left])
    assert np.array_equal(left & ~mask, np.zeros(len(signed), bool))

    # The result depends neither on the division into tables nor on what is in memory at once.
    cuts = sorted(min(cut, len(signed)) for cut in cuts)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_READ", "_SORTED", "_BATCH"), sizes, strict=True):
            patch.setattr(module, f"{name}_DOCUMENTS", size)
        patch.setattr(module, "_COMPARED_DOCUMENTS", 3)
        parts = near_duplicates(
            save(folder, np.split(signed, cuts)), np.split(mask, cuts), threshold
        )
    assert [len(part) for part in parts] == [len(part) for part in np.split(signed, cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), left)


def test_a_dissimilar_document_in_the_bucket_does_not_hide_a_pair(tmp_path):
    # The second and the third agree in two of any three slots, and in all three of one band only,
    # which they share with the first.
    assert slots_per_band(0.5) == 3
    signed = np.random.default_rng(2).integers(0, 1 << 16, (3, SLOTS), np.uint16)
    signed[2, np.arange(SLOTS) % 3 > 0] = signed[1, np.arange(SLOTS) % 3 > 0]
    signed[:, 6:9] = 7
    [left] = near_duplicates(save(tmp_path, [signed]), [np.ones(3, bool)], 0.5)
    assert left.tolist() == [True, True, False]


def test_large_buckets_of_dissimilar_documents_do_not_depend_on_batches(tmp_path, monkeypatch):
    # A bucket of documents with nothing else in common; each occurs again with some slots changed.
    monkeypatch.setattr(module, "_LEADERS", 5)
    generator = np.random.default_rng(4)
    signed = generator.integers(0, 1 << 16, (12, SLOTS), np.uint16)
    signed[:, :12] = 7
    again = np.repeat(signed, 3, axis=0)
    again[:, 12:24] = generator.integers(0, 1 << 16, (36, 12), np.uint16)
    signed = np.concatenate((signed, again[generator.permutation(36)]))
    paths, masks = save(tmp_path, [signed]), [np.ones(len(signed), bool)]
    [left] = near_duplicates(paths, masks, 0.8)
    assert left.tolist() == [True] * 12 + [False] * 36  # found in other buckets
    for batch in (1, 4, 9):
        monkeypatch.setattr(module, "_BATCH_DOCUMENTS", batch)
        [same] = near_duplicates(paths, masks, 0.8)
        np.testing.assert_array_equal(same, left)


def test_similar_documents_are_dropped_and_others_kept(tmp_path):
    words = [f"word{number}" for number in range(60)]
    changed = [*words[:30], "other", *words[31:]]
    documents = [
        " ".join(words),
        "nothing like the others at all",
        " ".join(changed),  # similarity 55 / 61
        " ".join(words[:30]),  # about one half
        "Nothing like the others, at all!",
        "short",
        "Short.",
        "...",
        "!!!",
    ]
    table = signatures(f"{document}\n".encode() for document in documents)
    [left] = near_duplicates(save(tmp_path, [table]), [np.ones(len(table), bool)], 0.8)
    assert left.tolist() == [True, True, False, True, False, True, False, True, True]
    [left] = near_duplicates(save(tmp_path, [table]), [np.ones(len(table), bool)], 1.0)
    assert left.tolist() == [True, True, True, True, False, True, False, True, True]


def test_no_documents(tmp_path):
    assert near_duplicates([], [], 0.8) == []
    empty = signatures([])
    assert empty.shape == (0, SLOTS)
    [left] = near_duplicates(save(tmp_path, [empty]), [np.zeros(0, bool)], 0.8)
    assert left.shape == (0,)
