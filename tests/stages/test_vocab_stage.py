"""The stage vocab with every source of a vocabulary."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import yaml

from lib.evaluation.masked_words import WordFinder
from lib.run.errors import UserError
from lib.samples.languages import synthetic_text
from lib.vocab.characters import BasicTokenizer
from lib.vocab.counts import read_tokens_per_word
from lib.vocab.directory import read_vocabulary, refuse_disagreement
from lib.vocab.extension import read_extension
from lib.vocab.loading import load_tokenizer
from lib.vocab.sources import existing_tokenizer
from stages.vocab import main


def test_every_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/sample").mkdir(parents=True)
    Path("data/sample/train.txt").write_text(synthetic_text("turkish", 400, 1), encoding="utf-8")
    Path("data/sample/heldout.txt").write_text(synthetic_text("turkish", 100, 2), encoding="utf-8")

    def run(source: str, base: str = "data/sample", **changes) -> list[str]:
        vocab = {"source": source, "base": base, "size": 400}
        vocab |= {"lowercase": False, "strip_accents": False, **changes}
        phases = {"main": {"max_seq_length": 32, "init": "data/vocab"}}
        text = yaml.safe_dump({"vocab": vocab, "phases": phases})
        Path("params.yaml").write_text(text, encoding="utf-8")
        main(Path("data/sample"), Path(base), Path("data/vocab"))
        vocabulary = read_vocabulary(Path("data/vocab/vocab.txt"))
        metrics = json.loads(Path("results/vocab/metrics.json").read_text(encoding="utf-8"))
        counts = Path("data/vocab/token_counts.txt").read_text(encoding="utf-8").split()
        assert metrics["size"] == len(vocabulary) == len(counts)
        assert sum(map(int, counts)) == metrics["train"]["tokens"]
        by_tokens = read_tokens_per_word(Path("results/vocab/tokens_per_word.csv"))
        assert by_tokens.sum() == metrics["train"]["words"]
        assert by_tokens @ np.arange(1, len(by_tokens) + 1) == metrics["train"]["tokens"]
        assert metrics["train"]["words"] > metrics["heldout"]["words"] > 0
        if source != "file":
            assert metrics["train"]["unknown_word_fraction"] == 0
        tokenizer = load_tokenizer(Path("data/vocab"))
        lines = Path("data/sample/heldout.txt").read_text(encoding="utf-8")
        assert len(tokenizer.encode(lines)) == metrics["heldout"]["tokens"]
        text = Path("data/sample/train.txt").read_text(encoding="utf-8")
        numbers = [len(tokenizer.encode(word)) for word in WordFinder().words(text)]
        assert np.bincount(numbers)[1:].tolist() == by_tokens.tolist()
        report = Path("results/vocab/report.md").read_text(encoding="utf-8")
        assert report.startswith("# Vocabulary")
        return vocabulary

    tokens = run("sentencepiece")
    assert len(tokens) == 400
    shutil.copytree("data/vocab", "models/base")
    assert run("model", "models/base") == tokens
    Path("some.txt").write_text("".join(f"{token}\n" for token in tokens[:200]), encoding="utf-8")
    assert run("file", "some.txt") == tokens[:200]
    extended = run("extend", "models/base", size=410)
    assert extended[:400] == tokens and len(extended) == 410
    extension = read_extension(Path("data/vocab"))
    assert [new.token for new in extension.new_tokens] == extended[400:]
    assert all(len(token.removeprefix("##")) == 1 for token in run("characters")[5:70])
    Path("data/sample/train.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"data/sample/train\.txt: no words"):
        run("sentencepiece")


@pytest.mark.parametrize("source", ["sentencepiece", "characters"])
def test_zero_width_characters_that_join_words_are_tokens(tmp_path, monkeypatch, capsys, source):
    monkeypatch.chdir(tmp_path)
    Path("data/sample").mkdir(parents=True)
    verbs = ["خواهم", "رود", "گوید", "شود"]
    lines = [f"او می\u200c{verbs[number % 4]} و خانه\u200cها را می دید." for number in range(200)]
    for name in ("train", "heldout"):
        Path(f"data/sample/{name}.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    vocab = {"source": source, "size": 120, "lowercase": False, "strip_accents": False}
    phases = {"main": {"max_seq_length": 32, "init": "data/vocab"}}
    Path("params.yaml").write_text(yaml.safe_dump({"vocab": vocab, "phases": phases}))
    main(Path("data/sample"), Path("data/sample"), Path("data/vocab"))
    tokenizer = load_tokenizer(Path("data/vocab"))
    assert tokenizer.zero_width == ("\u200c",)
    joined, spaced, glued = map(tokenizer.tokenize, ("می\u200cخواهم", "می خواهم", "میخواهم"))
    assert joined.count("\u200c") == 1 and tokenizer.unk_id not in tokenizer.encode("می\u200cرود")
    assert [token for token in joined if token != "\u200c"] == spaced != glued
    counts = Path("data/vocab/token_counts.txt").read_text(encoding="utf-8").split()
    assert int(counts[tokenizer.vocabulary.index("\u200c")]) == 400
    metrics = json.loads(Path("results/vocab/metrics.json").read_text(encoding="utf-8"))
    assert metrics["unreachable_tokens"] == metrics["train"]["unknown_character_fraction"] == 0
    assert len(tokenizer.encode("\n".join(lines))) == metrics["train"]["tokens"]
    assert "deletes zero-width" not in capsys.readouterr().err
    # A model's folder has them, too, and so a vocabulary that is extended.
    again = existing_tokenizer("model", Path("data/vocab"), BasicTokenizer(False, False))
    assert again.encode("می\u200cخواهم") == tokenizer.encode("می\u200cخواهم")


def test_other_vocabularies_than_wordpiece(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/sample").mkdir(parents=True)
    for name, lines, seed in (("train", 400, 1), ("heldout", 100, 2)):
        text = synthetic_text("turkish", lines, seed)
        Path(f"data/sample/{name}.txt").write_text(text, encoding="utf-8")

    def run(source: str, base: str = "data/sample", **changes) -> dict:
        vocab = {"source": source, "base": base, "lowercase": False, "strip_accents": False}
        phases = {"main": {"max_seq_length": 32, "init": "data/vocab"}}
        text = yaml.safe_dump({"vocab": {**vocab, **changes}, "phases": phases})
        Path("params.yaml").write_text(text, encoding="utf-8")
        main(Path("data/sample"), Path(base), Path("data/vocab"))
        metrics = json.loads(Path("results/vocab/metrics.json").read_text(encoding="utf-8"))
        tokenizer = load_tokenizer(Path("data/vocab"))
        # Counts of the text as it is, against the library's own ids.
        library = tokenizers.Tokenizer.from_file("data/vocab/tokenizer.json")
        lines = Path("data/sample/train.txt").read_text(encoding="utf-8").splitlines()
        ids = [
            n for line in library.encode_batch(lines, add_special_tokens=False) for n in line.ids
        ]
        counts = Path("data/vocab/token_counts.txt").read_text(encoding="utf-8").split()
        expected = np.bincount(ids, minlength=len(tokenizer.vocabulary))
        assert list(map(int, counts)) == expected.tolist()
        assert metrics["train"]["tokens"] == len(ids)
        assert metrics["size"] == len(counts)
        assert metrics["train"]["unknown_character_fraction"] == 0
        words = read_tokens_per_word(Path("results/vocab/tokens_per_word.csv"))
        assert words.sum() == metrics["train"]["words"]
        refuse_disagreement(Path("data/vocab"))
        return metrics

    assert run("sentencepiece", algorithm="byte_bpe", size=600)["size"] == 600
    shutil.copytree("data/vocab", "models/base")
    before = Path("models/base/tokenizer.json").read_bytes()
    assert run("model", "models/base")["new_words"] == 0
    assert Path("data/vocab/tokenizer.json").read_bytes() == before
    assert run("file", "models/base/tokenizer.json")["size"] == 600
    with pytest.raises(UserError, match=r"vocab\.lowercase: true, .* set false"):
        run("model", "models/base", lowercase=True)
    extended = run("extend", "models/base", size=640, min_frequency=2)
    assert (extended["size"], extended["new_words"]) == (640, 40)
    assert len(read_extension(Path("data/vocab")).new_tokens) == 40
    Path("models/base/tokenizer_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no pad_token"):
        run("model", "models/base")
