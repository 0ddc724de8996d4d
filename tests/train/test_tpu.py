"""What a TPU requires of the training step, tested without one.

XLA compiles the whole step, update included, and no tensor in it has a shape that is known at run
time only.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from lib.model.initialization import initial_values
from lib.params import parse_params
from lib.train.step import Trainer
from lib.train.strategy import distribute, make_strategy
from tests.helpers.packed_batches import unpacked_and_packed
from tests.helpers.tiny_bert import TINY, random_batch

SEQUENCES = 8
VARIANTS = {
    "adamw": {"microbatch_size": 4},
    "whole batch": {},
    "lamb": {"optimizer": "lamb", "gradient_checkpointing": True},
    "novograd": {"optimizer": "novograd", "label_smoothing": 0.1},
    "muon": {"optimizer": "muon", "microbatch_size": 4},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16", "microbatch_size": 4},
}


def trainer(
    values: dict,
    changes: dict,
    dropout: float = 0.0,
    strategy: tf.distribute.Strategy | None = None,
) -> Trainer:
    values["pretrain"] |= {"batch_size": SEQUENCES} | changes
    config = replace(
        TINY,
        num_hidden_layers=1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    settings = parse_params(values).pretrain
    return Trainer(config, settings, True, initial_values(config, 1), strategy)


def unknown_shapes(function: tf.types.experimental.ConcreteFunction) -> list[str]:
    """Operations of a graph, and of all functions that it calls, whose results may have any shape.

    Except for BroadcastGradientArgs, which computes with shapes, as XLA does when it compiles.
    """
    graph = function.graph.as_graph_def(add_shapes=True)
    assert graph.library.function  # Such operations would be in there.
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    return [
        f"{node.op} {node.name}"
        for node in nodes
        if node.op != "BroadcastGradientArgs"
        for shape in node.attr["_output_shapes"].list.shape
        if shape.unknown_rank or any(dimension.size < 0 for dimension in shape.dim)
    ]


def arguments(batch: dict[str, tf.Tensor]) -> tuple[dict, tf.Tensor, tf.Tensor]:
    return batch, tf.constant(1), tf.constant(0.01)


def compiled_step(made: Trainer, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """One step, all of it compiled by XLA."""
    step = tf.function(lambda *given: made.step(*given), jit_compile=True, autograph=False)
    return step(*arguments(batch))


def agree(ours: dict[str, tf.Tensor], theirs: dict[str, tf.Tensor], tolerance: float) -> None:
    for name, value in ours.items():
        assert float(theirs[name]) == pytest.approx(float(value), rel=tolerance, abs=1e-6), name


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, marks=() if name in ("muon", "float16") else pytest.mark.slow)
        for name, changes in VARIANTS.items()
    ],
    ids=VARIANTS,
)
def test_every_shape_in_the_step_is_static(values, changes):
    made = trainer(values, changes, dropout=0.1)
    batch = random_batch(1, sequences=SEQUENCES)
    assert unknown_shapes(made.step.get_concrete_function(*arguments(batch))) == []


@pytest.mark.slow  # On a CPU, XLA takes as long for a small model as for a large one.
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_xla_compiles_the_whole_step(values, changes):
    batch = random_batch(1, sequences=SEQUENCES)
    plain, compiled = trainer(values, changes), trainer(values, changes)
    before = plain.weights()
    ours, theirs = plain.step(*arguments(batch)), compiled_step(compiled, batch)
    single = "precision" not in changes
    agree(ours, theirs, 1e-5 if single else 3e-2)
    after, weights = plain.weights(), compiled.weights()
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    assert len(moved) > len(before) / 2
    for name in moved:
        # Adam's first step is the sign of the gradient: of noise if the gradient is 0.
        if single and not name.endswith("key/bias"):
            error = np.linalg.norm(weights[name] - after[name])
            assert error <= 1e-4 * np.linalg.norm(after[name]), name


@pytest.mark.slow  # Random numbers take XLA a minute on a CPU.
def test_xla_compiles_a_step_with_dropout(values):
    batch = random_batch(1, sequences=SEQUENCES)
    first, again = (compiled_step(trainer(values, {}, 0.1), batch) for _ in range(2))
    without = compiled_step(trainer(values, {}), batch)
    agree(first, again, 0.0)
    assert float(first["masked_lm_loss"]) != float(without["masked_lm_loss"])


@pytest.mark.slow
def test_xla_compiles_a_step_on_packed_sequences(values):
    packed = unpacked_and_packed()[1]
    plain, compiled = (trainer(values, {"batch_size": len(packed["input_ids"])}) for _ in range(2))
    assert unknown_shapes(plain.step.get_concrete_function(*arguments(packed))) == []
    agree(plain.step(*arguments(packed)), compiled_step(compiled, packed), 1e-5)


def test_several_steps_in_a_call_and_evaluation_are_static(values):
    made = trainer(values, {"microbatch_size": 4}, strategy=make_strategy("one"))

    def part(worker: int, workers: int) -> tf.data.Dataset:
        batch = random_batch(1, sequences=SEQUENCES)
        dataset = tf.data.Dataset.from_tensors(batch).repeat()
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    stream: Iterator = iter(distribute(made.strategy, part))
    steps = made.steps.get_concrete_function(
        stream, tf.constant(1), tf.constant([0.01] * 3), tf.constant(0.0), tf.constant(3)
    )
    evaluation = made.evaluation_step.get_concrete_function(next(stream))
    assert unknown_shapes(steps) == unknown_shapes(evaluation) == []


def test_a_shape_that_is_known_at_run_time_only_is_found():
    @tf.function
    def some(values: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda value: value + 1, tf.boolean_mask(values, values > 0))

    found = unknown_shapes(some.get_concrete_function(tf.constant([1.0, -1.0])))
    assert any(name.startswith("Where") for name in found)
