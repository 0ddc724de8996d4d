"""Places of text in the corpus and in the shards: split and named input."""

from pathlib import Path

import pytest

from lib.run.errors import UserError
from lib.text.layout import (
    CorpusPlace,
    by_input,
    corpus_files,
    corpus_place,
    refuse_other_names,
    shard_files,
    shard_input,
)

CORPUS = Path("data/corpus")


@pytest.mark.parametrize(
    ("path", "name", "split"),
    [
        ("00000.txt", "", None),
        ("test/00000.txt", "", "test"),
        ("inputs/wiki/00000.txt", "wiki", None),
        ("inputs/wiki/dev/00000.txt", "wiki", "dev"),
    ],
)
def test_a_folder_says_the_input_and_the_given_split(path, name, split):
    place = corpus_place(CORPUS / path, CORPUS)
    assert place == CorpusPlace(name, split)
    assert place.folder() == path.rpartition("/")[0]


@pytest.mark.parametrize(
    ("path", "name"),
    [("news/test/0.txt", ""), ("inputs/0.txt", ""), ("inputs/wiki/more/dev/0.txt", "wiki")],
)
def test_other_folders_state_no_split(path, name):
    assert corpus_place(CORPUS / path, CORPUS) == CorpusPlace(name, None)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("A.\n\n")
    return folder


def test_files_by_input(tmp_path):
    corpus = write(tmp_path, "inputs/b/00000.txt", "inputs/a/test/00000.txt", "inputs/a/00000.txt")
    found = by_input(corpus_files(corpus), corpus)
    assert {name: len(files) for name, files in found.items()} == {"a": 2, "b": 1}


def test_a_split_of_an_input_with_another_name_is_refused(tmp_path):
    corpus = write(tmp_path, "inputs/a/valid/00000.txt")
    with pytest.raises(UserError, match=r"inputs/a/valid: rename it to dev; "):
        corpus_files(corpus)


def test_shards_are_listed_input_by_input(tmp_path):
    names = ("train/b/00001.txt", "train/a/00000.txt", "train/b/00000.txt")
    shards = write(tmp_path, *names, "dev/a/00000.txt", "test/extra/00000.txt")
    refuse_other_names(shards)
    found = shard_files(shards, "train")
    assert [path.relative_to(shards).as_posix() for path in found] == sorted(names)
    assert [shard_input(path, "train") for path in found] == ["a", "b", "b"]
    assert shard_input(shards / "train/00000.txt", "train") == ""


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dev/00000.txt", "test/00000.txt"], "train: no such folder"),
        (["train/a.txt"], r"train/a\.txt: text shards are called 00000"),
        (["train/a/b/00000.txt"], r"train/a/b/00000\.txt: text shards are called 00000"),
        (["train/00000.txt", "train/a/00000.txt"], "some training shards are in the folder of an"),
    ],
)
def test_other_shards_are_refused(tmp_path, names, message):
    shards = write(tmp_path, *names)
    if "no such" not in message:
        for split in ("train", "dev", "test"):
            (shards / split).mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        refuse_other_names(shards)
