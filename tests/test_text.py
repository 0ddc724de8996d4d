"""From raw files to corpus, sample and shards: layouts, sentences, duplicates, splits."""

import hashlib
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.text.corpus import CorpusWriter
from lib.text.documents import format_document, group_lines, read_corpus
from lib.text.duplicates import first_occurrences
from lib.text.maps import DOCUMENT
from lib.text.readers import raw_files, read_lines
from lib.text.sampling import count_sentences, write_sample
from lib.text.shards import write_shards
from lib.text.splits import SplitRule, corpus_files, given_split


@pytest.mark.parametrize(
    ("document", "groups"),
    [
        ("blank_line", [["a", "b"], ["c", "d", "e"]]),
        ("line", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("file", [["a", "b", "c", "d", "e"]]),
        ("2 sentences", [["a", "b"], ["c", "d"], ["e"]]),
    ],
)
def test_documents_by_layout(document, groups):
    assert list(group_lines(["", "a", "b", "", " ", "c", "d", "e", ""], document)) == groups


documents = st.lists(
    st.lists(
        st.text("abé漢 .", min_size=1, max_size=12).map(lambda text: f"x{text}y"),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=30,
)


@given(documents)
def test_the_corpus_format_gives_back_its_documents(tmp_path_factory, groups):
    path = tmp_path_factory.mktemp("corpus") / "00000.txt"
    path.write_bytes(b"".join(map(format_document, groups)))
    assert [document.decode().splitlines() for document in read_corpus(path)] == groups


def test_raw_files_are_sorted_and_strangers_refused(tmp_path):
    for name in ("b/2.txt", "a.txt", "b/10.txt", ".gitignore", "raw.dvc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    assert [path.relative_to(tmp_path).as_posix() for path in raw_files(tmp_path)] == [
        "a.txt",
        "b/10.txt",
        "b/2.txt",
    ]
    (tmp_path / "notes.pdf").touch()
    with pytest.raises(UserError, match=r"notes\.pdf: not a format"):
        raw_files(tmp_path)


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"preprocess\.input: no folder"):
        raw_files(tmp_path / "none")
    with pytest.raises(UserError, match=r"preprocess\.input: no files in"):
        raw_files(tmp_path)


def test_line_ends_of_all_systems_and_a_bom(tmp_path):
    (tmp_path / "x.txt").write_bytes("\ufeffone\r\ntwo\rthree\nfour".encode())
    assert list(read_lines(tmp_path / "x.txt")) == ["one", "two", "three", "four"]


def test_text_that_is_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / "x.txt").write_bytes("caf\xe9".encode("latin1"))
    with pytest.raises(UserError, match=r"x\.txt at or after line 1: not UTF-8"):
        list(read_lines(tmp_path / "x.txt"))


def table_of(texts: list[bytes]) -> np.ndarray:
    table = np.zeros(len(texts), DOCUMENT)
    for row, text in zip(table, texts, strict=True):
        digest = hashlib.blake2b(text, digest_size=16).digest()
        row["high"] = int.from_bytes(digest[:8], "little")
        row["low"] = int.from_bytes(digest[8:], "little")
    return table


@given(st.lists(st.lists(st.binary(max_size=2), max_size=20), max_size=5), st.integers(1, 30))
def test_only_the_first_of_equal_documents_is_kept(files, bucket):
    import lib.text.duplicates as module

    seen: set[bytes] = set()
    expected = []
    for texts in files:
        expected.append([text not in seen and not seen.add(text) for text in texts])
    size, module._BUCKET_DOCUMENTS = module._BUCKET_DOCUMENTS, bucket
    try:
        kept = first_occurrences([table_of(texts) for texts in files])
    finally:
        module._BUCKET_DOCUMENTS = size
    assert [mask.tolist() for mask in kept] == expected


@given(documents, st.integers(1, 60), st.randoms())
def test_the_corpus_holds_the_kept_documents_in_pieces(tmp_path_factory, groups, piece, chance):
    import lib.text.corpus as module

    folder = tmp_path_factory.mktemp("pieces")
    texts = [format_document(group) for group in groups]
    (folder / "map.txt").write_bytes(b"".join(texts))
    kept = np.array([chance.random() < 0.6 for _ in texts])
    sizes = np.array([len(text) for text in texts], np.uint64)
    old = module._PIECE_BYTES, module._COPY_BYTES
    module._PIECE_BYTES, module._COPY_BYTES = piece * 4, piece
    try:
        with CorpusWriter(folder / "corpus") as writer:
            writer.write(folder / "map.txt", sizes, kept, "")
    finally:
        module._PIECE_BYTES, module._COPY_BYTES = old
    files = corpus_files(folder / "corpus")
    assert b"".join(path.read_bytes() for path in files) == b"".join(
        text for text, keep in zip(texts, kept, strict=True) if keep
    )
    for path in files:
        assert path.read_bytes().endswith(b"\n\n")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/a.txt", "train"),
        ("deep/Valid/a.txt", "dev"),
        ("validation.txt", "dev"),
        ("wiki.test.txt", "test"),
        ("train-00001-of-00010.txt", "train"),
        ("test/train.txt", "train"),
        ("test_results.txt", None),
        ("testing/a.txt", None),
        ("a/b.txt", None),
        ("contest.txt", None),
    ],
)
def test_given_splits(name, split):
    assert given_split(PurePosixPath(name)) == split


