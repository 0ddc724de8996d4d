"""Hugging Face's ModernBERT with random weights, made from the sizes in a job."""

from typing import Any

from transformers import ModernBertConfig, ModernBertForMaskedLM

_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
_WINDOWS = ("local_attention", "global_attn_every_n_layers")


def make_modernbert(
    sizes: dict[str, Any], vocab_size: int, mode: str, sparse: bool, pad: int, cls: int, sep: int
) -> ModernBertForMaskedLM:
    """The stock model.

    Args:
        sizes: under the keys of `pretrain.model` in params.yaml.
        mode: `eager` for eager attention; `sdpa`, and `compiled` by torch.compile, for PyTorch's
            scaled_dot_product_attention.
        sparse: its option sparse_prediction: the MLM head is applied at masked positions only.
        pad, cls, sep: ids of special tokens.
    """
    config = ModernBertConfig(
        vocab_size=vocab_size,
        hidden_activation=sizes["hidden_act"],
        embedding_dropout=sizes["hidden_dropout_prob"],
        mlp_dropout=sizes["hidden_dropout_prob"],
        attention_dropout=sizes["attention_probs_dropout_prob"],
        pad_token_id=pad,
        cls_token_id=cls,
        bos_token_id=cls,
        sep_token_id=sep,
        eos_token_id=sep,
        sparse_prediction=sparse,
        attn_implementation="eager" if mode == "eager" else "sdpa",
        **{key: sizes[key] for key in _SIZES},
        **{key: sizes[key] for key in _WINDOWS if key in sizes},
    )
    return ModernBertForMaskedLM(config)
