"""Memory of training: its state, what a forward pass keeps for the backward pass, and the peak.

The layers of `lib.model` are counted one by one, as TensorFlow runs them without XLA: every tensor
that the forward pass makes and an operation of the backward pass reads. A test compares this with
the graph of the step. XLA fuses operations and may keep less.

Shapes: B sequences in a microbatch, S tokens per sequence, T = B * S tokens, H hidden size, I
intermediate size, N heads, V vocabulary size, P masked positions and K examples per sequence.
"""

import math
from dataclasses import dataclass
from typing import Any

from lib.model.encoder_config import EncoderConfig
from lib.model.optimizers import Optimizer

_FLOAT32 = 4


@dataclass(frozen=True)
class Microbatch:
    """Sizes of what a device computes at a time, and how.

    Attributes:
        sequences, length: B and S.
        predictions: P.
        examples: K with the NSP head, 0 without.
        packed: sequences hold several examples, each of which attends to itself only.
        item_bytes: of a number of the precision in use: 4 for float32, 2 for the others.
        gradient_checkpointing: layers keep their input only.
    """

    sequences: int
    length: int
    predictions: int
    examples: int
    packed: bool
    item_bytes: int
    gradient_checkpointing: bool

    @property
    def tokens(self) -> int:
        return self.sequences * self.length


def weights_size(config: EncoderConfig) -> int:
    """Bytes of the weights."""
    return _FLOAT32 * sum(math.prod(parameter.shape) for parameter in config.parameter_table())


def slots_size(config: EncoderConfig, optimizer: type[Optimizer]) -> int:
    """Bytes of the optimizer's slots."""
    shapes = optimizer.slot_shapes(config.parameter_table()).values()
    return _FLOAT32 * sum(math.prod(shape) for shape in shapes)


def peak_memory(config: EncoderConfig, optimizer: type[Optimizer], batch: Microbatch) -> int:
    """Bytes at the peak of a training step.

    Weights, slots, gradients and one more set of gradients (of earlier microbatches, or clipped)
    are counted throughout. Activations are gone when the optimizer makes its step.
    """
    state = 3 * weights_size(config) + slots_size(config, optimizer)
    step = optimizer.step_memory(config.parameter_table())
    return state + max(peak_activations(config, batch), step)


def peak_activations(config: EncoderConfig, batch: Microbatch) -> int:
    """Bytes of activations and copies of weights at the peak of a training step.

    The peak is at the beginning of the backward pass: in the MLM head, or in the attention of the
    last layers. What operations there use beside kept tensors was measured on a CPU: five times the
    logits, or four times the attention weights (docs/planning.md).
    """
    counted = _COUNTS[config.architecture](config, batch)
    kept = kept_activations(config, batch) + kept_weight_copies(config, batch)
    head_work = 5 * counted.logits()
    layers = range(config.num_hidden_layers)
    work = [4 * counted.attention_weights(number) * batch.item_bytes for number in layers]
    if not batch.gradient_checkpointing:
        return kept + max(head_work, *work)
    # The heads are done when a layer is computed again.
    layer = max(
        counted.layer(number) + counted.layer_weight_copies(number) + work[number]
        for number in layers
    )
    return kept + max(head_work, layer - counted.heads())


def kept_activations(config: EncoderConfig, batch: Microbatch) -> int:
    """Bytes of activations that are kept when the backward pass begins."""
    counted = _COUNTS[config.architecture](config, batch)
    layers = range(config.num_hidden_layers)
    numbers = counted.embeddings() + counted.heads() + counted.shared_by_layers()
    if batch.gradient_checkpointing:
        return numbers + len(layers) * counted.states(batch.tokens)
    return numbers + sum(counted.kept_input(number) + counted.layer(number) for number in layers)


def kept_weight_copies(config: EncoderConfig, batch: Microbatch) -> int:
    """Bytes of copies of weights that are kept when the backward pass begins."""
    hidden, copies = config.hidden_size, 0
    counted = _COUNTS[config.architecture](config, batch)
    if batch.item_bytes != _FLOAT32:
        heads = hidden * (hidden + config.vocab_size)
        heads += hidden * hidden if batch.examples else 0
        copies += heads * batch.item_bytes
    if batch.gradient_checkpointing:
        return copies
    return copies + sum(map(counted.layer_weight_copies, range(config.num_hidden_layers)))


