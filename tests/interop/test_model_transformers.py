"""A model directory in transformers 5 on PyTorch has the same logits as in this project."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.huggingface import read_model, write_model  # noqa: E402
from lib.model.bert import encode, masked_lm_logits, next_sentence_logits  # noqa: E402
from tests.helpers.tiny_bert import TINY, random_weights  # noqa: E402


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
def test_logits_equal_those_of_transformers(tmp_path, hidden_act):
    sizes = {"vocab_size": 97, "num_hidden_layers": 3, "max_position_embeddings": 40}
    config = replace(TINY, hidden_act=hidden_act, **sizes)
    weights = random_weights(1, config, 0.2)
    write_model(tmp_path, config, weights, {"pad_token_id": 0})
    ids = np.random.default_rng(0).integers(1, 97, (5, 40))
    lengths = np.array([40, 3, 17, 39, 8])
    mask = (np.arange(40) < lengths[:, None]).astype(np.int32)
    ids = (ids * mask).astype(np.int32)
    segments = ((np.arange(40) > 2) * mask).astype(np.int32)

    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(ids).long(),
            attention_mask=torch.tensor(mask).long(),
            token_type_ids=torch.tensor(segments).long(),
        )
    batch = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    hidden = encode(weights, config, batch)
    logits = masked_lm_logits(weights, config, hidden).numpy()
    real = mask.astype(bool)
    assert np.abs(logits - expected.prediction_logits.numpy())[real].max() <= 1e-4
    nsp_logits = next_sentence_logits(weights, hidden[:, :1]).numpy()[:, 0]
    assert np.abs(nsp_logits - expected.seq_relationship_logits.numpy()).max() <= 1e-4
    # transformers has found every tensor: none keeps random values.
    again, arrays = read_model(tmp_path)
    assert again == config
    assert all(np.array_equal(arrays[name], weights[name]) for name in weights)
    theirs.save_pretrained(tmp_path / "theirs")
    _, back = read_model(tmp_path / "theirs")
    assert all(np.array_equal(back[name], weights[name]) for name in weights)
