"""The benchmark that compares token ids, on a few lines."""

import pytest

pytest.importorskip("tokenizers")

from bench.data import tokens

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b", "ab"]


def run(folder, monkeypatch, text: str) -> int:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    (folder / "x.txt").write_text(text)
    words = ["tokens", "--vocab", str(folder / "vocab.txt"), str(folder / "x.txt")]
    monkeypatch.setattr("sys.argv", words)
    return tokens.main()


def test_equal_lines_are_counted(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, monkeypatch, "ab abb c\n\nB [MASK]\n") == 0
    assert "lines: 3\ntokens: 6\nunequal to the exported tokenizer: 0" in capsys.readouterr().out


def test_an_unequal_line_fails(tmp_path, monkeypatch):
    # A tokenizer of another length limit: the exported file no longer says what ours does.
    monkeypatch.setattr("lib.vocab.export.MAX_WORD_LENGTH", 2)
    assert run(tmp_path, monkeypatch, "abab\n") == 1
