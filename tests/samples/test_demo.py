"""The demo corpus: its layout and size, and bytes that depend on nothing else."""

from pathlib import Path

import pytest

from lib.run.errors import UserError
from lib.samples.demo import Source, write_demo


def make_package(root: Path, name: str, modules: int) -> None:
    """A package of modules, each with paragraphs of its own and one that all share."""
    package = root / name
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('never imported')\n")
    (package / "broken.py").write_text('"""The colon is missing from what follows."""\nclass X\n')
    (package / "tests" / "test_it.py").write_text('"""All tests of the package are to go."""\n')
    for number in reversed(range(modules)):
        (package / f"module{number}.py").write_text(
            f'''"""Module {number} of {name} is the best of all.

The same sentence is in every one of the modules.
"""
class Thing:
    """A thing of the module {number} of {name} and of no other."""
    def method(self):
        """Do to the thing {number} of {name} what has to be done."""
if True:
    async def wait():
        """Wait for module {number} of {name}, which is slow to come."""
'''
        )


SOURCES = (Source("small", 1, "fake_small"), Source("large", 3, "fake_large fake_other"))


def corpus(root: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int) -> dict[str, bytes]:
    """Makes packages below `root`, writes the corpus next to them and reads it."""
    make_package(root / "packages", "fake_small", 3)
    make_package(root / "packages", "fake_large", 40)
    make_package(root / "packages", "fake_other", 9)
    with monkeypatch.context() as context:
        context.syspath_prepend(root / "packages")
        counts = write_demo(root / "corpus", max_bytes, SOURCES)
    files = {path.name: path.read_bytes() for path in (root / "corpus").iterdir()}
    assert counts["bytes"] == sum(map(len, files.values()))
    assert counts["sources"] == len(files)
    assert counts["documents"] == sum(text.count(b"\n\n") for text in files.values())
    return files


def test_layout_and_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = corpus(tmp_path, monkeypatch, 1_000_000)
    assert sorted(files) == ["large.txt", "small.txt"]
    documents = b"".join(files.values()).decode().removesuffix("\n\n").split("\n\n")
    assert len(documents) == 3 + 40 + 9
    paragraphs = [line for document in documents for line in document.split("\n")]
    assert len(paragraphs) == 4 * len(documents) + 1  # The shared one occurs once.
    assert len(set(paragraphs)) == len(paragraphs)
    first = next(text for text in documents if text.startswith("Module 7 of fake_large"))
    assert [line for line in first.split("\n") if "same" not in line] == [
        "Module 7 of fake_large is the best of all.",
        "A thing of the module 7 of fake_large and of no other.",
        "Do to the thing 7 of fake_large what has to be done.",
        "Wait for module 7 of fake_large, which is slow to come.",
    ]


def test_bytes_do_not_depend_on_folder_or_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert corpus(tmp_path / "here", monkeypatch, 6000) == corpus(
        tmp_path / "somewhere" / "else", monkeypatch, 6000
    )


@pytest.mark.parametrize("max_bytes", [0, 100, 1500, 4000, 8000])
def test_size_limit_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int
) -> None:
    files = corpus(tmp_path, monkeypatch, max_bytes)
    assert sum(map(len, files.values())) <= max_bytes
    if max_bytes >= 4000:
        # What the small source cannot fill goes to the large one.
        assert sum(map(len, files.values())) > 0.93 * max_bytes
        assert b"fake_other" in files["large.txt"]


def test_a_smaller_corpus_replaces_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_package(tmp_path / "packages", "fake_small", 3)
    make_package(tmp_path / "packages", "fake_large", 3)
    make_package(tmp_path / "packages", "fake_other", 3)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    write_demo(tmp_path / "corpus", 1_000_000, SOURCES)
    write_demo(tmp_path / "corpus", 10, SOURCES)
    assert list((tmp_path / "corpus").iterdir()) == []


def test_a_missing_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no_such_package: not installed.*requirements\.lock"):
        write_demo(tmp_path, 1000, (Source("none", 1, "no_such_package"),))


def test_the_standard_library_and_its_topics(tmp_path: Path) -> None:
    sources = (Source("topics", 1, "<help-topics>"), Source("stdlib", 1, "<standard-library>"))
    counts = write_demo(tmp_path, 40_000, sources)
    assert 38_000 < counts["bytes"] <= 40_000
    for path in tmp_path.iterdir():
        text = path.read_text()
        assert ">>>" not in text
        assert str(Path.home()) not in text
        assert text.endswith(".\n\n") or text[-3] in "!?\"')]"