def make_corpus(folder: Path, count: int, prefix: str = "doc") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "00000.txt").write_bytes(
        b"".join(
            format_document(
                [f"{prefix} {number} sentence {index}" for index in range(number % 4 + 1)]
            )
            for number in range(count)
        )
    )
    return corpus_files(folder)


def test_added_documents_move_no_old_one(tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    decisions = []
    for folder, count in ((few, 500), (many, 2000)):
        files = make_corpus(folder, count)
        rule = SplitRule(files, folder, 0.1, 0.2)
        decisions.append({text: rule.of(files[0], text) for text in read_corpus(files[0])})
    assert decisions[0].items() <= decisions[1].items()
    shares = Counter(decisions[1].values())
    # Binomial with n = 2000: five deviations around the mean.
    assert abs(shares["dev"] - 200) < 67 and abs(shares["test"] - 400) < 90


def test_given_splits_are_honoured_and_a_missing_one_is_drawn_from_train(tmp_path):
    make_corpus(tmp_path / "train", 400)
    make_corpus(tmp_path / "test", 50, "other")
    files = corpus_files(tmp_path)
    rule = SplitRule(files, tmp_path, 0.1, 0.1)
    splits = {
        path.parent.name: Counter(rule.of(path, text) for text in read_corpus(path))
        for path in files
    }
    assert splits["test"] == {"test": 50}
    assert set(splits["train"]) == {"train", "dev"}


@pytest.mark.parametrize("wanted", [1, 10, 300, 10**6])
def test_a_sample_has_exactly_so_many_sentences_of_training_text_only(tmp_path, wanted):
    files = make_corpus(tmp_path / "corpus", 400)
    rule = SplitRule(files, tmp_path / "corpus", 0.1, 0.2)
    totals = count_sentences(files, rule)
    training = [
        line
        for document in read_corpus(files[0])
        if rule.of(files[0], document) == "train"
        for line in document.splitlines()
    ]
    assert totals["train"] == len(training)
    with (tmp_path / "sample").open("wb") as target:
        written = write_sample(files, rule, "train", totals["train"], wanted, 3, target)
    sample = (tmp_path / "sample").read_bytes().splitlines()
    assert written == len(sample) == min(wanted, len(training))
    assert set(sample) <= set(training) and len(set(sample)) == len(sample)


def test_every_sentence_is_drawn_equally_often(tmp_path):
    files = make_corpus(tmp_path / "corpus", 40)
    rule = SplitRule(files, tmp_path / "corpus", 0.0, 0.0)
    total = count_sentences(files, rule)["train"]
    drawn: Counter[bytes] = Counter()
    for seed in range(400):
        with (tmp_path / "sample").open("wb") as target:
            write_sample(files, rule, "train", total, total // 2, seed, target)
        drawn.update((tmp_path / "sample").read_bytes().splitlines())
    # Binomial with n = 400 and p = 1/2: five deviations are 50.
    assert len(drawn) == total and all(abs(count - 200) < 50 for count in drawn.values())


def test_shards_hold_every_document_once_whole_and_shuffled(tmp_path):
    files = make_corpus(tmp_path / "corpus", 600)
    rule = SplitRule(files, tmp_path / "corpus", 0.1, 0.1)
    (tmp_path / "work").mkdir()
    counts = write_shards(files, rule, tmp_path / "shards", tmp_path / "work", 100, 4096, 5)
    original = list(read_corpus(files[0]))
    found = []
    for split in ("train", "dev", "test"):
        shards = sorted((tmp_path / "shards" / split).glob("*.txt"))
        documents_here = [document for path in shards for document in read_corpus(path)]
        assert all(rule.of(files[0], document) == split for document in documents_here)
        assert counts[split].documents == len(documents_here)
        assert counts[split].shards == len(shards)
        for path in shards:
            text = path.read_bytes()
            assert text.count(b"\n") <= 100 and len(text) <= 4096
        found += documents_here
    assert Counter(found) == Counter(original)
    train = [document for document in original if rule.of(files[0], document) == "train"]
    shuffled = [document for document in found if rule.of(files[0], document) == "train"]
    assert train != shuffled
    assert list((tmp_path / "work").iterdir()) == []


def test_a_document_larger_than_a_shard_gets_one_of_its_own(tmp_path):
    (tmp_path / "corpus").mkdir()
    path = tmp_path / "corpus/00000.txt"
    path.write_bytes(b"".join(format_document([text * 300]) for text in "abc"))
    (tmp_path / "work").mkdir()
    rule = SplitRule([path], tmp_path / "corpus", 0, 0)
    write_shards([path], rule, tmp_path / "shards", tmp_path / "work", 100, 256, 5)
    assert len(list((tmp_path / "shards/train").glob("*.txt"))) == 3
