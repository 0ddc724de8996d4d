"""Sequences with masked words: every model predicts the same words, and none is lost."""

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.evaluation.masked_words import WordFinder, masked_words
from lib.evaluation.sequences import MaskedWordSequences, first_documents, spelling_bits
from tests.helpers.held_out import (
    LARGE,
    PROBABILITY,
    SEED,
    SMALL,
    all_batches,
    make_tokenizer,
    read_documents,
    write_shard,
)


def masked_by_the_rule(shards: list[Path], max_sentences: int = 10**6) -> list[tuple[int, str]]:
    """(document, word) of every masked word, from the text alone: words are \\w+ or a dot here."""
    found = []
    for number, sentences in enumerate(read_documents(shards)):
        whole = "".join(f"{sentence}\n" for sentence in sentences).encode()
        taken = sentences[:max_sentences]
        words = [word for sentence in taken for word in re.findall(r"\w+|\.", sentence)]
        max_sentences -= len(taken)
        masked = masked_words(whole, len(words), PROBABILITY, SEED)
        found += [(number, word) for word, mask in zip(words, masked, strict=True) if mask]
    return found


@pytest.mark.parametrize("tokenizer", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("length", [12, 32, 128])
@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
def test_every_vocabulary_length_and_layout_has_the_same_masked_words(
    shards, tokenizer, length, pairs
):
    sequences = MaskedWordSequences(tokenizer, length, PROBABILITY, SEED, pairs)
    found = []
    for batch in all_batches(sequences, shards):
        tokens: dict[int, list[str]] = {}
        for number, label in zip(batch.words.flat, batch.labels.flat, strict=True):
            if number >= 0:
                tokens.setdefault(int(number), []).append(tokenizer.vocabulary[label])
        words = ["".join(tokens[n]).replace("##", "") for n in range(len(batch.documents))]
        assert [len(word) for word in words] == batch.characters.tolist()
        found += zip(batch.documents.tolist(), words, strict=True)
    expected = masked_by_the_rule(shards)
    if tokenizer is LARGE:
        expected = [(number, word.lower()) for number, word in expected]
    assert found == expected
    counts = sequences.counts
    assert counts["words"] == len(expected) and counts["documents"] == 120
    assert not counts["masked_words_too_long"] + counts["unknown_words"]


@given(
    st.lists(
        st.lists(st.text("ab .Z中é\u0301\u200d", min_size=1, max_size=60), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([8, 16]),
    st.booleans(),
)
@settings(max_examples=60)
def test_every_masked_word_is_evaluated_or_counted(tmp_path_factory, documents, length, lowercase):
    documents = [[line for line in lines if line.strip()] for lines in documents]
    documents = [lines for lines in documents if lines]
    if not documents:
        return
    path = write_shard(tmp_path_factory.mktemp("any"), ["\n".join(lines) for lines in documents])
    finder, expected = WordFinder(), 0
    for lines in documents:
        words = sum(len(finder.words(line)) for line in lines)
        whole = "".join(f"{line}\n" for line in lines).encode()
        expected += int(masked_words(whole, words, 0.5, SEED).sum())
    tokenizer, found = LARGE if lowercase else SMALL, []
    for pairs in (False, True):
        sequences = MaskedWordSequences(tokenizer, length, 0.5, SEED, pairs)
        labels = [batch.labels[batch.words >= 0] for batch in all_batches(sequences, [path])]
        counts = sequences.counts
        left_out = counts["masked_words_too_long"] + counts["masked_words_without_tokens"]
        assert counts["words"] + left_out == expected
        found.append(np.concatenate([*labels, []]).tolist())
    # Even a word that fills a single segment, but not a pair.
    assert found[0] == found[1]


def test_sequences_are_whole_sentences_of_the_text_with_words_masked(shards):
    for tokenizer, length in ((LARGE, 128), (SMALL, 200)):
        sequences = MaskedWordSequences(tokenizer, length, PROBABILITY, SEED)
        text = read_documents(shards)
        for batch in all_batches(sequences, shards):
            ids = batch.input_ids.copy()
            masked = np.nonzero(batch.words >= 0)
            positions = batch.positions[masked]
            assert (ids[masked[0], positions] == tokenizer.mask_id).all()
            ids[masked[0], positions] = batch.labels[masked]
            documents = batch.documents[batch.words[:, 0]]
            for row, size in enumerate(batch.lengths):
                if not size:
                    continue
                assert ids[row, 0] == tokenizer.cls_id and ids[row, size - 1] == tokenizer.sep_id
                assert not ids[row, size:].any() and tokenizer.mask_id not in ids[row]
                inside = ids[row, 1 : size - 1].tolist()
                sentences = [tokenizer.encode(sentence) for sentence in text[documents[row]]]
                # Consecutive whole sentences, as each of them fits into a sequence here.
                starts = range(len(sentences))
                runs = [
                    [token for sentence in sentences[a:b] for token in sentence]
                    for a in starts
                    for b in range(a + 1, len(sentences) + 1)
                ]
                assert inside in runs


@pytest.mark.parametrize(("tokenizer", "length"), [(LARGE, 24), (SMALL, 32), (LARGE, 128)])
def test_pairs_are_laid_out_as_in_training(shards, tokenizer, length):
    seen, starts = [], []
    for lines in read_documents(shards):
        text = "".join(f"{line}\n" for line in lines).encode()
        words = [(number, word) for number, line in enumerate(lines) for word in line.split()]
        words = [(n, part) for n, word in words for part in re.findall(r"\w+|\.", word)]
        masked = masked_words(text, len(words), PROBABILITY, SEED)
        ids: list[int] = []
        sentence_starts = {}
        for (number, word), is_masked in zip(words, masked, strict=True):
            sentence_starts.setdefault(number, len(ids))
            own = tokenizer.encode(word)
            ids += [tokenizer.mask_id] * len(own) if is_masked else own
        seen.append(ids)
        starts.append(set(sentence_starts.values()))
    kinds = Counter()
    sequences = MaskedWordSequences(tokenizer, length, PROBABILITY, SEED, pairs=True)
    for batch in all_batches(sequences, shards):
        features = batch.features()
        for row in np.flatnonzero(batch.lengths):
            ids, size = batch.input_ids[row].tolist(), batch.lengths[row]
            document = batch.documents[batch.words[row, 0]]
            text = seen[document]
            a_end = ids.index(tokenizer.sep_id)
            a, b = ids[1:a_end], ids[a_end + 1 : size - 1]
            assert ids[0] == tokenizer.cls_id and ids[size - 1] == tokenizer.sep_id
            assert not any(ids[size:]) and batch.b_starts[row] == a_end + 1
            in_b = size - a_end - 1
            segments = [0] * (a_end + 1) + [1] * in_b + [0] * (length - size)
            assert features["segment_ids"][row].tolist() == segments
            assert features["input_mask"][row].tolist() == [1] * size + [0] * (length - size)
            # Where A is in the document, and what comes after it.
            ends = [at + len(a) for at in range(len(text)) if text[at : at + len(a)] == a]
            assert ends
            if any(end in starts[document] and b and text[end : end + len(b)] == b for end in ends):
                kinds["next"] += 1
                assert size == length or text[-len(b) :] == b
            elif b:
                kinds["other"] += 1
                assert ends[-1] == len(text) and b == seen[document - 1][: len(b)]
                assert size == length or b == seen[document - 1]
            else:
                kinds["single"] += 1
                inside = [end for end in ends if end < len(text) and end not in starts[document]]
                assert size >= length - 1 or inside or document == 0
    assert kinds["next"] > 20 and kinds["other"] > 2


def test_b_begins_at_every_sentence_equally_often(tmp_path):
    """1,000 documents of five sentences: B begins at one of the last four."""
    lines = ["one two", "three", "four five six", "seven"]
    path = write_shard(tmp_path, ["\n".join([*lines, f"{n}"]) for n in range(1000)])
    tokenizer = make_tokenizer("one", "two", "three", "four", "five", "six", "seven")
    # The same document always has the same segments.
    starts, again = (
        np.concatenate([batch.b_starts[batch.lengths > 0] for batch in all_batches(each, [path])])
        for each in [MaskedWordSequences(tokenizer, 64, 0.5, SEED, pairs=True) for _ in range(2)]
    )
    assert (starts == again).all()
    found, counts = np.unique(starts, return_counts=True)
    # After [CLS], one to four sentences and [SEP]. Four standard deviations.
    assert found.tolist() == [4, 5, 8, 9]
    assert abs(counts - counts.mean()).max() < 4 * math.sqrt(len(starts) * 0.25 * 0.75)


def test_every_vocabulary_gets_the_same_number_of_sentences(shards):
    taken = list(first_documents(shards, 77))
    assert sum(count for _, count in taken) == 77
    characters = set()
    for tokenizer, length in ((LARGE, 16), (SMALL, 64)):
        sequences = MaskedWordSequences(tokenizer, length, PROBABILITY, SEED)
        batches = sequences.batches(shards, 77)
        characters.add(sum(int(batch.characters.sum()) for batch in batches))
        assert sequences.counts["words"] == len(masked_by_the_rule(shards, 77))
    assert len(characters) == 1


def test_words_longer_than_a_sequence_and_words_without_tokens_are_counted(tmp_path):
    # A combining mark alone is empty once accents are stripped.
    path = write_shard(tmp_path, ["a " + "b" * 30 + " c", "\u0301 \u0301"])
    sequences = MaskedWordSequences(LARGE, 16, 0.999999, SEED)
    (batch,) = all_batches(sequences, [path])
    assert len(batch.documents) == 2
    assert sequences.counts["masked_words_too_long"] == 1
    assert sequences.counts["masked_words_without_tokens"] == 2


def test_words_that_are_unknown_cost_their_spelling(tmp_path):
    path = write_shard(tmp_path, ["中a é"])
    sequences = MaskedWordSequences(SMALL, 16, 0.999999, SEED)
    (batch,) = all_batches(sequences, [path])
    # 8 bits for each of three bytes, of one byte, of two bytes, and for the end of each word.
    assert batch.spelling_bits.tolist() == [32, 0, 24]
    assert spelling_bits("a") == 16
    assert sequences.counts["unknown_words"] == 2
