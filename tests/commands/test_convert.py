"""The command that converts models; test_json_lines_export has the one for records."""

import json

import pytest

from lib.commands import convert
from tests.helpers.checkpoints import VOCABULARY, save_tf1
from tests.helpers.tiny_bert import random_weights


def test_model_is_converted_by_the_command(tmp_path, monkeypatch, capsys):
    tf1 = save_tf1(tmp_path / "google", random_weights(1))
    (tf1 / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))

    def run(*words):
        monkeypatch.setattr("sys.argv", ["convert", *map(str, words)])
        convert.main()
        return capsys.readouterr().out

    target = tmp_path / "target"
    out = run("model", tf1, target, "--to", "huggingface", "--lowercase", "no")
    assert f"convert: {tf1}: Google TF1\n" in out
    assert json.loads((target / "tokenizer_config.json").read_text())["strip_accents"] is False
    with pytest.raises(SystemExit, match=r"^convert: error: .*already exists"):
        run("model", tf1, target, "--to", "huggingface", "--lowercase", "no")
    with pytest.raises(SystemExit):
        run("model", tf1, tmp_path / "other", "--to", "huggingface", "--lowercase", "maybe")
    assert "--lowercase: should be yes or no" in capsys.readouterr().err
