"""A ModernBERT with byte-level BPE, written by transformers: continued, extended, loaded again."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.huggingface import read_model  # noqa: E402
from lib.records.tfrecord_reader import decode, read_records  # noqa: E402
from lib.vocab.extension import read_extension  # noqa: E402
from lib.vocab.loading import load_tokenizer  # noqa: E402
from tests.helpers.library_tokenizers import (  # noqa: E402
    KINDS,
    training_text,
    write_library_tokenizer,
)
from tests.helpers.project import Project, write_text  # noqa: E402

# More embeddings than tokens, as published models have.
EMBEDDINGS = 768
BASE = "models/base/tiny"


def write_base(folder: Path) -> None:
    """A directory as that of ModernBERT-base."""
    write_library_tokenizer("modernbert", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(3)
    config = transformers.ModernBertConfig(
        vocab_size=EMBEDDINGS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        **{
            f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
            for name in ("pad", "cls", "sep")
        },
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    transformers.ModernBertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settings(source: str, size: int = 7800) -> dict:
    return {
        "vocab": {
            "source": source,
            "base": BASE,
            "size": size,
            "min_frequency": 2,
            "lowercase": False,
            "strip_accents": False,
        },
        "records": {"next_sentence": False, "packing": True, "masking": "dynamic"},
        "pretrain": {"init_missing_heads": False},
        "phases": {"main": {"init": BASE}},
    }


def run(project: Project) -> str:
    for stage in ("check", "preprocess", "sample5M", "vocab", "split"):
        project.stage(stage)
    project.stage("records", "main")
    output = project.stage("pretrain", "main")
    return output + project.stage("evaluate")


def mlm_loss(model, records: Path) -> float:
    """Mean over the masked tokens of unpacked or packed dev sequences, one example at a time."""
    total = weight = 0.0
    for path in sorted(records.glob("dev/*.tfrecord")):
        for each in map(decode, read_records(path, compressed=path.suffix == ".gz")):
            # Packed examples, apart.
            numbers = np.asarray(each["example_ids"])
            for number in range(1, int(numbers.max()) + 1):
                own = np.flatnonzero(numbers == number)
                chosen = [
                    (int(position), int(label))
                    for position, label, used in zip(
                        each["masked_lm_positions"],
                        each["masked_lm_ids"],
                        each["masked_lm_weights"],
                        strict=True,
                    )
                    if used and position in own
                ]
                ids = torch.tensor(np.asarray(each["input_ids"])[own][None], dtype=torch.long)
                with torch.no_grad():
                    logs = torch.log_softmax(model(ids).logits[0], -1)
                for position, label in chosen:
                    total -= float(logs[position - own[0], label])
                    weight += 1
    return total / weight


@pytest.mark.slow
@pytest.mark.parametrize("source", ["model", "extend"])
def test_a_model_with_byte_level_bpe_is_continued(tmp_path, source):
    project = Project(tmp_path / "project")
    write_text(project.folder / "data/raw", 200)
    write_base(project.folder / BASE)
    project.set(settings(source, size=900))
    output = run(project)
    assert f"starts from {BASE} (Hugging Face)" in output
    base = transformers.ModernBertForMaskedLM.from_pretrained(project.folder / BASE).eval()
    made = project.folder / "models/main"
    metrics = json.loads((project.folder / "results/pretrain/main/metrics.json").read_text())
    records = project.folder / "data/records/main"
    ours, theirs = (load_tokenizer(made), transformers.AutoTokenizer.from_pretrained(made))
    if source == "model":
        # Before the first step, the loss is that of transformers.
        assert metrics["dev_mlm_loss_initial"] == pytest.approx(mlm_loss(base, records), abs=1e-4)
        assert "33 embeddings of the model are beyond the vocabulary" in output
    else:
        extension = read_extension(project.folder / "data/vocab")
        assert len(extension.new_tokens) > 20
        initial = read_model(project.folder / "models/saved/main/initial")
        embeddings = initial[1][initial[0].token_embeddings]
        old = base.get_input_embeddings().weight.detach().numpy()
        for token in extension.new_tokens[:10]:
            expected = old[list(token.base_ids)].mean(0)
            np.testing.assert_allclose(embeddings[token.id], expected, atol=1e-6)
            assert theirs.tokenize(f"x {token.token}")[-1].strip() == token.token
    lines = [*training_text()[-3:], *training_text()[:50]]
    for line in lines:
        assert ours.encode(line) == theirs(line, add_special_tokens=False)["input_ids"]
    model = transformers.AutoModelForMaskedLM.from_pretrained(made).eval()
    assert type(model).__name__ == "ModernBertForMaskedLM"
    assert metrics["dev_mlm_loss"] == pytest.approx(mlm_loss(model, records), abs=1e-4)
    assert metrics["dev_mlm_loss"] < metrics["dev_mlm_loss_initial"]
    encoded = theirs(lines[0])["input_ids"]
    assert (encoded[0], encoded[-1]) == (ours.cls_id, ours.sep_id)
    fill = transformers.pipeline("fill-mask", model=str(made))
    assert fill(f"The cat {theirs.mask_token}.")[0]["score"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_gives_the_same_ids(tmp_path, kind):
    ours = load_tokenizer(write_library_tokenizer(kind, tmp_path / "base"))
    ours.write(tmp_path, 128, segments=False, listing=False)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for line in [*training_text()[-3:], *training_text()[:50], " a  b [MASK] c", ""]:
        assert ours.encode(line) == theirs(line, add_special_tokens=False)["input_ids"]
    assert theirs.model_max_length == 128
    assert theirs.mask_token_id == ours.mask_id
    assert "token_type_ids" not in theirs("a")
