"""The logits of fine-tuning equal those of transformers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.huggingface_names import names_of  # noqa: E402
from lib.model.bert_config import BertConfig  # noqa: E402
from lib.model.encoder_config import EncoderConfig  # noqa: E402
from lib.model.initialization import initial_values  # noqa: E402
from lib.model.modernbert_config import ModernBertConfig  # noqa: E402
from lib.probe.fine_tuning import class_logits  # noqa: E402
from lib.run import tf  # noqa: E402

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
BERT = BertConfig(
    **SIZES, hidden_act="gelu", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1
)
# Two layers are local; in sequences of 40 tokens they are computed in bands.
MODERNBERT = ModernBertConfig(**SIZES, local_attention=8)


def empty_model(name: str, config: EncoderConfig, pooling: str) -> "torch.nn.Module":
    """A classifier of transformers for five classes."""
    if isinstance(config, BertConfig):
        theirs = transformers.BertConfig(**vars(config), num_labels=5)
    else:
        settings = vars(config) | config.to_huggingface()
        settings |= config.special_ids(0, 1, 2) | {"classifier_pooling": pooling}
        theirs = transformers.ModernBertConfig(**settings, num_labels=5)
    return getattr(transformers, name)(theirs)


@pytest.mark.parametrize(
    ("name", "config", "per_token", "pooling"),
    [
        ("BertForSequenceClassification", BERT, False, "cls"),
        ("BertForTokenClassification", BERT, True, "cls"),
        ("ModernBertForSequenceClassification", MODERNBERT, False, "cls"),
        ("ModernBertForSequenceClassification", MODERNBERT, False, "mean"),
        ("ModernBertForTokenClassification", MODERNBERT, True, "cls"),
    ],
)
def test_class_logits_equal_those_of_transformers(name, config, per_token, pooling):
    draw = np.random.default_rng(0)
    weights = {
        parameter: (array + draw.normal(0, 0.1, array.shape)).astype(np.float32)
        for parameter, array in initial_values(config, 1).items()
    }
    weights["classifier/kernel"] = draw.normal(0, 0.5, (32, 5)).astype(np.float32)
    weights["classifier/bias"] = draw.normal(0, 0.5, 5).astype(np.float32)
    theirs = empty_model(name, config, pooling)
    tensors = {
        each.name: torch.tensor(each.from_parameter(weights[ours]))
        for ours, each in names_of(config).stored_tensors(config).items()
    }
    tensors["classifier.weight"] = torch.tensor(weights["classifier/kernel"].T.copy())
    tensors["classifier.bias"] = torch.tensor(weights["classifier/bias"])
    missing = theirs.load_state_dict(tensors, strict=False).missing_keys
    assert missing == []
    ids = draw.integers(1, 97, (5, 40))
    mask = (np.arange(40) < np.array([40, 3, 17, 39, 8])[:, None]).astype(np.int32)
    ids = (ids * mask).astype(np.int32)
    with torch.no_grad():
        expected = (
            theirs.eval()(
                input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long()
            )
            .logits.numpy()
            .reshape(5, -1, 5)
        )
    batch = {"input_ids": tf.constant(ids), "input_mask": tf.constant(mask)}
    found = class_logits(weights, config, batch, per_token, pooling).numpy()
    real = mask.astype(bool) if per_token else np.ones((5, 1), bool)
    assert np.abs(found - expected)[real].max() <= 1e-5
