"""The benchmark that compares token ids, on a few lines."""

import pytest

pytest.importorskip("tokenizers")

from bench.data import tokens

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b", "ab"]


def run(folder, monkeypatch, text: str) -> None:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    (folder / "x.txt").write_text(text)
    arguments = ["tokens", "--vocab", str(folder / "vocab.txt"), str(folder / "x.txt")]
    monkeypatch.setattr("sys.argv", arguments)
    tokens.main()


def test_equal_lines_are_counted(tmp_path, monkeypatch, capsys):
    run(tmp_path, monkeypatch, "ab abb c\n\nB [MASK]\n")
    assert "lines: 3\ntokens: 6\nunequal to the exported tokenizer: 0" in capsys.readouterr().out


def test_unequal_line_fails(tmp_path, monkeypatch):
    # The exported tokenizer gets another limit on the length of words than ours.
    monkeypatch.setattr("lib.vocab.export.MAX_WORD_LENGTH", 2)
    with pytest.raises(SystemExit, match="some token ids are unequal"):
        run(tmp_path, monkeypatch, "abab\n")
