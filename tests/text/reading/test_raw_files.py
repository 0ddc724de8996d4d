"""The raw files of a folder: order, links, hidden and special files."""

import os
import random

import pytest

from lib.run.errors import UserError
from lib.text.reading.raw_files import examine, list_files
from lib.text.reading.rejections import Rejections


def test_links_folders_and_pipes(tmp_path):
    inner = tmp_path / "folder.txt"
    inner.mkdir()
    (inner / "b.txt").write_text("text")
    (tmp_path / "a.txt").write_text("text")
    (inner / "around").symlink_to(tmp_path)
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    (tmp_path / "linked.txt").symlink_to("a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    for hidden in (".gitignore", "raw.dvc"):
        (tmp_path / hidden).write_text("no text")
    rejections = Rejections("", True)
    read_from = [path for path in list_files(tmp_path) if examine(path, "auto", "line", rejections)]
    names = [path.relative_to(tmp_path).as_posix() for path in read_from]
    assert names == ["a.txt", "folder.txt/b.txt", "linked.txt"]
    assert rejections.counts == {"dangling_link": 1, "not_a_regular_file": 1}


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"preprocess\.input: no folder"):
        list(list_files(tmp_path / "none"))


def test_files_are_read_in_the_same_order_however_the_disk_lists_them(tmp_path, monkeypatch):
    for name in ("b/2.txt", "a.txt", "b/10.txt", "b/c/1.txt", "B.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    walk = os.walk

    def shuffled(folder, **options):
        for parent, folders, names in walk(folder, **options):
            random.Random(1).shuffle(names)
            folders.reverse()
            yield parent, folders, names

    expected = [tmp_path / name for name in ("B.txt", "a.txt", "b/10.txt", "b/2.txt", "b/c/1.txt")]
    assert list(list_files(tmp_path)) == expected
    monkeypatch.setattr(os, "walk", shuffled)
    assert list(list_files(tmp_path)) == expected
