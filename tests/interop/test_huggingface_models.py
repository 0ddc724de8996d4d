"""Models saved by PyTorch and transformers are read; exported models fine-tune there."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.formats import read_checkpoint  # noqa: E402
from lib.checkpoints.huggingface import read_model, write_model  # noqa: E402
from lib.checkpoints.huggingface_names import names_of  # noqa: E402
from lib.model.bert import encode, masked_lm_logits, next_sentence_logits  # noqa: E402
from lib.model.config import BertConfig  # noqa: E402
from lib.vocab.export import write_tokenizer  # noqa: E402
from lib.vocab.settings import SPECIAL_TOKENS  # noqa: E402
from tests.helpers.tiny_bert import random_weights  # noqa: E402

# 21 entries, and 24 word embeddings: padded to a multiple of 8.
TOKENS = [*SPECIAL_TOKENS, *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh")]
EMBEDDINGS = 24
HEADS = {
    "BertForPreTraining": (),
    "BertForMaskedLM": ("NSP head", "pooler"),
    "BertModel": ("MLM head", "NSP head"),
    "BertForSequenceClassification": ("MLM head", "NSP head"),
}


def sizes(hidden_act: str = "gelu", segments: int = 16) -> BertConfig:
    return BertConfig(
        vocab_size=EMBEDDINGS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        hidden_act=hidden_act,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        max_position_embeddings=20,
        type_vocab_size=segments,
    )


def transformers_model(name: str):
    """A transformers model with random weights and biases."""
    torch.manual_seed(0)
    model = getattr(transformers, name)(transformers.BertConfig(**vars(sizes())))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["zip", "older", "wrapped", "safetensors", "shards"])
@pytest.mark.parametrize("name", HEADS)
def test_saved_models_are_read_bit_for_bit(tmp_path, name, form, dtype):
    model = transformers_model(name).to(dtype)
    state = model.state_dict()
    model.config.save_pretrained(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    if form in ("zip", "older"):
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    elif form == "wrapped":
        # Training code often saves parameters rather than tensors.
        parameters = model.state_dict(keep_vars=True)
        torch.save({"epoch": 1, "state_dict": parameters}, path, pickle_protocol=4)
    else:
        model.save_pretrained(tmp_path, max_shard_size="5GB" if form == "safetensors" else "9KB")
        assert not path.exists() and len([*tmp_path.glob("*.safetensors")]) > 2 * (form == "shards")
    checkpoint = read_checkpoint(tmp_path, allow_missing_heads=True)
    assert checkpoint.config == sizes()
    assert checkpoint.missing_heads == HEADS[name]
    expected_unused = ("classifier.bias", "classifier.weight") if "Sequence" in name else ()
    assert checkpoint.unused_tensors == expected_unused
    read = 0
    for parameter, each in names_of(sizes()).stored_tensors(sizes()).items():
        if parameter in checkpoint.weights:
            key = each.name.removeprefix("bert.") if name == "BertModel" else each.name
            expected = state[key].float().numpy()
            found = each.from_parameter(checkpoint.weights[parameter])
            assert found.tobytes() == expected.tobytes(), parameter
            read += 1
    assert read == len(checkpoint.weights) >= 37 + 2 * ("pooler" not in checkpoint.missing_heads)


def test_views_of_one_storage_are_read(tmp_path):
    """A model whose parameters are views of one long vector, some of them transposed."""
    model = transformers_model("BertForPreTraining")
    state = model.state_dict()
    flat = torch.cat([values.t().reshape(-1) if values.dim() == 2 else values.reshape(-1)
                      for values in state.values()])  # fmt: skip
    views, at = {}, 0
    for key, values in state.items():
        part = flat[at : at + values.numel()]
        views[key] = part.view(values.shape[::-1]).t() if values.dim() == 2 else part
        at += values.numel()
    model.config.save_pretrained(tmp_path)
    for zipped in (True, False):
        path = tmp_path / "pytorch_model.bin"
        torch.save(views, path, _use_new_zipfile_serialization=zipped)
        _, weights = read_model(tmp_path)
        for parameter, each in names_of(sizes()).stored_tensors(sizes()).items():
            found = each.from_parameter(weights[parameter])
            assert found.tobytes() == state[each.name].numpy().tobytes()


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    mask = (np.arange(20) < np.array([20, 3, 11, 19])[:, None]).astype(np.int32)
    ids = (draw.integers(1, EMBEDDINGS, (4, 20)) * mask).astype(np.int32)
    return ids, mask, (draw.integers(0, 16, (4, 20)) * mask).astype(np.int32)


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_outputs_equal_those_of_transformers(tmp_path, hidden_act, precision, tolerance):
    """For 16 token types and padded sequences; float64 excludes rounding as an explanation."""
    config = sizes(hidden_act)
    write_model(tmp_path, config, random_weights(1, config), {"pad_token_id": 0})
    ids, mask, segments = inputs()
    model = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    model = model.to(getattr(torch, precision))
    with torch.no_grad():
        given = [torch.tensor(values).long() for values in (ids, mask, segments)]
        expected = model(*given, output_hidden_states=True)
    found, arrays = read_model(tmp_path)
    weights = {name: array.astype(precision) for name, array in arrays.items()}
    batch = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    hidden = encode(weights, found, batch)
    pairs = [
        (hidden, expected.hidden_states[-1]),
        (masked_lm_logits(weights, found, hidden), expected.prediction_logits),
    ]
    real = mask.astype(bool)
    for ours, reference in pairs:
        assert np.abs(ours.numpy() - reference.numpy())[real].max() <= tolerance
    sentence = next_sentence_logits(weights, hidden[:, :1]).numpy()[:, 0]
    assert np.abs(sentence - expected.seq_relationship_logits.numpy()).max() <= tolerance


LABELS = {
    "AutoModelForMaskedLM": lambda ids: {"labels": ids},
    "BertForPreTraining": lambda ids: {
        "labels": ids,
        "next_sentence_label": torch.tensor([0, 1, 1, 0]),
    },
    "AutoModelForSequenceClassification": lambda ids: {"labels": torch.tensor([0, 2, 1, 2])},
    "AutoModelForTokenClassification": lambda ids: {"labels": ids % 3},
}


@pytest.mark.parametrize("name", LABELS)
def test_exported_model_fine_tunes_in_transformers(tmp_path, name):
    config = sizes(segments=2)
    weights = random_weights(1, config)
    write_model(tmp_path, config, weights, {"pad_token_id": 0})
    write_tokenizer(tmp_path, TOKENS, True, True, 20)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(["abba", "bad head", "ca fe", "had"], padding=True, return_tensors="pt")
    assert tokenizer.unk_token_id not in batch["input_ids"]
    torch.manual_seed(0)
    options = {} if name in ("AutoModelForMaskedLM", "BertForPreTraining") else {"num_labels": 3}
    model, report = getattr(transformers, name).from_pretrained(
        tmp_path, output_loading_info=True, **options
    )
    # All weights come from the exported model but those of a new classifier.
    assert all(key.startswith("classifier.") for key in report["missing_keys"])
    assert not report["mismatched_keys"]
    table = model.get_input_embeddings().weight
    before = table.detach().clone()
    assert np.array_equal(before.numpy(), weights["bert/embeddings/word_embeddings"])
    labels = LABELS[name](batch["input_ids"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def loss() -> float:
        with torch.no_grad():
            return float(model.eval()(**batch, **labels).loss)

    start = loss()
    model.train()
    for _ in range(12):
        optimizer.zero_grad()
        model(**batch, **labels).loss.backward()
        optimizer.step()
    assert np.isfinite(start) and loss() < 0.9 * start
    assert not torch.equal(table, before)
    model.save_pretrained(tmp_path / "tuned")
    again = read_checkpoint(tmp_path / "tuned", allow_missing_heads=True)
    assert np.array_equal(again.weights["bert/embeddings/word_embeddings"], table.detach().numpy())


def test_config_is_read_by_transformers(tmp_path):
    config = sizes("gelu_new")
    write_model(tmp_path, config, random_weights(1, config), {"pad_token_id": 0})
    found = transformers.AutoConfig.from_pretrained(tmp_path)
    assert isinstance(found, transformers.BertConfig)
    for key, value in vars(config).items():
        assert getattr(found, key) == value, key
    assert found.tie_word_embeddings and found.pad_token_id == 0
    found.save_pretrained(tmp_path / "again")
    (tmp_path / "model.safetensors").rename(tmp_path / "again" / "model.safetensors")
    assert read_model(tmp_path / "again")[0] == config
