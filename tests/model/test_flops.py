"""Counted operations against those in TensorFlow's graph; the measured peak."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from lib.model.flops import matmul_peak, training_flops
from lib.model.initialization import initial_values
from lib.model.losses import loss_sums
from lib.model.modernbert_config import ModernBertConfig
from tests.helpers.tiny_bert import TINY, TINY_MODERN

SEQUENCES, LENGTH, PREDICTIONS, EXAMPLES = 5, 12, 3, 4


def batch(packed: bool) -> dict[str, tf.Tensor]:
    """A batch; only its shapes matter."""
    tokens, masked = [SEQUENCES, LENGTH], [SEQUENCES, PREDICTIONS]
    shapes = {
        "input_ids": tokens,
        "segment_ids": tokens,
        "masked_lm_positions": masked,
        "masked_lm_ids": masked,
        "next_sentence_labels": [SEQUENCES, EXAMPLES if packed else 1],
    }
    if packed:
        shapes |= {
            "position_ids": tokens,
            "example_ids": tokens,
            "cls_positions": [SEQUENCES, EXAMPLES],
        }
    else:
        shapes |= {"input_mask": tokens}
    weights = {"masked_lm_weights": masked, "example_weights": [SEQUENCES]}
    if packed:
        weights |= {"next_sentence_weights": [SEQUENCES, EXAMPLES]}
    integers = {name: tf.zeros(shape, tf.int32) for name, shape in shapes.items()}
    return integers | {name: tf.ones(shape) for name, shape in weights.items()}


def operations(graph: tf.Graph) -> int:
    """Two operations for each multiply-add of all matrix products in a graph."""
    count = 0
    for operation in graph.get_operations():
        if operation.type not in ("MatMul", "BatchMatMulV2", "BatchMatMulV3"):
            continue
        transposed = "transpose_a" if operation.type == "MatMul" else "adj_x"
        rows, columns = operation.inputs[0].shape[-2:]
        inner = rows if operation.get_attr(transposed) else columns
        count += 2 * inner * math.prod(operation.outputs[0].shape)
    return count


BERT = replace(TINY, intermediate_size=40, type_vocab_size=3)
# All tokens are in the window of local layers.
MODERNBERT = replace(TINY_MODERN, intermediate_size=40, local_attention=2 * LENGTH)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("model", "next_sentence"), [(BERT, False), (BERT, True), (MODERNBERT, False)]
)
@pytest.mark.parametrize("layers", [1, 3])
def test_the_count_equals_that_of_the_graph(packed, model, next_sentence, layers):
    config = replace(model, num_hidden_layers=layers)
    weights = {name: tf.constant(array) for name, array in initial_values(config, 1).items()}

    def both_passes(values: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(values)
            sums = loss_sums(values, config, batch(packed), next_sentence)
            loss = tf.add_n([value for name, value in sums.items() if name.endswith("_loss")])
        return tape.gradient(loss, values)

    graph = tf.function(both_passes).get_concrete_function(weights).graph
    # The product that looks up segments, and the products for the gradients of both factors.
    segments = 0
    if model is BERT:
        segments = 3 * 2 * SEQUENCES * LENGTH * config.type_vocab_size * config.hidden_size
    examples = EXAMPLES if packed else 1
    expected = operations(graph) - segments
    assert (
        training_flops(config, SEQUENCES, LENGTH, PREDICTIONS, examples, next_sentence) == expected
    )


def test_local_layers_are_counted_by_their_window():
    """A 64-token window and the token itself; one layer in three attends to all 1,024 tokens."""
    sizes = {"vocab_size": 1, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 12}
    config = ModernBertConfig(**sizes, num_hidden_layers=7, local_attention=64)
    matrices = 4 * 8 * 8 + 3 * 8 * 12
    # Scores with other tokens and the mean of their values, in six layers of which two are global;
    # the seventh layer only makes keys and values, if no position is needed.
    per_token = 6 * matrices + 2 * 8 * (2 * 1024 + 4 * 65) + 2 * 8 * 8
    assert training_flops(config, 1, 1024, 0, 1, False) == 6 * 1024 * per_token
    # Shorter than the window: all layers attend to all tokens.
    per_token = 6 * matrices + 2 * 8 * 6 * 64 + 2 * 8 * 8
    assert training_flops(config, 1, 64, 0, 1, False) == 6 * 64 * per_token


def test_large_models_take_six_operations_per_weight_and_token():
    # The rule of Kaplan et al. holds if sequences are short compared with the hidden size; with
    # this many layers, what the last one leaves out hardly counts.
    config = replace(
        TINY,
        hidden_size=4096,
        intermediate_size=16384,
        num_attention_heads=32,
        num_hidden_layers=600,
    )
    kernels = sum(
        math.prod(parameter.shape)
        for parameter in config.parameter_table()
        if "/layer_" in parameter.name and parameter.name.endswith("kernel")
    )
    count = training_flops(config, 10, 8, 0, 1, False)
    assert count == pytest.approx(6 * kernels * 80, rel=0.002)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_peak_is_finite_and_measuring_it_changes_no_random_numbers(precision):
    def drawn(between) -> tuple[list[float], list[float]]:
        tf.random.set_seed(1)
        np.random.seed(1)
        between()
        return tf.random.uniform([3]).numpy().tolist(), np.random.rand(3).tolist()

    peaks: list[float] = []
    before = tf.executing_eagerly(), tf.config.experimental.tensor_float_32_execution_enabled()
    assert drawn(lambda: peaks.append(matmul_peak(precision))) == drawn(lambda: None)
    after = tf.executing_eagerly(), tf.config.experimental.tensor_float_32_execution_enabled()
    assert math.isfinite(peaks[0]) and peaks[0] > 0 and before == after
