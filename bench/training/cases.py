"""Cases of `bench.training.speed`: models, batches and thresholds."""

from dataclasses import dataclass
from typing import Any


def sizes(layers: int, hidden: int, dropout: float = 0.1) -> dict[str, Any]:
    """Sizes of a BERT of the usual proportions, named as in its config."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "max_position_embeddings": 512,
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


CASES = (
    Case("base", sizes(12, 768), "full", 8, 1.3, steps=8),
    Case("mini", sizes(4, 256), "full", 32, 2.5, steps=20, xla=(False, True)),
    Case("tweets", sizes(12, 768), "tweets", 32, 2.5, steps=12),
    Case("packing", sizes(4, 256), "pairs", 64, 2.0, steps=20, xla=(False, True), length=96),
)
