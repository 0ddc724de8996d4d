"""The forward pass of each architecture behind one interface.

To add an architecture, write its configuration with its parameters (`lib.model.config` has the
list) and a module with these functions.
"""

from typing import Any, Protocol

from lib.model import bert, modernbert
from lib.model.encoder_config import EncoderConfig
from lib.model.layers import NO_DROPOUT, Batch, Dropout, Weights
from lib.run import tf


class Encoder(Protocol):
    """Functions of a module; shapes are in the docstring of `lib.model.bert`."""

    def encode(
        self,
        weights: Weights,
        config: Any,
        batch: Batch,
        dropout: Dropout = NO_DROPOUT,
        precision: str | None = None,
        gradient_checkpointing: bool = False,
        positions: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Hidden states of the last layer; see `lib.model.bert.encode`."""

    def masked_lm_logits(self, weights: Weights, config: Any, hidden: tf.Tensor) -> tf.Tensor:
        """Logits of the MLM head: [B, P, H] -> [B, P, V], in the type of the weights."""

    def classification_states(
        self, weights: Weights, config: Any, hidden: tf.Tensor, per_token: bool
    ) -> tf.Tensor:
        """What a classifier on top of the model is given: [n, H] -> [n, H].

        Args:
            hidden: states of tokens if `per_token`, otherwise of texts.
        """


_ENCODERS: dict[str, Encoder] = {"bert": bert, "modernbert": modernbert}


def encoder(config: EncoderConfig) -> Encoder:
    """The functions of a model's architecture."""
    return _ENCODERS[config.architecture]
