"""The raw files of a folder: order, links, hidden and special files."""

import os
import random
from pathlib import Path

import pytest

from lib.run.errors import UserError
from lib.text.names import shown_name, some_of
from lib.text.reading.raw_files import (
    examine,
    examine_all,
    kinds_in_words,
    list_files,
    write_listing,
)
from lib.text.reading.reader import RawFile
from lib.text.reading.rejected_files import RejectedFiles
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


def test_a_name_that_is_not_utf8_is_refused_at_once(tmp_path):
    for folder, name in ((".", b"r\xe9sum\xe9s-1.txt"), (b"caf\xe9", b"a.txt")):
        top = tmp_path / name.decode("ascii", "ignore")
        inner = top / os.fsdecode(folder)
        inner.mkdir(parents=True)
        (inner / os.fsdecode(name)).write_text("text")
        with pytest.raises(UserError, match=r"caf\\xe9|r\\xe9sum\\xe9s-1\.txt") as failure:
            list(list_files(top))
        assert "not UTF-8" in str(failure.value) and "convmv" in str(failure.value)
        str(failure.value).encode()


def test_names_are_shown_in_one_line():
    assert shown_name(Path("a\nb\t\x1b[1m ğ😀.txt")) == r"a\nb\t\x1b[1m ğ😀.txt"
    assert shown_name(Path(os.fsdecode(b"caf\xe9.txt"))) == r"caf\xe9.txt"
    assert some_of(["a", "b"], 2) == "a, b" and some_of(list("abcd"), 2) == "a, b and 2 more"


def test_files_that_editors_leave_behind_are_passed_over(tmp_path):
    kept = [
        "a.txt",
        "old.txt",
        "notes.original.txt",
        "C#.txt",
        "temp",
        "a~b.txt",
        "#1.txt",
        "x.oldest",
    ]
    left = [
        "a.txt~",
        "#a.txt#",
        "a.txt.bak",
        "A.TXT.BAK",
        "a.swp",
        "a.txt.orig",
        "a.rej",
        "~$a.doc",
    ]
    left += ["a.txt.~1~", "a.part", "Thumbs.db", "desktop.ini", "a.old", "a.tmp", "b.crdownload"]
    for name in kept + left:
        (tmp_path / name).write_text("text")
    rejected = RejectedFiles(tmp_path / "rejected.csv")
    found, passed_over = examine_all(tmp_path, "auto", "line", "utf-8", False, rejected)
    assert {file.name for file in found} == set(kept) and set(passed_over) == set(left)
    rejected.refuse_faults()
    for name in kept:
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"preprocess\.input: no files to read"):
        examine_all(tmp_path, "auto", "line", "utf-8", False, rejected)


def test_kinds_of_files_are_named_with_all_files_or_examples(tmp_path):
    def file(name, kind="text", compression="none", encoding="utf-8"):
        return RawFile(tmp_path / name, kind, compression, 7, encoding, None, name)

    few = [file("b.txt.gz", compression="gzip"), file("c/d.txt"), file("a.txt", encoding="cp1254")]
    words = kinds_in_words(few)
    assert words == "1 as text: c/d.txt; 1 as text (cp1254): a.txt; 1 as text (gzip): b.txt.gz"
    many = [file(f"{n:04}.csv", "csv") for n in range(2000)]
    words = kinds_in_words([*few, *many])
    first = "2,000 as csv: 0000.csv, 0001.csv, 0002.csv and 1,997 more; 1 as text: c/d.txt; "
    assert words.startswith(first)
    write_listing([*few, *many], tmp_path / "files.csv")
    lines = (tmp_path / "files.csv").read_text().splitlines()
    assert len(lines) == 2004 and lines[3] == "a.txt,text,none,cp1254,7"


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
