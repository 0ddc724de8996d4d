"""Base models are checked before any work: what is accepted, what is refused, and with what words.

The kinds of models are those that people reported to have trouble with.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from lib.checkpoints.huggingface import write_model
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.model.modernbert_config import ModernBertConfig
from lib.run.errors import UserError
from lib.train.base_models import check_base_models
from lib.vocab.export import write_tokenizer
from lib.vocab.settings import SPECIAL_TOKENS
from tests.conftest import ROOT
from tests.helpers.library_tokenizers import write_library_tokenizer
from tests.helpers.pickles import write_pytorch_file
from tests.helpers.tiny_bert import TINY, TINY_MODERN

TOKENS = [*SPECIAL_TOKENS, "[unused0]", "co", "##vid", "wu", "##han", "the", "lion"]
CONFIG = replace(TINY, vocab_size=len(TOKENS))
MODERN = replace(TINY_MODERN, vocab_size=len(TOKENS))
BASE = Path("models/base")
Edit = Callable[[Path], object]


def weights(config: EncoderConfig = CONFIG) -> dict[str, np.ndarray]:
    return initial_values(config, 1)


def write_base(config: EncoderConfig = CONFIG, tokens: list[str] = TOKENS) -> None:
    """A model as transformers 4 saves it, uncased."""
    write_model(BASE, config, weights(config), {"pad_token_id": 0})
    (BASE / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    write_json("tokenizer_config.json", {"do_lower_case": True, "tokenizer_class": "BertTokenizer"})


def write_modern(config: ModernBertConfig = MODERN) -> None:
    """A ModernBERT as this project and transformers 5 save it, uncased."""
    for path in BASE.iterdir():
        path.unlink()
    write_model(BASE, config, weights(config), config.special_ids(0, 2, 3))
    write_tokenizer(BASE, TOKENS, True, True, config.max_position_embeddings, segments=False)
    (BASE / "vocab.txt").unlink()


def write_json(name: str, values: object) -> None:
    (BASE / name).write_text(json.dumps(values), encoding="utf-8")


def change_json(name: str, **changes: object) -> None:
    write_json(name, json.loads((BASE / name).read_text(encoding="utf-8")) | changes)


def change_tensors(edit: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    path = BASE / "model.safetensors"
    tensors = edit(load_file(path))
    path.unlink()
    save_file(tensors, path)


def as_pytorch_file(prefix: str = "") -> None:
    path = BASE / "model.safetensors"
    tensors = {prefix + name: array for name, array in load_file(path).items()}
    write_pytorch_file(BASE / "pytorch_model.bin", tensors)
    path.unlink()


def without_nsp_head() -> None:
    change_tensors(
        lambda tensors: {
            name: array
            for name, array in tensors.items()
            if "seq_relationship" not in name and "pooler" not in name
        }
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a base model; the function writes params.yaml that start from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    BASE.mkdir(parents=True)
    write_base()

    def configure(init: str = str(BASE), **sections: dict) -> None:
        values = {
            "vocab": {"source": "model", "base": str(BASE)} | sections.pop("vocab", {}),
            "phases": {"main": {"max_seq_length": 24, "init": init}},
            "records": {"next_sentence": True},
            "pretrain": {"model": {"architecture": "bert"}},
            **sections,
        }
        Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")

    configure()
    return configure


def described(capsys) -> str:
    check_base_models()
    return capsys.readouterr().out


def refusal() -> str:
    with pytest.raises(UserError) as caught:
        check_base_models()
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_base_model_is_described_once(project, capsys):
    assert described(capsys) == (
        f"phases.main.init: {BASE}: Hugging Face, 12 embeddings for 12 tokens, 2 x 16 (layers x "
        "hidden size), attention heads: 2, positions: 24, segments: 2, MLM head, NSP head, pooler, "
        "uncased\n"
    )
    assert described(capsys) == ""
    # Again, if a file or a parameter has changed.
    write_json("README.json", {})
    assert "uncased" in described(capsys)
    project(records={"next_sentence": False})
    assert "uncased" in described(capsys)
    assert described(capsys) == ""
    change_json("tokenizer_config.json", never_split=["[unused0]"])
    assert "never_split ('[unused0]')" in refusal()
    assert "never_split ('[unused0]')" in refusal()


def test_without_a_base_model_nothing_is_checked(project, capsys):
    project("data/vocab", vocab={"source": "sentencepiece", "base": "data/sample"})
    assert described(capsys) == ""
    assert not Path(".scratch").exists()


def test_models_that_phases_make_are_not_base_models(project, capsys):
    project("data/vocab", vocab={"source": "sentencepiece", "base": "data/sample"})
    values = yaml.safe_load(Path("params.yaml").read_text())
    for name, init in (("second", "models/main"), ("third", "models/saved/second/best")):
        values["phases"][name] = {"max_seq_length": 24, "init": init}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert described(capsys) == ""
    values["phases"]["third"]["init"] = "models/other"
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert refusal().startswith("phases.third.init: models/other does not exist; name data/vocab")
    # A stage of the user's own may make it.
    stages = {"stages": {"mine": {"cmd": "true", "outs": ["models/other"]}}}
    Path("dvc.yaml").write_text(yaml.safe_dump(stages))
    assert described(capsys) == ""


SINGLE = {"records": {"next_sentence": False}}


def encoder_only() -> None:
    change_tensors(lambda x: {name: a for name, a in x.items() if name.startswith("model.")})


def spare(count: int) -> Edit:
    return lambda _: write_base(replace(CONFIG, vocab_size=len(TOKENS) + count))


def added_tokens(_: Path) -> None:
    write_base(replace(CONFIG, vocab_size=len(TOKENS) + 3))
    write_json("added_tokens.json", {f"term{number}": 12 + number for number in range(3)})


def old_names(folder: Path) -> None:
    as_pytorch_file()
    (folder / "config.json").rename(folder / "bert_config.json")
    change_json("bert_config.json", model_type=None, architectures=None)


def other_line_ends(folder: Path) -> None:
    text = "\ufeff" + "\r\n".join([*TOKENS, "", ""])
    (folder / "vocab.txt").write_bytes(text.encode())


@pytest.mark.parametrize(
    ("edit", "sections", "expected"),
    [
        # 33: more embeddings than vocabulary entries.
        (spare(1000), {}, "1,012 embeddings for 12 tokens"),
        (spare(1), {}, "13 embeddings for 12 tokens"),
        # 34: added tokens.
        (added_tokens, {}, "15 embeddings for 15 tokens (3 added)"),
        # 35: one segment, where training needs one.
        (
            lambda _: write_base(replace(CONFIG, type_vocab_size=1)),
            {"records": {"next_sentence": False}},
            "segments: 1",
        ),
        # 36: bert_config.json beside PyTorch weights.
        (old_names, {}, "Hugging Face, 12 embeddings for 12 tokens"),
        (lambda _: as_pytorch_file("module."), {}, "NSP head, pooler"),
        (lambda _: as_pytorch_file("module._orig_mod."), {}, "NSP head, pooler"),
        # Only masked words were trained, and only masked words will be.
        (
            lambda _: without_nsp_head(),
            {"records": {"next_sentence": False}},
            "MLM head, uncased\nphases.main.init: note: random initial weights for NSP head and",
        ),
        (
            lambda _: without_nsp_head(),
            {"pretrain": {"init_missing_heads": True}},
            "random initial weights for NSP head and pooler",
        ),
        (other_line_ends, {}, "12 embeddings for 12 tokens"),
        (
            lambda _: write_base(replace(CONFIG, vocab_size=13), [*TOKENS, "lion"]),
            {},
            "repeated lines in its vocabulary: 1, of equal tokens the last counts",
        ),
        (
            lambda _: write_base(replace(CONFIG, max_position_embeddings=8)),
            {},
            "positions are extended to 24",
        ),
        (
            lambda _: write_modern(),
            SINGLE,
            "4 x 16 (layers x hidden size), attention heads: 2, positions: 24, segments: 1, "
            "prediction head, MLM head, uncased\n",
        ),
        (lambda _: write_modern(), SINGLE | {"vocab": {"source": "extend", "size": 20}}, "uncased"),
        (
            lambda _: write_modern(replace(MODERN, max_position_embeddings=8)),
            SINGLE,
            "note: was made for inputs of at most 8 tokens; its sequences will have 24",
        ),
        (
            lambda _: (write_modern(), encoder_only()),
            SINGLE | {"pretrain": {"init_missing_heads": True}},
            "random initial weights for prediction head and MLM head",
        ),
        # Values that change no id.
        (
            lambda _: change_json(
                "tokenizer_config.json",
                never_split=["[UNK]", "lion"],
                do_basic_tokenize=True,
                word_tokenizer_type="basic",
                subword_tokenizer_type="wordpiece",
                strip_accents=None,
                tokenizer_class="DistilBertTokenizerFast",
                additional_special_tokens=[],
                unk_token={"content": "[UNK]", "lstrip": False},
                eos_token="[SEP]",
            ),
            {},
            "uncased",
        ),
        (
            lambda folder: (folder / "tokenizer_config.json").unlink(),
            {"vocab": {"lowercase": False, "strip_accents": False}},
            "case not stated",
        ),
        (
            lambda _: change_json("tokenizer_config.json", do_lower_case=False),
            {"vocab": {"lowercase": False, "strip_accents": False}},
            ", cased",
        ),
        (lambda _: None, {"vocab": {"source": "extend", "size": 20}}, "uncased"),
    ],
)
def test_kinds_of_base_models_that_are_accepted(project, capsys, edit, sections, expected):
    edit(BASE)
    project(**sections)
    assert expected in described(capsys)


def with_value(value: float) -> Edit:
    def edit(_: Path) -> None:
        def changed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            tensors["bert.encoder.layer.1.output.dense.weight"][3, 2] = value
            return tensors

        change_tensors(changed)

    return edit


def config(**changes: object) -> Edit:
    return lambda _: change_json("config.json", **changes)


def tokenizer(**changes: object) -> Edit:
    return lambda _: change_json("tokenizer_config.json", **changes)


def japanese(_: Path) -> None:
    change_json("config.json", tokenizer_class="BertJapaneseTokenizer")
    write_json("tokenizer_config.json", {"word_tokenizer_type": "mecab"})


def japanese_without_weights(folder: Path) -> None:
    japanese(folder)
    (folder / "model.safetensors").unlink()


def pointer(name: str) -> Edit:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"

    def edit(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).write_text(text)

    return edit


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-9])


def broken_link(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/123")


def moved_down(folder: Path) -> None:
    (folder / "inner").mkdir()
    for path in [*folder.iterdir()]:
        if path.is_file():
            path.rename(folder / "inner" / path.name)


def byte_level() -> None:
    """The kind of tokenizer that the published ModernBERTs have."""
    change_json(
        "tokenizer.json",
        model={"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
        normalizer={"type": "NFC"},
        pre_tokenizer={"type": "ByteLevel"},
    )


ADDED = "added_tokens.json"
REFUSED = [
    # 31: a Japanese tokenizer.
    (japanese, r"config\.json: tokenizer_class should be BertTokenizer .*'BertJapaneseTokenizer'"),
    (tokenizer(word_tokenizer_type="mecab"), r"word_tokenizer_type should be basic.*'mecab'"),
    (tokenizer(subword_tokenizer_type="character"), "subword_tokenizer_type should be wordpiece"),
    (tokenizer(do_basic_tokenize=False), "do_basic_tokenize: false is not supported"),
    (tokenizer(do_basic_tokenize="false"), "do_basic_tokenize should be true, false or null"),
    (tokenizer(never_split=["[unused0]"]), r"never_split \('\[unused0\]'\) is not supported"),
    (tokenizer(never_split=["Lion"]), r"never_split \('Lion'\) is not supported"),
    (tokenizer(never_split=[3]), "never_split should be a list"),
    (tokenizer(never_split="lion"), "never_split should be a list"),
    (tokenizer(tokenize_chinese_chars=False), "tokenize_chinese_chars: false is not supported"),
    (tokenizer(do_lower_case="true"), r"do_lower_case should be true, false or null.*'true'"),
    (tokenizer(strip_accents=1), "strip_accents should be true, false or null"),
    (tokenizer(do_lower_case=False), "vocab.lowercase: true, but the tokenizer of models/base has"),
    (tokenizer(tokenizer_class="RobertaTokenizer"), "tokenizer_class should be .*'RobertaToken"),
    (tokenizer(tokenizer_class="PreTrainedTokenizerFast"), "put its tokenizer.json there"),
    (tokenizer(cls_token="<s>"), r"cls_token should be \[CLS\]. Received: '<s>'"),
    (tokenizer(sep_token=3), "sep_token should be a token. Received: 3"),
    (tokenizer(additional_special_tokens=["[E1]"]), r"the added token '\[E1\]' is not a word"),
    (
        tokenizer(added_tokens_decoder={"-1": {"content": "lion"}}),
        "id of 'lion' should be a whole number from 0 .* Received: '-1'",
    ),
    # 34: added tokens that cannot be honoured.
    (lambda _: write_json(ADDED, {"[URL]": 12}), r"the added token '\[URL\]' is not a word"),
    (lambda _: write_json(ADDED, {"New York": 12}), "the added token 'New York' is not a word"),
    (lambda _: write_json(ADDED, {"Covid": 12}), "the added token 'Covid' is not a word"),
    (lambda _: write_json(ADDED, {"tiger": 11}), "'tiger' has the id 11, which is that of 'lion'"),
    (lambda _: write_json(ADDED, {"lion": 12}), "'lion' has the id 12, but in vocab.txt it has"),
    (lambda _: write_json(ADDED, {"tiger": -1}), "whole number from 0 to below .* Received: -1"),
    (lambda _: write_json(ADDED, {"tiger": 10**18}), "Received: 1000000000000000000"),
    (lambda _: write_json(ADDED, {"tiger": 9_000_000}), "has the id 9,000,000, but there are only"),
    (lambda _: write_json(ADDED, {"tiger": "12"}), "whole number from 0 to below"),
    (lambda _: write_json(ADDED, {"tiger": 12.0}), "whole number from 0 to below"),
    (lambda _: write_json(ADDED, {"tiger": True}), "whole number from 0 to below"),
    (lambda _: write_json(ADDED, ["tiger"]), "added_tokens.json: should be a JSON object"),
    # More tokens than embeddings.
    (
        lambda _: write_json(ADDED, {"tiger": 12}),
        r"the vocabulary size of the model is 12, but its vocab.txt has 13 tokens; give the model",
    ),
    # 35: one segment, where training needs two.
    (
        lambda _: write_base(replace(CONFIG, type_vocab_size=1)),
        r"type_vocab_size is 1, .*set records.next_sentence: false",
    ),
    # 37: other kinds of models.
    (japanese_without_weights, r"config\.json: tokenizer_class should be BertTokenizer"),
    (
        config(model_type="roberta"),
        "model_type should be bert or modernbert. Received: 'roberta', another",
    ),
    (
        config(model_type=None, architectures=["RobertaForMaskedLM"]),
        "architectures should have a class of BERT",
    ),
    (config(position_embedding_type="relative_key"), "position_embedding_type should be absolute"),
    (config(is_decoder=True), "is_decoder should be false"),
    (config(pruned_heads={"0": [1]}), "pruned_heads should be {}"),
    (config(num_hidden_layers=10**9), "num_hidden_layers should be at most 1,000"),
    (config(vocab_size=10**12), "vocab_size should be at most 16,777,216"),
    (config(hidden_size="16"), "hidden_size should be a whole number above 0. Received: '16'"),
    (config(max_position_embeddings=-24), "max_position_embeddings should be a whole number above"),
    (config(layer_norm_eps="1e-12"), "layer_norm_eps should be a number between 0 and 1"),
    (config(num_hidden_layers=3), "of a BERT with 3 layers are missing"),
    (lambda _: without_nsp_head(), r"no NSP head and no pooler.* or records.next_sentence: false"),
    # ModernBERT: with sentence pairs, and with its own tokenizer.
    (
        lambda _: write_modern(),
        "a ModernBERT has no segments and no NSP head, .* set records.next_sentence: false",
    ),
    (
        lambda _: (write_modern(), byte_level()),
        r"tokenizer\.json: the library tokenizers cannot read it \(missing field",
    ),
    # Files.
    (
        with_value(np.nan),
        r"layer\.1\.output\.dense\.weight has 1 values of 512 that are NaN or inf",
    ),
    (with_value(-np.inf), "that are NaN or infinite"),
    (cut, r"model\.safetensors: damaged"),
    (broken_link, r"model\.safetensors: a link to a file that does not exist"),
    (moved_down, "no model found, but there is one in models/base/inner; name that"),
    (lambda folder: (folder / "config.json").unlink(), r"config\.json: no such file"),
    (
        lambda folder: (folder / "model.safetensors").rename(folder / "tf_model.h5"),
        r"its weights, tf_model\.h5, are not in a format read here; load it with transformers",
    ),
    *[
        (pointer(name), rf"{re.escape(name)}: a Git LFS pointer, .*git lfs pull")
        for name in ("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors")
    ],
    (lambda folder: (folder / "vocab.txt").write_text("\n\n"), "vocab.txt: empty"),
    (
        lambda folder: (folder / "vocab.txt").write_text("\n".join(TOKENS[:4])),
        r"vocab\.txt: the vocabulary lacks the special token \[MASK\]",
    ),
    (
        lambda folder: (folder / "vocab.txt").rename(folder / "merges.txt"),
        r"its tokenizer \(merges\.txt\) needs a tokenizer\.json; .*save_pretrained",
    ),
    (
        lambda folder: (folder / "config.json").write_text("[" * 10**5),
        "config.json: not valid JSON",
    ),
]


def test_a_model_with_byte_level_bpe_is_checked_as_well(project, capsys):
    write_modern(replace(MODERN, vocab_size=768))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (BASE / name).unlink()
    write_library_tokenizer("modernbert", BASE)
    cased = {"lowercase": False, "strip_accents": False}
    project(vocab=cased, **SINGLE)
    found = described(capsys)
    assert "768 embeddings for 735 tokens" in found and ", cased" in found
    project(vocab={**cased, "source": "extend", "size": 734}, **SINGLE)
    assert "vocab.size: 734 is smaller than the vocabulary to extend (735" in refusal()
    project(**SINGLE)
    assert "vocab.lowercase: true, but the tokenizer of models/base has false" in refusal()
    change_json("tokenizer_config.json", mask_token=None)
    assert "tokenizer_config.json: no mask_token (the token for masked tokens)" in refusal()


@pytest.mark.parametrize(("edit", "message"), REFUSED)
def test_kinds_of_base_models_that_are_refused(project, edit, message):
    edit(BASE)
    found = refusal()
    assert re.search(message, found), found
    assert str(BASE) in found


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"vocab": {"source": "extend", "size": 11}},
            "vocab.size: 11 is smaller than the vocabulary to extend",
        ),
        ({"vocab": {"strip_accents": False}}, "vocab.strip_accents: false, but the tokenizer of"),
        ({"vocab": {"base": "models/none"}}, "models/none: no such folder"),
        ({"vocab": {"base": "models/base/vocab.txt"}}, "is a file; name its folder, models/base"),
        ({"init": "models/none"}, "phases.main.init: models/none does not exist; name data/vocab"),
        ({"init": "models/base/vocab.txt"}, "vocab.txt is a file, but neither a config file"),
    ],
)
def test_parameters_that_do_not_fit_the_base_model_are_refused(project, sections, message):
    project(**sections)
    assert message in refusal()


@pytest.mark.parametrize(("label", "accepted"), [({}, True), ({"next_sentence_label": 0}, False)])
def test_external_examples_decide_whether_the_nsp_head_is_needed(project, capsys, label, accepted):
    without_nsp_head()
    Path("external").mkdir()
    example = {"input_ids": [2, 3], "attention_mask": [1, 1], "labels": [-100, -100]}
    Path("external/train.jsonl").write_text(json.dumps(example | label) + "\n")
    project(records={"source": "external"})
    if accepted:
        assert "random initial weights for NSP head" in described(capsys)
    else:
        assert "no NSP head and no pooler" in refusal()


def test_another_vocabulary_than_that_of_vocab_base_is_refused(project):
    Path("other.txt").write_text("\n".join([*TOKENS[:-1], "tiger"]))
    project(vocab={"source": "file", "base": "other.txt"})
    assert "token 11 is 'lion', not 'tiger'" in refusal()


def test_what_is_not_pulled_is_not_checked(project, capsys):
    """A machine that only trains need not have everything."""
    Path("models/far.dvc").touch()
    project("models/far", vocab={"base": "models/far/vocab"})
    assert described(capsys) == "".join(
        f"{key}: {path} is not there yet, so it is not checked; `dvc pull models/far` gets it\n"
        for key, path in (
            ("phases.main.init", "models/far"),
            ("vocab.base", "models/far/vocab"),
        )
    )


def test_one_of_several_checkpoints_is_named_as_init(project, capsys):
    """38: the advice in the error works. The checkpoint is one of the Model Garden's own."""
    shutil.rmtree(BASE)
    shutil.copytree(ROOT / "tests/fixtures/model_garden/run_pretraining", BASE)
    for path in [*BASE.glob("bert_model.ckpt-1.*")]:
        for number in ("9", "10"):
            shutil.copy(path, BASE / path.name.replace("ckpt-1.", f"ckpt-{number}."))
        path.unlink()
    tokens = [*TOKENS, *(f"word{number}" for number in range(40 - len(TOKENS)))]
    (BASE / "vocab.txt").write_text("\n".join(tokens) + "\n")
    named = BASE / "bert_model.ckpt-10.index"
    assert refusal() == (
        f"{BASE}: several checkpoints: bert_model.ckpt-9, bert_model.ckpt-10; name one of them in "
        f"place of the folder, such as {named}"
    )
    project(str(named.with_suffix("")))
    assert refusal().endswith(f"is not a file that DVC can follow; write {named}")
    project(str(named))
    assert f"phases.main.init: {named}: Model Garden TF2, 40 embed" in described(capsys)
    project(str(named), vocab={"base": str(named)})
    assert refusal() == f"vocab.base: {named} is a file; name its folder, {BASE}"
    # Its state file decides as well.
    state = 'model_checkpoint_path: "bert_model.ckpt-9"\n'
    (BASE / "checkpoint").write_text(state)
    project()
    assert f"phases.main.init: {BASE}: Model Garden TF2, 40 embed" in described(capsys)


