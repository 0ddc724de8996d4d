"""Architectures in the benchmarks of training."""

from typing import Any

from lib.model.config import ARCHITECTURES
from lib.params import Pretrain

NAMES = tuple(ARCHITECTURES)
BERT, MODERNBERT = "bert", "modernbert"
# With a hidden size of 128, a layer of BERT has 198,272 parameters and one of ModernBERT 197,888:
# its feed-forward part has three matrices instead of two.
SMALL_INTERMEDIATE = {BERT: 512, MODERNBERT: 344}


def small_model(architecture: str) -> dict[str, Any]:
    """Sizes of two layers of 128, under the keys of `pretrain.model`; no dropout is set."""
    sizes: dict[str, Any] = {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": SMALL_INTERMEDIATE[architecture],
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
    }
    # BertConfig has no key for the architecture.
    return sizes if architecture == BERT else {**sizes, "architecture": architecture}


def model_settings(sizes: dict[str, Any]) -> dict[str, Any]:
    """The section `pretrain.model` with these sizes, whatever architecture it had before."""
    return {"architecture": BERT, **sizes}


def pretrain_settings(sizes: dict[str, Any], **settings: Any) -> Pretrain:
    """The section `pretrain` with these sizes and settings, and the defaults of all others."""
    return Pretrain.model_validate({**settings, "model": model_settings(sizes)})


def dropout_rates(rate: float) -> dict[str, float]:
    """Dropout of hidden states and attention, under the keys of `pretrain.model`."""
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}


def title(model: dict[str, Any]) -> str:
    """The name in text of the architecture of a model's sizes."""
    return ARCHITECTURES[model.get("architecture", BERT)].title
