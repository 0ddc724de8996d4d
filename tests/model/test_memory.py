"""Memory that a training step keeps, against the graph that TensorFlow makes of it."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import tensorflow as tf

from lib.model.bert_config import BertConfig
from lib.model.config import config_record
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.model.memory import Microbatch, kept_activations, kept_weight_copies, peak_activations
from lib.model.modernbert_config import ModernBertConfig
from lib.params import Pretrain
from lib.train.step import Trainer
from tests.conftest import ROOT

B, S, P, K = 2, 32, 5, 3
# These pass a block of memory on, or a part of it.
_ALIASES = ("Reshape", "Identity", "IdentityN", "ExpandDims", "Squeeze", "StopGradient", "Unpack")


def config(dropout: float, activation: str = "gelu") -> BertConfig:
    return BertConfig(
        vocab_size=101,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_act=activation,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=64,
    )


def modern_config(
    dropout: float, window: int, layers: int, activation: str = "gelu"
) -> ModernBertConfig:
    """Layers alternate between global and local attention."""
    return ModernBertConfig(
        vocab_size=101,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_activation=activation,
        embedding_dropout=dropout,
        attention_dropout=dropout,
        mlp_dropout=dropout,
        local_attention=window,
        global_attn_every_n_layers=2,
    )


def traced(config: EncoderConfig, precision: str, checkpointing: bool, packed: bool, nsp: bool):
    """The graph of forward and backward pass, its gradients, and its sums."""
    settings = Pretrain(
        batch_size=B, precision=precision, gradient_checkpointing=checkpointing, xla=False
    )
    trainer = Trainer(config, settings, nsp, initial_values(config, 1))
    shapes = {"input_ids": S, "segment_ids": S, "masked_lm_positions": P, "masked_lm_ids": P}
    if packed:
        shapes |= {"position_ids": S, "example_ids": S, "cls_positions": K}
    else:
        shapes["input_mask"] = S
    shapes["next_sentence_labels"] = K if packed else 1
    batch = {name: tf.TensorSpec((B, size), tf.int32) for name, size in shapes.items()}
    batch |= {"masked_lm_weights": tf.TensorSpec((B, P)), "example_weights": tf.TensorSpec((B,))}
    if packed:
        batch["next_sentence_weights"] = tf.TensorSpec((B, K))
    weights = [tf.TensorSpec(parameter.shape) for parameter in config.parameter_table()]
    step = tf.function(trainer._gradients, autograph=False).get_concrete_function(
        weights, batch, tf.TensorSpec((2,)), tf.TensorSpec((2,), tf.int32), tf.TensorSpec(())
    )
    gradients, sums = step.structured_outputs
    return step, gradients, list(sums.values())


def needed(tensors) -> set:
    """The operations that these tensors are computed from."""
    found, queue = set(), [tensor.op for tensor in tensors]
    while queue:
        operation = queue.pop()
        if operation not in found:
            found.add(operation)
            queue += [tensor.op for tensor in operation.inputs]
    return found


def block(tensor):
    """The tensor whose memory this one uses."""
    while tensor.op.type in _ALIASES:
        several = tensor.op.type == "IdentityN"
        tensor = tensor.op.inputs[tensor.value_index if several else 0]
    return tensor


def kept_in_graph(config: EncoderConfig, *case) -> int:
    """Bytes of what the forward pass makes and the backward pass reads; inputs do not count."""
    step, gradients, sums = traced(config, *case)
    forward = needed(sums)
    backward = needed(gradients) - forward
    blocks = {}
    for operation in forward:
        for tensor in operation.outputs:
            if any(reader in backward for reader in tensor.consumers()):
                blocks[block(tensor).name] = block(tensor)
    assert step.graph  # The operations live as long as their graph.
    return sum(
        math.prod(tensor.shape) * tensor.dtype.size
        for tensor in blocks.values()
        if tensor.op.type not in ("Const", "Placeholder")
    )


def microbatch(precision: str, checkpointing: bool, packed: bool, nsp: bool) -> Microbatch:
    return Microbatch(
        sequences=B,
        length=S,
        predictions=P,
        examples=(K if packed else 1) if nsp else 0,
        packed=packed,
        item_bytes=4 if precision == "float32" else 2,
        gradient_checkpointing=checkpointing,
    )


FEW = [
    (config(0.1), "bfloat16", False, True, True),
    (config(0.1), "bfloat16", True, True, False),
    # Local attention in bands, of which the last block is not full.
    (modern_config(0.1, 10, 3), "bfloat16", False, True, False),
]
ALL = [
    (config(dropout, activation), precision, checkpointing, packed, nsp)
    for dropout in (0.0, 0.1)
    for activation in ("gelu", "relu")
    for precision in ("float32", "float16")
    for checkpointing in (False, True)
    for packed, nsp in ((False, False), (True, True))
]
# A window of 64 covers the sequences: local attention is masked. The last layer is local in models
# of four layers and global in models of three.
ALL += [
    (modern_config(dropout, window, layers, activation), precision, checkpointing, packed, False)
    for dropout, activation, window, layers in (
        (0.0, "gelu", 10, 3),
        (0.1, "gelu_new", 10, 4),
        (0.1, "relu", 64, 3),
        (0.1, "gelu", 64, 4),
        (0.0, "relu", 64, 1),
    )
    for precision, packed in (("float32", True), ("float16", False))
    for checkpointing in (False, True)
]


@pytest.mark.parametrize(
    "case",
    [*FEW, *(pytest.param(each, marks=pytest.mark.slow) for each in ALL)],
    ids=lambda case: f"{case[0].architecture}-" + "-".join(map(str, case[1:])),
)
def test_what_is_kept_is_what_the_graph_passes_on(case):
    model, *rest = case
    counted = kept_activations(model, microbatch(*rest))
    counted += kept_weight_copies(model, microbatch(*rest))
    # A few vectors with a number per sequence or masked position are not counted.
    assert counted == pytest.approx(kept_in_graph(model, *rest), abs=20 * B * (P + K) * 4)


def test_bert_large_by_hand():
    """8 sequences of 512, in 16 bits: 11.2 GB of activations."""
    bert = BertConfig(
        vocab_size=30522,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        max_position_embeddings=512,
    )
    batch = Microbatch(8, 512, 77, 1, False, 2, False)
    # Bytes per token and unit of a layer: its input 2, query, key and value 6, the scaled query 2,
    # context 2, two masks 4, two normalisations 16, between them 2, around GELU 16; per attention
    # weight: softmax 4, mask 2, what it leaves 2.
    layer = 8 * 512 * 1024 * 50 + 8 * 16 * 512 * 512 * 8
    # The last layer computes a sixth of the positions.
    assert 23 * layer < kept_activations(bert, batch) < 24 * layer
    assert kept_activations(bert, batch) == pytest.approx(11.23e9, rel=0.001)
    assert peak_activations(bert, batch) < 1.1 * kept_activations(bert, batch)


def test_activations_of_local_layers_are_linear_in_length():
    """Twice the length: twice as much; with a global layer in three, more than that."""

    def kept(length: int, every: int) -> int:
        model = replace(modern_config(0.0, 128, 22), global_attn_every_n_layers=every)
        batch = Microbatch(1, length, 0, 0, True, 2, False)
        return kept_activations(model, batch)

    # All layers but the first, whose two heads have six bytes per pair of tokens.
    first = 6 * 2 * (2048**2 - 2 * 1024**2)
    assert kept(2048, 100) == pytest.approx(2 * kept(1024, 100) + first, rel=0.01)
    assert kept(2048, 3) > 3 * kept(1024, 3)


_MEASURE = """
import json, sys
import numpy as np
from lib.model.config import config_from_record
from lib.model.initialization import initial_values
from lib.params import Pretrain
from lib.run import tf
from lib.train.step import Trainer
sequences, length, predictions = map(int, sys.argv[1:4])
config = config_from_record(json.loads(sys.argv[4]))
vocab, nsp = config.vocab_size, config.has_next_sentence
settings = Pretrain(batch_size=sequences, precision=sys.argv[5], xla=False,
                    gradient_checkpointing=sys.argv[6] == "1")