def test_the_sizes_of_a_modernbert_are_checked(project, capsys):
    write_modern()
    project(str(BASE / "config.json"), **SINGLE)
    assert "vocab.base: models/base: 12 tokens" in described(capsys)
    change_json("config.json", max_position_embeddings=16)
    assert f"raise max_position_embeddings in {BASE / 'config.json'}" in refusal()
    change_json("config.json", max_position_embeddings=24)
    project(str(BASE / "config.json"))
    assert "a ModernBERT has no segments and no NSP head" in refusal()


def test_sizes_in_a_config_file_are_checked(project, capsys):
    path = BASE / "config.json"
    project(str(path))
    assert "vocab.base: models/base: 12 tokens" in described(capsys)
    change_json("config.json", max_position_embeddings=16)
    assert f"raise max_position_embeddings in {path}" in refusal()


def run_stage(stage: str) -> subprocess.CompletedProcess:
    """Runs a stage, with the modules that it imports on standard error."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"stages.{stage}"],
        env={"PYTHONPATH": str(ROOT), "DVC_STAGE": f"{stage}@main", "PATH": ""},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    "stage",
    [
        "preprocess",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("check", "sample5M", "vocab", "split", "records", "pretrain")
        ),
    ],
)
def test_every_stage_refuses_first_and_without_tensorflow(project, stage):
    change_json("config.json", model_type="roberta")
    done = run_stage(stage)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"{stage}: error: models/base/config.json: model_type should be bert or")
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))
    assert "numpy" in imported and "tensorflow" not in imported
    assert sorted(path.name for path in Path().iterdir()) == ["models", "params.yaml"]