class _Counts:
    """Bytes of what the parts of a BERT keep; a subclass has the differences of another model."""

    def __init__(self, config: Any, batch: Microbatch) -> None:
        self._config, self._batch = config, batch
        self._size = batch.item_bytes

    def computed(self, number: int) -> int:
        """Token positions that a layer computes; the last one only those that the heads need."""
        batch = self._batch
        if number < self._config.num_hidden_layers - 1:
            return batch.tokens
        return batch.sequences * (batch.predictions + batch.examples)

    def states(self, count: int) -> int:
        """Hidden states of some token positions, in the precision of the computation."""
        return count * self._config.hidden_size * self._size

    def normalised(self, count: int) -> int:
        """Layer normalisation: centred and scaled values, and one factor; not its result."""
        return count * (2 * self._config.hidden_size + 1) * _FLOAT32

    def probabilities(self, weights: int, dropout: float) -> int:
        """Attention weights: the softmax, and with dropout the mask and what it leaves."""
        if dropout:
            return weights * (_FLOAT32 + 2 * self._size)
        return weights * (_FLOAT32 + (self._size if self._size != _FLOAT32 else 0))

    def embeddings(self) -> int:
        """Up to the input of the first layer, which is not counted."""
        tokens, config = self._batch.tokens, self._config
        numbers = self.normalised(tokens)
        numbers += tokens * config.type_vocab_size * _FLOAT32  # one-hot segments
        if config.hidden_dropout_prob:
            numbers += tokens * config.hidden_size * _FLOAT32
        return numbers

    def shared_by_layers(self) -> int:
        """What is added to the attention scores of all layers, where layers are computed again."""
        batch = self._batch
        if not batch.gradient_checkpointing:
            return 0
        return batch.tokens * (batch.length if batch.packed else 1) * _FLOAT32

    def kept_input(self, number: int) -> int:
        """What is kept of the input of a layer, without gradient checkpointing."""
        return self.states(self._batch.tokens)

    def attention_weights(self, number: int) -> int:
        """Number of weights that the attention of a layer computes."""
        return self._config.num_attention_heads * self.computed(number) * self._batch.length

    def layer(self, number: int) -> int:
        """What a layer keeps besides its input."""
        config, tokens, computed = self._config, self._batch.tokens, self.computed(number)
        # Key and value; query, which is in the same block of memory in all but the last layer,
        # where its input is; the scaled query; the mean of the values.
        numbers = self.states(2 * tokens + 3 * computed)
        weights = self.attention_weights(number)
        numbers += self.probabilities(weights, config.attention_probs_dropout_prob)
        if config.hidden_dropout_prob:
            numbers += 2 * self.states(computed)  # two masks
        numbers += 2 * self.normalised(computed)
        numbers += self.states(computed)  # input of the feed-forward part
        # GELU needs its input for the gradient, and the next product its output. ReLU's is enough.
        inner = 1 if config.hidden_act == "relu" else 2
        return numbers + inner * computed * config.intermediate_size * self._size

    def layer_weight_copies(self, number: int) -> int:
        """In 16 bits every matrix; in float32 query, key and value as one, or the last two."""
        hidden, is_last = self._config.hidden_size, number == self._config.num_hidden_layers - 1
        if self._size == _FLOAT32:
            return (2 if is_last else 3) * hidden * hidden * _FLOAT32
        return (4 * hidden * hidden + 2 * hidden * self._config.intermediate_size) * self._size

    def heads(self) -> int:
        batch = self._batch
        masked = batch.sequences * batch.predictions
        # Input, transformed before its activation, and normalised.
        numbers = 3 * self.states(masked) + self.normalised(masked) + self.logits()
        pooled = batch.sequences * batch.examples
        numbers += 2 * self.states(pooled)
        if self._size != _FLOAT32:
            numbers += pooled * self._config.hidden_size * _FLOAT32
        return numbers

    def logits(self) -> int:
        batch = self._batch
        return batch.sequences * batch.predictions * self._config.vocab_size * _FLOAT32