trainer = Trainer(config, settings, nsp, initial_values(config, 1))
draw = np.random.default_rng(1)
def integers(size, below):
    return tf.constant(draw.integers(0, below, (sequences, size)), tf.int32)
batch = {
    "input_ids": integers(length, vocab), "segment_ids": integers(length, 2),
    "input_mask": tf.ones((sequences, length), tf.int32),
    "masked_lm_positions": integers(predictions, length),
    "masked_lm_ids": integers(predictions, vocab),
    "masked_lm_weights": tf.ones((sequences, predictions)),
    "example_weights": tf.ones(sequences), "next_sentence_labels": integers(1, 2),
}
for number in (1, 2):
    results = trainer.step(batch, tf.constant(number), tf.constant(1e-5))
    float(results["gradient_norm"])
# Not ru_maxrss, in which a process has the memory of the one that started it.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is returned at once by glibc only")
@pytest.mark.parametrize(
    ("architecture", "vocab", "precision", "checkpointing"),
    [
        ("bert", 8000, "float32", False),
        ("bert", 1000, "bfloat16", False),
        ("bert", 8000, "float32", True),
        ("bert", 8000, "bfloat16", True),
        ("modernbert", 8000, "float32", False),
        ("modernbert", 1000, "bfloat16", False),
        ("modernbert", 1000, "float32", True),
    ],
)
def test_the_peak_grows_with_the_sequences_as_counted(
    architecture, vocab, precision, checkpointing
):
    """The difference of two batch sizes, as weights and TensorFlow itself take memory too."""
    length, predictions = 256, 38
    if architecture == "bert":
        model = replace(config(0.1), max_position_embeddings=512, num_hidden_layers=4)
    else:
        model = modern_config(0.1, 64, 4)
    model = replace(
        model,
        vocab_size=vocab,
        hidden_size=256,
        num_attention_heads=4,
        intermediate_size=1024 if architecture == "bert" else 512,
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Freed blocks go back to the system, and do not count.
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_ARENA_MAX": "1",
    }
    peaks, counted = [], []
    for sequences in (4, 16):
        sizes = [*map(str, (sequences, length, predictions)), json.dumps(config_record(model))]
        command = [sys.executable, "-c", _MEASURE, *sizes, precision, str(int(checkpointing))]
        # TensorFlow runs what is ready in an order that varies, and with it the peak.
        peaks.append(
            min(
                int(
                    subprocess.run(
                        command,
                        cwd=ROOT,
                        env=environment,
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                )
                for _ in range(3)
            )
        )
        item_bytes = 4 if precision == "float32" else 2
        examples = int(model.has_next_sentence)
        batch = Microbatch(
            sequences, length, predictions, examples, False, item_bytes, checkpointing
        )
        counted.append(peak_activations(model, batch))
    measured, expected = peaks[1] - peaks[0], counted[1] - counted[0]
    assert measured == pytest.approx(expected, rel=0.1)
