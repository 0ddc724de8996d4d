"""Overlap of held-out documents with training documents, compared with brute force."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.text.dedup import overlap as module
from lib.text.dedup.overlap import MIN_SIMILARITY, Overlap, draw_sample, measure_overlap
from lib.text.dedup.shingles import shingles
from lib.text.documents import format_document
from tests.helpers.similarity import jaccard, word_runs


def found_by_brute_force(held_out, training):
    sets = [word_runs(document) for document in training]
    return [
        any(jaccard(word_runs(document), other) >= MIN_SIMILARITY for other in sets)
        for document in held_out
    ]


def encoded(documents):
    return [f"{document}\n".encode() for document in documents]


def update(overlap, training):
    for hashes, offsets in shingles(training):
        overlap.update(hashes, offsets)


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
                position = draw(st.integers(0, len(copy)))
                edit = draw(st.sampled_from(["insert", "delete", "replace", "repeat"]))
                if edit == "repeat":
                    copy[position:position] = copy[: draw(st.integers(0, 5))]
                else:
                    copy[position : position + (edit != "insert")] = (
                        [] if edit == "delete" else [draw(word)]
                    )
            training.append(copy)
    training = draw(st.permutations(training))
    return [" ".join(words) for words in held_out], [" ".join(words) for words in training]


@settings(max_examples=200)
@given(corpora(), st.lists(st.integers(0, 20), max_size=3))
def test_near_duplicates_equal_brute_force_for_any_batches(corpus, cuts):
    held_out, training = corpus
    expected = found_by_brute_force(held_out, training)
    cuts = sorted(min(cut, len(training)) for cut in cuts)
    parts = [training[first:past] for first, past in pairwise([0, *cuts, len(training)])]

    one = Overlap(encoded(held_out))
    for part in parts:
        update(one, encoded(part))
    assert one.found.tolist() == expected

    joined = np.zeros(len(held_out), bool)
    for part in reversed(parts):
        other = Overlap(encoded(held_out))
        update(other, iter(encoded(part)))
        joined |= other.found
    assert joined.tolist() == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_overlap_is_measured_over_all_shards(tmp_path, workers):
    texts = [[f"Text number {n} is here.", f"It ends {n} with {n * n}."] for n in range(60)]
    near_duplicates = [[text[0].upper(), text[1]] for text in texts[:7]]
    for name, documents in {
        "train/00000.txt": texts[:3],
        "train/00001.txt": texts[3:40],
        "test/00000.txt": texts[40:50],
        "test/00001.txt": [*near_duplicates, *texts[50:]],
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"".join(map(format_document, map("\n".join, documents))))
    (tmp_path / "work").mkdir()
    found = measure_overlap(tmp_path, ["test"], 1, tmp_path / "work", workers)["test"]
    assert found == {"documents": 27, "near_duplicates": 7, "fraction": 7 / 27}


def test_documents_exactly_at_the_threshold_are_near_duplicates():
    # For each size of which 0.8 is a whole number of shingles: that many in common, then one fewer.
    for size in range(5, 200, 5):
        words = [f"w{number}" for number in range(size + 2)]
        shared = size * 4 // 5
        for common, expected in ((shared, True), (shared - 1, False)):
            overlap = Overlap(encoded([" ".join(words)]))
            update(overlap, encoded([" ".join(words[: common + 2])]))
            assert overlap.found.tolist() == [expected]


def test_batches_change_only_memory_and_templates_only_the_sample(monkeypatch):
    # All share most of their shingles, so that all pairs pass the filter.
    words = [f"w{number}" for number in range(30)]
    generator = np.random.default_rng(3)
    documents = []
    for _ in range(700):
        copy = list(words)
        for position in generator.integers(0, 30, 2):
            copy[position] = f"x{generator.integers(40)}"
        documents.append(" ".join(copy))
    held_out, training = documents[:400], documents[400:]
    overlap = Overlap(encoded(held_out))
    used = len(overlap.found)
    assert 200 <= used < 400
    assert len(Overlap(encoded(held_out[:200])).found) == 200
    update(overlap, encoded(training))
    expected = found_by_brute_force(held_out[:used], training)
    assert overlap.found.tolist() == expected
    assert 0 < sum(expected) < used
    monkeypatch.setattr(module, "_MAX_MATCHES", 500)
    other = Overlap(encoded(held_out))
    update(other, encoded(training))
    assert other.found.tolist() == expected


def test_near_duplicates_in_other_languages_and_without_words():
    held_out = ["今天天气很好，我们去公园玩吧。", "!!!", "Ok", "سلام دنیا", "unique enough here"]
    training = ["今天天气很好我们去公园玩吧", "???", "ok.", "سلام، دنیا", "something else here"]
    overlap = Overlap(encoded(held_out))
    update(overlap, encoded(training))
    assert overlap.found.tolist() == [True, False, True, True, False]


@given(
    st.lists(st.binary(max_size=12), max_size=40, unique=True), st.randoms(use_true_random=False)
)
def test_a_sample_depends_on_the_documents_only(documents, shuffler):
    shuffled = list(documents)
    shuffler.shuffle(shuffled)
    assert draw_sample(iter(documents), 1) == draw_sample(shuffled, 1)
    assert sorted(draw_sample(documents, 1)) == sorted(documents)


@given(
    st.lists(st.binary(min_size=1, max_size=12), max_size=40, unique=True),
    st.randoms(use_true_random=False),
    st.integers(1, 12),
    st.integers(1, 60),
)
def test_a_sample_is_the_beginning_of_a_fixed_order(documents, shuffler, count, size):
    order = draw_sample(documents, 1)
    expected = []
    for document in order:
        if expected and (len(expected) == count or sum(map(len, [*expected, document])) > size):
            break
        expected.append(document)
    shuffler.shuffle(documents)
    previous = module.SAMPLE_DOCUMENTS, module.SAMPLE_BYTES
    module.SAMPLE_DOCUMENTS, module.SAMPLE_BYTES = count, size
    try:
        assert draw_sample(documents, 1) == expected
    finally:
        module.SAMPLE_DOCUMENTS, module.SAMPLE_BYTES = previous


def test_a_sample_is_uniform_and_depends_on_the_seed():
    documents = [f"document {number}\n".encode() for number in range(20_000)]
    chosen = [
        {int(document.split()[1]) for document in draw_sample(documents, seed)} for seed in (1, 2)
    ]
    assert [len(numbers) for numbers in chosen] == [2000, 2000]
    # Expected in both: 200, with a standard deviation below 14.
    assert abs(len(chosen[0] & chosen[1]) - 200) < 70
    # In the first half: 1,000, with a standard deviation below 23.
    assert abs(sum(number < 10_000 for number in chosen[0]) - 1000) < 115
