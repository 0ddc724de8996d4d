"""Every kind of base model that is accepted, through the real stages from vocab to pretrain."""

import json
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lib.checkpoints import google
from lib.checkpoints.huggingface import write_model
from lib.model.bert_config import BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.vocab.settings import SPECIAL_TOKENS
from tests.helpers import tiny_bert
from tests.helpers.pickles import write_pytorch_file
from tests.helpers.project import TINY, Project, write_text

CHARACTERS = [*string.ascii_lowercase, *string.digits]
TOKENS = [*SPECIAL_TOKENS, *CHARACTERS, *map("##{}".format, CHARACTERS), ".", "the", "times"]
SIZE = len(TOKENS)
CONFIG = replace(tiny_bert.TINY, vocab_size=SIZE, num_hidden_layers=1, max_position_embeddings=64)
# Fewer positions than the sequences have tokens; layers 1 and 2 are local.
MODERN = replace(
    tiny_bert.TINY_MODERN, vocab_size=SIZE, local_attention=8, max_position_embeddings=16
)
SINGLE = {"records": {"next_sentence": False}}


def weights(config: EncoderConfig) -> dict[str, np.ndarray]:
    return initial_values(config, 5)


def write_base(folder: Path, config: BertConfig = CONFIG) -> None:
    write_model(folder, config, weights(config), {"pad_token_id": 0})


def spare_embeddings(folder: Path) -> str:
    write_base(folder, replace(CONFIG, vocab_size=len(TOKENS) + 1000))
    return ""


def added_tokens(folder: Path) -> str:
    write_base(folder, replace(CONFIG, vocab_size=len(TOKENS) + 3))
    added = {"engine": len(TOKENS), "bridge": len(TOKENS) + 2}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    return ""


def data_parallel(folder: Path) -> str:
    write_base(folder)
    tensors = load_file(folder / "model.safetensors")
    renamed = {f"module.{name}": array for name, array in tensors.items()}
    write_pytorch_file(folder / "pytorch_model.bin", renamed)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").rename(folder / "bert_config.json")
    return ""


def masked_words_only(folder: Path) -> str:
    write_base(folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {key: x for key, x in tensors.items() if "seq_rel" not in key and "pooler" not in key}
    write_pytorch_file(folder / "pytorch_model.bin", kept)
    (folder / "model.safetensors").unlink()
    return ""


def one_segment(folder: Path) -> str:
    write_base(folder, replace(CONFIG, type_vocab_size=1))
    return ""


def modernbert(folder: Path) -> str:
    write_model(folder, MODERN, weights(MODERN), MODERN.special_ids(0, 2, 3))
    return ""


def several_checkpoints(folder: Path) -> str:
    config = replace(CONFIG, hidden_act="gelu_new")
    for seed, name in enumerate(("model.ckpt-9", "model.ckpt-10")):
        google.write_model(folder, config, initial_values(config, seed + 4))
        for path in folder.glob("bert_model.ckpt.*"):
            path.rename(folder / path.name.replace("bert_model.ckpt", name))
    return "/model.ckpt-10.index"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with text, up to its shards; base models are uncased."""
    project = Project(tmp_path_factory.mktemp("base"))
    write_text(project.folder / "data/raw", 60)
    pretrain = {"steps": 4, "warmup_steps": 1, "evaluate_every": 4, "save_model_every": None}
    project.set({"pretrain": TINY["pretrain"] | pretrain})
    for stage in ("preprocess", "sample5M", "split"):
        project.stage(stage)
    return project


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "settings"),
    [
        (spare_embeddings, {}),
        (added_tokens, {}),
        (data_parallel, {}),
        (masked_words_only, SINGLE),
        (one_segment, SINGLE),
        (several_checkpoints, {}),
        (modernbert, SINGLE | {"vocab": {"source": "extend", "size": len(TOKENS) + 8}}),
    ],
)
def test_a_base_model_is_trained(project: Project, write: Callable[[Path], str], settings: dict):
    base = f"models/base/{write.__name__}"
    folder = project.folder / base
    folder.mkdir(parents=True)
    inside = write(folder)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    project.set(
        {
            "vocab": {"source": "model", "base": base} | settings.get("vocab", {}),
            "records": {"next_sentence": True} | settings.get("records", {}),
            "phases": {"main": {"init": base}},
        }
    )
    if inside:
        # The error names what works in place of the folder.
        output = project.stage("vocab", code=1)
        assert f"name one of them in place of the folder, such as {base}{inside}" in output
        project.set({"phases": {"main": {"init": f"{base}{inside}"}}})
    output = project.stage("vocab")
    assert f"phases.main.init: {base}" in output and "uncased" in output
    # Those that differ in what evaluate reads are evaluated, too.
    last = ["evaluate"] if write in (added_tokens, one_segment, modernbert) else []
    for stage in ("records", "pretrain", *last):
        assert "phases.main.init" not in project.stage(stage, "main")
    metrics = json.loads((project.folder / "results/pretrain/main/metrics.json").read_text())
    assert metrics["dev_mlm_loss"] < metrics["dev_mlm_loss_initial"] + 0.01
    exported = json.loads((project.folder / "models/main/config.json").read_text())
    tensors = load_file(project.folder / "models/main/model.safetensors")
    words = tensors[
        "model.embeddings.tok_embeddings.weight"
        if write is modernbert
        else "bert.embeddings.word_embeddings.weight"
    ]
    assert exported["vocab_size"] == len(words)
    vocabulary = (project.folder / "models/main/vocab.txt").read_text().splitlines()
    if write is spare_embeddings:
        assert len(words) == len(vocabulary) + 1000
    if write is added_tokens:
        counts = (project.folder / "data/vocab/token_counts.txt").read_text().split()
        for token, entry in (("engine", len(TOKENS)), ("bridge", len(TOKENS) + 2)):
            assert vocabulary[entry] == token and int(counts[entry]) > 0
    if write is one_segment:
        assert exported["type_vocab_size"] == 1
        assert tensors["bert.embeddings.token_type_embeddings.weight"].shape == (1, 16)
    if write is several_checkpoints:
        # The second checkpoint, from which four small steps do not lead far.
        given = initial_values(CONFIG, 5)["bert/embeddings/word_embeddings"]
        assert np.abs(words - given).max() < 0.02
    if write is modernbert:
        assert len(vocabulary) == len(words) == len(TOKENS) + 8
        assert exported["max_position_embeddings"] == 32 and exported["cls_token_id"] == 2
        card = (project.folder / "models/main/README.md").read_text()
        assert "A ModernBERT (masked language model), continued from" in card
    if write is masked_words_only:
        assert "seq_relationship" in " ".join(tensors)
