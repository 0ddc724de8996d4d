"""Converted TensorFlow checkpoints give the same logits in transformers on PyTorch."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.conversion import convert_model  # noqa: E402
from lib.checkpoints.formats import read_checkpoint  # noqa: E402
from lib.model.bert import encode, masked_lm_logits, next_sentence_logits  # noqa: E402
from tests.helpers.checkpoints import (  # noqa: E402
    MODEL_GARDEN,
    VOCABULARY,
    save_tf1,
    with_training_state,
)
from tests.helpers.tiny_bert import random_batch, random_weights  # noqa: E402


def test_converted_checkpoint_has_equal_logits_in_transformers(tmp_path):
    source = save_tf1(
        tmp_path / "google", with_training_state(random_weights(1), "adam_m", "adam_v")
    )
    (source / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    convert_model(source, tmp_path / "hf", "huggingface", lowercase=True)
    batch = random_batch(2)
    ids, mask, segments = (batch[name] for name in ("input_ids", "input_mask", "segment_ids"))

    model, report = transformers.BertForPreTraining.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        theirs = model.eval()(
            input_ids=torch.tensor(ids.numpy()).long(),
            attention_mask=torch.tensor(mask.numpy()).long(),
            token_type_ids=torch.tensor(segments.numpy()).long(),
        )
    ours = read_checkpoint(source)
    batch = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    hidden = encode(ours.weights, ours.config, batch)
    logits = masked_lm_logits(ours.weights, ours.config, hidden).numpy()
    real = mask.numpy().astype(bool)
    assert np.abs(logits - theirs.prediction_logits.numpy())[real].max() <= 1e-5
    pairs = next_sentence_logits(ours.weights, hidden[:, :1]).numpy()[:, 0]
    assert np.abs(pairs - theirs.seq_relationship_logits.numpy()).max() <= 1e-5
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert tokenizer("Word7 [MASK]")["input_ids"] == [2, 12, 4, 3]


def test_model_garden_outputs_equal_those_of_transformers(tmp_path):
    source = MODEL_GARDEN / "run_pretraining"
    convert_model(source, tmp_path / "hf", "huggingface", without_tokenizer=True)
    expected = {
        name: np.array(values)
        for name, values in json.loads((source / "expected.json").read_text()).items()
    }
    model = transformers.BertForPreTraining.from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        theirs = model(
            input_ids=torch.tensor(expected["input_word_ids"]),
            attention_mask=torch.tensor(expected["input_mask"]),
            token_type_ids=torch.tensor(expected["input_type_ids"]),
        )
    positions = expected["masked_lm_positions"][:, :, None]
    logits = np.take_along_axis(theirs.prediction_logits.numpy(), positions, axis=1)
    assert np.abs(logits - expected["mlm_logits"]).max() <= 1e-5
    pairs = theirs.seq_relationship_logits.numpy()
    assert np.abs(pairs - expected["next_sentence"]).max() <= 1e-5
