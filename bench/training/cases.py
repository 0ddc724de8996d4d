"""Cases of `bench.training.speed`: models, batches and thresholds."""

from dataclasses import dataclass
from typing import Any

from bench.training.architectures import BERT, MODERNBERT, dropout_rates


def sizes(layers: int, hidden: int, dropout: float = 0.1) -> dict[str, Any]:
    """Sizes of a BERT of the usual proportions, named as in its config."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
        "hidden_act": "gelu",
        **dropout_rates(dropout),
        "max_position_embeddings": 512,
    }


def modernbert_sizes(layers: int, hidden: int) -> dict[str, Any]:
    """Sizes of a ModernBERT with the proportions of its base model, as in `pretrain.model`."""
    return {
        "architecture": MODERNBERT,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 3 * hidden // 2,
        "hidden_act": "gelu",
        "max_position_embeddings": 8192,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        **dropout_rates(0.0),
    }


@dataclass(frozen=True)
class Case:
    """One comparison of speed.

    Attributes:
        data: `full` for random sequences without padding; `tweets`; `pairs` for sentence pairs of
            tweets, ours packed against ours unpacked.
        examples: examples per step (on average if packed).
        threshold: smallest accepted ratio of our useful tokens per second to the peer's; in float32
            only.
        steps: steps to time.
        xla: whether to compile with XLA, for each mode of our system.
        length: maximum sequence length.
        predictions: masked positions per sequence.
    """

    name: str
    model: dict[str, Any]
    data: str
    examples: int
    threshold: float
    steps: int
    xla: tuple[bool, ...] = (False,)
    length: int = 128
    predictions: int = 20

    @property
    def peer_modes(self) -> tuple[str, ...]:
        """Modes to try with the peer; a ModernBERT is compiled with sdpa attention."""
        if self.model.get("architecture", BERT) == MODERNBERT:
            return ("eager", "sdpa", "compiled")
        return ("eager", "compiled")

    @property
    def next_sentence(self) -> bool:
        return self.data != "tweets" and self.model.get("architecture", BERT) == BERT


CASES = (
    Case("base", sizes(12, 768), "full", 8, 1.3, steps=8),
    Case("mini", sizes(4, 256), "full", 32, 2.5, steps=20, xla=(False, True)),
    Case("tweets", sizes(12, 768), "tweets", 32, 2.5, steps=12),
    Case("packing", sizes(4, 256), "pairs", 64, 2.0, steps=20, xla=(False, True), length=96),
    Case("modernbert-base", modernbert_sizes(22, 768), "full", 8, 1.3, steps=6),
    Case("modernbert-mini", modernbert_sizes(4, 256), "full", 32, 2.0, steps=20, xla=(False, True)),
    Case("modernbert-tweets", modernbert_sizes(22, 768), "tweets", 32, 2.5, steps=6),
)
