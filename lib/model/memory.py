"""Memory of training: its state, what a forward pass keeps for the backward pass, and the peak.

The layers of `lib.model` are counted one by one, as TensorFlow runs them without XLA: every tensor
that the forward pass makes and an operation of the backward pass reads. A test compares this with
the graph of the step. XLA fuses operations and may keep less.

Shapes: B sequences in a microbatch, S tokens per sequence, T = B * S tokens, H hidden size, I
intermediate size, N heads, V vocabulary size, P masked positions and K examples per sequence.
"""

import math
from dataclasses import dataclass

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
    kept = kept_activations(config, batch) + kept_weight_copies(config, batch)
    head_work = 5 * _logits(config, batch)
    full, last = _layer(config, batch, is_last=False), _layer(config, batch, is_last=True)
    weights = config.num_attention_heads * batch.tokens * batch.length
    attention_work = 4 * weights * batch.item_bytes
    if not batch.gradient_checkpointing:
        return kept + max(head_work, attention_work)
    # The heads are done when a layer is computed again.
    layer = full if config.num_hidden_layers > 1 else last
    layer += _layer_weight_copies(config, batch, is_last=False) + attention_work
    return kept + max(head_work, layer - _heads(config, batch))


def kept_activations(config: EncoderConfig, batch: Microbatch) -> int:
    """Bytes of activations that are kept when the backward pass begins."""
    layers = config.num_hidden_layers
    numbers = _embeddings(config, batch) + _heads(config, batch)
    numbers += layers * batch.tokens * config.hidden_size * batch.item_bytes  # inputs of layers
    if batch.gradient_checkpointing:
        # What is added to the scores; the layers have no inputs besides.
        return numbers + batch.tokens * (batch.length if batch.packed else 1) * _FLOAT32
    full, last = _layer(config, batch, is_last=False), _layer(config, batch, is_last=True)
    return numbers + (layers - 1) * full + last


def kept_weight_copies(config: EncoderConfig, batch: Microbatch) -> int:
    """Bytes of copies of weights that are kept when the backward pass begins."""
    hidden, copies = config.hidden_size, 0
    if batch.item_bytes != _FLOAT32:
        heads = hidden * (hidden + config.vocab_size)
        heads += hidden * hidden if batch.examples else 0
        copies += heads * batch.item_bytes
    if batch.gradient_checkpointing:
        return copies
    full, last = (_layer_weight_copies(config, batch, is_last) for is_last in (False, True))
    return copies + (config.num_hidden_layers - 1) * full + last


def _layer_weight_copies(config: EncoderConfig, batch: Microbatch, is_last: bool) -> int:
    """In 16 bits every matrix; in float32 query, key and value as one, or the last two of them."""
    hidden = config.hidden_size
    if batch.item_bytes == _FLOAT32:
        return (2 if is_last else 3) * hidden * hidden * _FLOAT32
    matrices = 4 * hidden * hidden + 2 * hidden * config.intermediate_size
    return matrices * batch.item_bytes


def _layer(config: EncoderConfig, batch: Microbatch, is_last: bool) -> int:
    """Bytes that one layer keeps besides its input; the last layer computes P + K positions."""
    hidden, size, tokens = config.hidden_size, batch.item_bytes, batch.tokens
    computed = batch.sequences * (batch.predictions + batch.examples) if is_last else tokens
    # Key and value; query, which is in the same block of memory in all but the last layer, where
    # its input is; the scaled query; the mean of the values.
    numbers = (2 * tokens + 3 * computed) * hidden * size
    weights = computed * batch.length * config.num_attention_heads
    numbers += weights * _FLOAT32  # softmax
    if config.attention_probs_dropout_prob:
        numbers += weights * 2 * size  # the mask, and what it leaves
    elif size != _FLOAT32:
        numbers += weights * size
    if config.hidden_dropout_prob:
        numbers += 2 * computed * hidden * size  # two masks
    numbers += 2 * _layer_norm(hidden, computed)
    numbers += computed * hidden * size  # input of the feed-forward part
    # GELU needs its input for the gradient, and the next product its output. ReLU's is enough.
    inner = 1 if config.hidden_act == "relu" else 2
    return numbers + inner * computed * config.intermediate_size * size


def _layer_norm(hidden: int, count: int) -> int:
    """Bytes that layer normalisation keeps: centred and scaled values, and one factor."""
    return count * (2 * hidden + 1) * _FLOAT32


def _embeddings(config: EncoderConfig, batch: Microbatch) -> int:
    numbers = _layer_norm(config.hidden_size, batch.tokens)
    numbers += batch.tokens * config.type_vocab_size * _FLOAT32  # one-hot segments
    if config.hidden_dropout_prob:
        numbers += batch.tokens * config.hidden_size * _FLOAT32
    return numbers


def _heads(config: EncoderConfig, batch: Microbatch) -> int:
    hidden, size = config.hidden_size, batch.item_bytes
    masked = batch.sequences * batch.predictions
    # Input, transformed before its activation, and normalised.
    numbers = masked * 3 * hidden * size + _layer_norm(hidden, masked)
    numbers += _logits(config, batch)
    pooled = batch.sequences * batch.examples
    numbers += pooled * 2 * hidden * size
    return numbers + (pooled * hidden * _FLOAT32 if size != _FLOAT32 else 0)


def _logits(config: EncoderConfig, batch: Microbatch) -> int:
    return batch.sequences * batch.predictions * config.vocab_size * _FLOAT32
