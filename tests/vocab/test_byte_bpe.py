"""Byte-level BPE trained on a sample."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from lib.run.errors import UserError
from lib.vocab.byte_bpe import train_byte_bpe
from lib.vocab.library_tokenizer import LibraryTokenizer
from tests.helpers.library_tokenizers import training_text

PROGRAM = """
import json, sys
from pathlib import Path
from lib.vocab.byte_bpe import train_byte_bpe
files, vocabulary = train_byte_bpe(Path(sys.argv[1]), 500, False, False, 64, None)
print(json.dumps([files.content, vocabulary]))
"""


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("".join(f"{line}\n" for line in training_text()), "utf-8")
    return path


def train(sample, size=500, **changes):
    settings = {
        "lowercase": False,
        "strip_accents": False,
        "max_token_length": 64,
        "max_sentence_length": None,
        **changes,
    }
    files, vocabulary = train_byte_bpe(sample, size, **settings)
    return LibraryTokenizer(files, vocabulary)


@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_the_vocabulary_does_not_depend_on_threads_or_hashes(sample, threads):
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "true",
        "RAYON_NUM_THREADS": threads,
        "PYTHONHASHSEED": threads,
    }
    command = [sys.executable, "-c", PROGRAM, str(sample)]
    result = subprocess.run(command, capture_output=True, env=environment, check=True, text=True)
    content, vocabulary = json.loads(result.stdout)
    own = train(sample)
    assert vocabulary == own.vocabulary
    assert content == own.files.content


def test_merges_are_the_most_frequent_pairs(sample):
    """The first merges, counted by hand."""
    tokenizer = train(sample, 264)
    words = Counter(word for line in training_text() for word in pretokens(line))
    symbols = {word: tuple(word) for word in words}
    for first, second in tokenizer.files.content["model"]["merges"]:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in zip(symbols[word], symbols[word][1:], strict=False):
                pairs[pair] += count
        assert pairs[first, second] == max(pairs.values())
        symbols = {word: merged(own, first, second) for word, own in symbols.items()}


def pretokens(line):
    from tokenizers import normalizers, pre_tokenizers

    line = normalizers.NFC().normalize_str(line)
    splits = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(line)
    return [token for token, _ in splits]


def merged(symbols, first, second):
    found = []
    for symbol in symbols:
        if found and found[-1] == first and symbol == second:
            found[-1] = first + second
        else:
            found.append(symbol)
    return tuple(found)


def test_every_text_has_a_spelling(sample):
    tokenizer = train(sample)
    text = "日本語 \U0001f600 \u0000 ÿ"
    ids = tokenizer.encode(text)
    assert tokenizer._backend.decode(ids) == text
    assert tokenizer.unk_id not in ids
    assert len(tokenizer.vocabulary) == 500
    assert [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id] == [0, 1, 2]


def test_case_accents_and_limits(sample):
    tokenizer = train(sample, lowercase=True, strip_accents=True, max_token_length=4)
    assert tokenizer.encode("NAÏVE Café") == tokenizer.encode("naive cafe")
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (True, True)
    special = tokenizer.vocabulary[:5]
    assert max(len(token) for token in tokenizer.vocabulary if token not in special) <= 4
    with pytest.raises(UserError, match=r"vocab\.size: 260 cannot hold the 256 bytes .* 261"):
        train(sample, 260)
    short = train(sample, max_sentence_length=1)
    assert short.files.content["model"]["merges"] == []
