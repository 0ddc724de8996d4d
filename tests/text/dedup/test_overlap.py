"""The overlap of held-out documents with training documents, against brute force."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.text.dedup import overlap as module
from lib.text.dedup.overlap import NEAR, Overlap, measure_overlap, sample
from lib.text.documents import format_document


def word_runs(text):
    words = re.findall("[a-z0-9]+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))} if words else {text}


def near_by_brute_force(held_out, training):
    near = []
    for document in held_out:
        own = word_runs(document)
        near.append(
            any(
                len(own & word_runs(other)) / len(own | word_runs(other)) >= NEAR
                for other in training
            )
        )
    return near


def encoded(documents):
    return [f"{document}\n".encode() for document in documents]


@st.composite
def corpora(draw):
    """Held-out documents, and training documents of which most are edits of those."""
    word = st.integers(0, draw(st.sampled_from([3, 30, 3000]))).map(lambda number: f"w{number}")
    held_out = draw(st.lists(st.lists(word, max_size=45), max_size=5))
    training = draw(st.lists(st.lists(word, max_size=45), max_size=3))
    for original in held_out:
        for _ in range(draw(st.integers(0, 3))):
            copy = list(original)
            for _ in range(draw(st.integers(0, 4))):
                place = draw(st.integers(0, len(copy)))
                edit = draw(st.sampled_from(["insert", "delete", "replace", "repeat"]))
                if edit == "repeat":
                    copy[place:place] = copy[: draw(st.integers(0, 5))]
                else:
                    copy[place : place + (edit != "insert")] = (
                        [] if edit == "delete" else [draw(word)]
                    )
            training.append(copy)
    training = draw(st.permutations(training))
    return [" ".join(words) for words in held_out], [" ".join(words) for words in training]


@settings(max_examples=200, deadline=None)
@given(corpora(), st.lists(st.integers(0, 20), max_size=3))
def test_near_twins_equal_brute_force_whatever_the_batches(corpus, cuts):
    held_out, training = corpus
    expected = near_by_brute_force(held_out, training)
    cuts = sorted(min(cut, len(training)) for cut in cuts)
    parts = [training[first:past] for first, past in pairwise([0, *cuts, len(training)])]

    one = Overlap(encoded(held_out))
    for part in parts:
        one.see(encoded(part))
    assert one.near.tolist() == expected

    joined = np.zeros(len(held_out), bool)
    for part in reversed(parts):
        other = Overlap(encoded(held_out))
        other.see(iter(encoded(part)))
        joined |= other.near
    assert joined.tolist() == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_overlap_is_measured_over_all_shards(tmp_path, workers):
    texts = [[f"Text number {n} is here.", f"It ends {n} with {n * n}."] for n in range(60)]
    twins = [[text[0].upper(), text[1]] for text in texts[:7]]
    for name, documents in {
        "train/00000.txt": texts[:3],
        "train/00001.txt": texts[3:40],
        "test/00000.txt": texts[40:50],
        "test/00001.txt": [*twins, *texts[50:]],
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"".join(map(format_document, map("\n".join, documents))))
    (tmp_path / "work").mkdir()
    found = measure_overlap(tmp_path, ["test"], 1, tmp_path / "work", workers)["test"]
    assert found == {"documents": 27, "near_duplicates": 7, "fraction": 7 / 27}


def test_a_similarity_of_exactly_the_bound_is_near():
    # For each size with a whole number of shingles at 0.8: that many in common, then one fewer.
    for size in range(5, 200, 5):
        words = [f"w{number}" for number in range(size + 2)]
        shared = size * 4 // 5
        for common, near in ((shared, True), (shared - 1, False)):
            overlap = Overlap(encoded([" ".join(words)]))
            overlap.see(encoded([" ".join(words[: common + 2])]))
            assert overlap.near.tolist() == [near]


def test_long_batches_and_templates_change_memory_and_sample_only(monkeypatch):
    # All share most of their shingles, so that each passes the filter for each.
    words = [f"w{number}" for number in range(30)]
    generator = np.random.default_rng(3)
    documents = []
    for _ in range(700):
        copy = list(words)
        for place in generator.integers(0, 30, 2):
            copy[place] = f"x{generator.integers(40)}"
        documents.append(" ".join(copy))
    held_out, training = documents[:400], documents[400:]
    overlap = Overlap(encoded(held_out))
    used = len(overlap.near)
    assert 200 <= used < 400
    assert len(Overlap(encoded(held_out[:200])).near) == 200
    overlap.see(encoded(training))
    expected = near_by_brute_force(held_out[:used], training)
    assert overlap.near.tolist() == expected
    assert 0 < sum(expected) < used
    monkeypatch.setattr(module, "_MOST_HITS", 500)
    other = Overlap(encoded(held_out))
    other.see(encoded(training))
    assert other.near.tolist() == expected


def test_twins_in_other_languages_and_without_words():
    held_out = ["今天天气很好，我们去公园玩吧。", "!!!", "Ok", "سلام دنیا", "unique enough here"]
    training = ["今天天气很好我们去公园玩吧", "???", "ok.", "سلام، دنیا", "something else here"]
    overlap = Overlap(encoded(held_out))
    overlap.see(encoded(training))
    assert overlap.near.tolist() == [True, False, True, True, False]


@given(
    st.lists(st.binary(max_size=12), max_size=40, unique=True), st.randoms(use_true_random=False)
)
def test_a_sample_depends_on_the_documents_only(documents, shuffler):
    shuffled = list(documents)
    shuffler.shuffle(shuffled)
    assert sample(iter(documents), 1) == sample(shuffled, 1)
    assert sorted(sample(documents, 1)) == sorted(documents)


@given(
    st.lists(st.binary(min_size=1, max_size=12), max_size=40, unique=True),
    st.randoms(use_true_random=False),
    st.integers(1, 12),
    st.integers(1, 60),
)
def test_a_sample_is_the_beginning_of_one_fixed_order(documents, shuffler, count, size):
    order = sample(documents, 1)
    expected = []
    for document in order:
        if expected and (len(expected) == count or sum(map(len, [*expected, document])) > size):
            break
        expected.append(document)
    shuffler.shuffle(documents)
    previous = module.SAMPLE_DOCUMENTS, module.SAMPLE_BYTES
    module.SAMPLE_DOCUMENTS, module.SAMPLE_BYTES = count, size
    try:
        assert sample(documents, 1) == expected
    finally:
        module.SAMPLE_DOCUMENTS, module.SAMPLE_BYTES = previous


def test_a_sample_is_fair_and_keyed_by_the_seed():
    documents = [f"document {number}\n".encode() for number in range(20_000)]
    chosen = [{int(document.split()[1]) for document in sample(documents, seed)} for seed in (1, 2)]
    assert [len(numbers) for numbers in chosen] == [2000, 2000]
    # Expected in both: 200, with a standard deviation below 14.
    assert abs(len(chosen[0] & chosen[1]) - 200) < 70
    # In the first half: 1,000, with a standard deviation below 23.
    assert abs(sum(number < 10_000 for number in chosen[0]) - 1000) < 115
