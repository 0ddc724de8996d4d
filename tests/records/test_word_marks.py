"""Whole words in records of vocabularies whose ids do not say which tokens continue a word."""

import pytest

from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.shard import shard_records
from lib.records.tfrecord_reader import decode, read_records
from lib.records.tokens import read_tokens
from lib.vocab.loading import load_tokenizer
from lib.vocab.tokenizer import CONTINUES_WORD
from tests.helpers.library_tokenizers import training_text, write_library_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_library_tokenizer("byte_bpe", tmp_path_factory.mktemp("base")))


def records(tokenizer, folder, **settings):
    """The features of each record of a shard with a document per line."""
    lines = sorted(set(training_text()))
    shard = folder / "00000.txt"
    shard.write_text("".join(f"{line}\n\n" for line in lines), "utf-8")
    tokens = read_tokens(shard, tokenizer.encode_marked_lines)
    settings = RecordSettings(
        64,
        32,
        masked_lm_prob=0.3,
        short_seq_prob=0.0,
        dupe_factor=1,
        whole_word_mask=True,
        next_sentence=False,
        **settings,
    )
    facts = VocabularyFacts.from_tokenizer(tokenizer)
    path = folder / "00000.tfrecord"
    path.write_bytes(b"".join(part for part, _ in shard_records(tokens, settings, facts, 1, 0)))
    return lines, list(map(decode, read_records(path)))


def marks_by_line(tokenizer, lines):
    """Ids of a line, with [CLS] and [SEP] -> whether each token continues a word."""
    found = {}
    for line in lines:
        marked, _ = tokenizer.encode_marked_lines(line)
        ids = (tokenizer.cls_id, *(marked & ~CONTINUES_WORD).tolist(), tokenizer.sep_id)
        found[ids] = [False, *((marked & CONTINUES_WORD) != 0).tolist(), False]
    return found


def test_masked_words_are_whole(tokenizer, tmp_path):
    lines, examples = records(tokenizer, tmp_path)
    known = marks_by_line(tokenizer, lines)
    widths = []
    for example in examples:
        length = int(example["input_mask"].sum())
        used = example["masked_lm_weights"] > 0
        masked = example["masked_lm_positions"][used]
        ids = example["input_ids"].copy()
        ids[masked] = example["masked_lm_ids"][used]
        continues = known[tuple(ids[:length].tolist())]
        # A token is masked if and only if the one before it in its word is.
        for position in range(1, length):
            if continues[position]:
                assert (position in masked) == (position - 1 in masked)
        widths += [continues[position] for position in masked]
    assert any(widths) and not all(widths)


@pytest.mark.parametrize("packing", [False, True])
def test_unmasked_records_say_which_tokens_continue_a_word(tokenizer, tmp_path, packing):
    lines, examples = records(
        tokenizer, tmp_path, masking="dynamic", packing=packing, max_examples_per_pack=4
    )
    known = marks_by_line(tokenizer, lines)
    seen = 0
    for example in examples:
        assert (example["input_ids"] < len(tokenizer.vocabulary)).all()
        numbers = example["example_ids"] if packing else example["input_mask"]
        for number in range(1, int(numbers.max()) + 1):
            own = numbers == number
            ids = tuple(example["input_ids"][own].tolist())
            assert known[ids] == example["continues_word"][own].astype(bool).tolist()
            seen += 1
        assert not example["continues_word"][numbers == 0].any()
    assert seen == len(lines)
