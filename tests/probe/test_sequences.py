"""Token sequences of labelled examples, and the order of their batches."""

from itertools import chain

from lib.probe.labelled import Example
from lib.probe.sequences import sentence_sequences, shuffled_batches, text_sequences
from tests.helpers.labelled import TOKENIZER


def test_the_first_token_of_every_word_is_labelled_in_some_sequence():
    words = ("red", "zzz", "\u200d", "house", "y" * 40, "in", "a", "qq")
    example = Example(words, tuple("abcdefgh"))
    (sequences,) = sentence_sequences([example], TOKENIZER, 8)
    assert [label for sequence in sequences for label in sequence.labels] == list(example.labels)
    found = [int(x.ids[position]) for x in sequences for position in x.positions]
    # A word without tokens becomes [UNK].
    assert found == [(TOKENIZER.encode(word) or [TOKENIZER.unk_id])[0] for word in words]
    for sequence in sequences:
        assert len(sequence.ids) <= 8
        assert sequence.ids[0] == TOKENIZER.cls_id and sequence.ids[-1] == TOKENIZER.sep_id
    assert len(sequences) > 1


def test_a_text_is_one_sequence():
    texts = ["red house", "", "a " * 50, "in\nthe"]
    sequences = text_sequences([Example((text,), ("x",)) for text in texts], TOKENIZER, 16)
    assert [list(sequence.ids[1:-1]) for sequence in sequences] == [
        TOKENIZER.encode(t)[:14] for t in texts
    ]


def test_every_epoch_has_all_sequences_once_in_its_own_order():
    sequences = text_sequences(
        [Example((f"a {'b ' * (n % 9)}",), (str(n),)) for n in range(70)], TOKENIZER, 16
    )
    orders = [
        [[x.labels[0] for x in batch] for batch in shuffled_batches(sequences, 8, seed, epoch)]
        for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0))
    ]
    for order in orders:
        assert sorted(chain(*order), key=int) == [str(number) for number in range(70)]
        assert sorted(map(len, order)) == [6] + [8] * 8
    assert orders[0] == orders[3] and orders[0] != orders[1] and orders[0] != orders[2]
