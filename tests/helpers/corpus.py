"""Small corpora, and the splits of their documents."""

from itertools import pairwise
from pathlib import Path

from hypothesis import strategies as st

from lib.text.documents import CorpusText, format_document, read_corpus
from lib.text.layout import SPLITS, corpus_files
from lib.text.splits import SplitRule

# Documents as lists of sentences.
sentence_lists = st.lists(
    st.lists(
        st.text("abé漢 .", min_size=1, max_size=12).map(lambda text: f"x{text}y"),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=30,
)


def make_corpus(folder: Path, count: int, prefix: str = "doc") -> list[Path]:
    """Writes a corpus file of documents of one to four sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "00000.txt").write_bytes(
        b"".join(
            format_document(
                "\n".join(f"{prefix} {number} sentence {index}" for index in range(number % 4 + 1))
            )
            for number in range(count)
        )
    )
    return corpus_files(folder)


def splits_of(rule: SplitRule, path: Path) -> dict[bytes, str]:
    """The split of each document of a corpus file."""
    corpus = CorpusText.read(path)
    texts = [corpus.text[start : stop - 1] for start, stop in pairwise(corpus.starts)]
    assert texts == list(read_corpus(path))
    found = [SPLITS[number] for number in rule.of(path, corpus)]
    return dict(zip(texts, found, strict=True))


def in_two_files(folder: Path, count: int) -> list[Path]:
    """The corpus of `make_corpus` in two files."""
    (path,) = make_corpus(folder, count)
    texts = [text + b"\n" for text in read_corpus(path)]
    path.write_bytes(b"".join(texts[: count // 3]))
    (folder / "00001.txt").write_bytes(b"".join(texts[count // 3 :]))
    return corpus_files(folder)
