"""Tokenizer files: every form in use is read, and anything but a BERT tokenizer is refused."""

import json
import shutil
from pathlib import Path

import pytest

from lib.run.errors import UserError
from lib.vocab.directory import read_directory, read_vocabulary
from lib.vocab.export import write_tokenizer
from lib.vocab.sources import existing_tokenizer
from lib.vocab.tokenizer import SPECIAL_TOKENS
from tests.helpers.vocabulary import CASED, UNCASED


def test_directories_of_transformers_4_and_5_and_of_google(tmp_path):
    vocabulary = [*SPECIAL_TOKENS, "a", "##a", "é"]
    write_tokenizer(tmp_path, vocabulary, False, False, 128)
    files = read_directory(tmp_path)
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, False, False)
    (tmp_path / "vocab.txt").unlink()  # as transformers 5 writes it
    files = read_directory(tmp_path)
    assert files.path.name == "tokenizer.json"
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, False, False)
    google = tmp_path / "google"
    google.mkdir()
    (google / "vocab.txt").write_text("\r\n".join([*vocabulary, ""]), encoding="utf-8")
    files = read_directory(google)
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, None, None)
    assert existing_tokenizer("model", google, UNCASED).vocabulary == vocabulary
    assert existing_tokenizer("file", google / "vocab.txt", CASED).vocabulary == vocabulary


def edit(path: Path, change) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_other_tokenizers_than_berts_are_refused(tmp_path):
    def refused(change, message):
        write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a"], True, True, 128)
        change()
        with pytest.raises(UserError, match=message) as caught:
            existing_tokenizer("model", tmp_path, UNCASED)
        assert "\n" not in str(caught.value)

    path, config = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    refused(
        lambda: [(tmp_path / "vocab.txt").unlink(), path.unlink()],
        "missing, and so is tokenizer.json",
    )
    refused(lambda: edit(path, lambda values: values["model"].update(type="BPE")), "WordPiece")
    refused(lambda: edit(path, lambda values: values.pop("normalizer")), "WordPiece")
    refused(
        lambda: edit(path, lambda values: values["normalizer"].update(clean_text=False)),
        "clean_text",
    )
    refused(
        lambda: edit(
            path, lambda values: values["added_tokens"].append({"content": "[USER]", "id": 99})
        ),
        r"\[USER\]",
    )
    refused(
        lambda: edit(config, lambda values: values.update(do_lower_case=False)),
        "do_lower_case is false, but in tokenizer.json it is true",
    )
    refused(
        lambda: (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n"),
        r"vocab\.txt: .*\[MASK\]",
    )
    refused(lambda: shutil.rmtree(tmp_path), "no such folder")


def test_files_that_are_not_a_vocabulary_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00a")
    for name, message in (("empty.txt", "empty"), ("binary.txt", "UTF-8"), ("none.txt", "no such")):
        with pytest.raises(UserError, match=message):
            read_vocabulary(tmp_path / name)
    with pytest.raises(UserError, match="folder"):
        read_vocabulary(tmp_path)