class _ModernBertCounts(_Counts):
    def embeddings(self) -> int:
        numbers = self.normalised(self._batch.tokens)
        if self._config.embedding_dropout:
            numbers += self._batch.tokens * self._config.hidden_size * _FLOAT32
        return numbers

    def shared_by_layers(self) -> int:
        """Also the mask of local layers, and the angles of positions."""
        config, batch = self._config, self._batch
        numbers = super().shared_by_layers()
        is_local = {not config.is_global(number) for number in range(config.num_hidden_layers)}
        if batch.gradient_checkpointing and any(is_local) and not config.in_bands(batch.length):
            numbers += batch.tokens * batch.length * _FLOAT32
        if batch.gradient_checkpointing or self._size == _FLOAT32:
            thetas = {
                config.local_rope_theta if local else config.global_rope_theta for local in is_local
            }
            numbers += len(thetas) * self._angles() * _FLOAT32
        return numbers

    def kept_input(self, number: int) -> int:
        # Later layers need it normalised only.
        return 0 if number else self.states(self._batch.tokens)

    def attention_weights(self, number: int) -> int:
        if not self._is_banded(number):
            return super().attention_weights(number)
        return int(self._config.num_attention_heads * self._padded() * 3 * self._config.reach)

    def layer(self, number: int) -> int:
        config, tokens, computed = self._config, self._batch.tokens, self.computed(number)
        is_last = number == config.num_hidden_layers - 1
        numbers = 0
        if number:  # normalised input
            numbers += self.normalised(tokens) + self.states(tokens)
        if self._is_banded(number):
            # Scaled query; key and value of three blocks for each block.
            numbers += self.states(7 * self._padded())
        elif is_last:
            # Key and value, the key turned by its position; the query's input, and scaled query.
            numbers += self.states(3 * tokens + 2 * computed)
        else:
            # Query, key and value in one block of memory, the key turned, the query scaled.
            numbers += self.states(5 * tokens)
        # Cosines and sines for query and key, if they are not those that all layers share.
        chosen = is_last and not self._is_banded(number)
        turns = [computed * config.head_size if chosen else self._angles(), self._angles()]
        numbers += (sum(turns) if self._size != _FLOAT32 else turns[0] * chosen) * self._size
        numbers += self.probabilities(self.attention_weights(number), config.attention_dropout)
        numbers += self.states(computed)  # mean of the values
        if config.attention_dropout:
            numbers += self.states(computed)  # a mask
        # Input of the feed-forward part, normalised.
        numbers += self.normalised(computed) + self.states(computed)
        return numbers + self._inner(computed)

    def _inner(self, computed: int) -> int:
        """The gated layer: its input, and its output before and after dropout."""
        config = self._config
        parts = {"gelu": 3, "gelu_new": 4, "relu": 3}[config.hidden_activation]
        return (parts + bool(config.mlp_dropout)) * computed * config.intermediate_size * self._size

    def _angles(self) -> int:
        """Number of cosines and sines of one theta."""
        batch = self._batch
        return (batch.tokens if batch.packed else batch.length) * self._config.head_size

    def _is_banded(self, number: int) -> bool:
        return self._config.is_banded(number, self._batch.length)

    def _padded(self) -> int:
        """Tokens of all sequences, filled up to whole blocks."""
        reach = self._config.reach
        return self._batch.sequences * -(-self._batch.length // reach) * reach

    def heads(self) -> int:
        final = self.normalised(self.computed(self._config.num_hidden_layers - 1))
        return super().heads() + final

    def layer_weight_copies(self, number: int) -> int:
        """In 16 bits every matrix; in float32 the parts of a sliced one, in the last layer."""
        config, hidden = self._config, self._config.hidden_size
        if self._size == _FLOAT32:
            is_sliced = number == config.num_hidden_layers - 1 and not self._is_banded(number)
            return 3 * hidden * hidden * _FLOAT32 if is_sliced else 0
        return (4 * hidden * hidden + 3 * hidden * config.intermediate_size) * self._size


_COUNTS = {"bert": _Counts, "modernbert": _ModernBertCounts}
