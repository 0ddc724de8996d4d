"""Timing of training steps and count of their useful FLOPs, the same for every framework."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Steps left out at the beginning and after each compilation.
_WARMUP_STEPS = 2
# A framework that keeps compiling is measured anyway after this many extra steps.
_MAX_EXTRA_STEPS = 40
# Size of the square matrices whose product gives the peak: 4,096 is no faster, as measured.
MATMUL_SIZE, MATMUL_REPEATS = 2048, 10
# Environment variable with the time at which the process was started.
STARTED = "BENCH_STARTED"


def useful_flops(model: dict[str, Any], vocab_size: int, lengths: np.ndarray, masked: int) -> float:
    """Floating-point operations that one training step requires, the same for every system.

    Counts matrix products only: the encoder on real tokens with attention within examples, and the
    MLM head at masked positions; the backward pass counts twice the forward pass. Padding,
    attention to padding and logits that no loss uses do not count, even if a system computes them.
    The last layer counts in full, although ours skips the states that no head reads.

    For one example of n tokens, hidden size H, inner size I and L layers, the forward pass takes
    2 * L * (n * (4 * H^2 + 2 * H * I) + 2 * H * n^2) operations in the encoder of a BERT. In a
    ModernBERT 3 * H * I takes the place of 2 * H * I and, in local layers, the number of pairs of
    tokens that are at most half a window apart that of n^2.

    Args:
        model: sizes, named as in a BERT config, or as in `pretrain.model` of params.yaml.
        lengths: integer array [examples]: tokens without padding.
        masked: number of masked positions in the step.
    """
    hidden, inner, layers = (
        model[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    gated = model.get("architecture") == "modernbert"
    lengths = lengths.astype(np.float64)
    each_token = 4 * hidden**2 + (3 if gated else 2) * hidden * inner
    pairs = layers * float((lengths**2).sum())
    if gated:
        far = -(-layers // model["global_attn_every_n_layers"])  # layers 0, n, 2n, ...
        reach = np.minimum(model["local_attention"] // 2, lengths - 1)
        near = lengths + 2 * reach * lengths - reach * (reach + 1)
        pairs = far * float((lengths**2).sum()) + (layers - far) * float(near.sum())
    attention = 2 * hidden * pairs  # scores, and their product with the values
    encoder = layers * each_token * float(lengths.sum()) + attention
    head = masked * (hidden**2 + hidden * vocab_size)
    multiply_and_add, forward_and_backward = 2, 3
    return multiply_and_add * forward_and_backward * (encoder + head)


@dataclass
class BatchSize:
    """Tokens of each example of a batch, without padding, and its number of masked positions."""

    lengths: np.ndarray
    masked: int


@dataclass
class StepTimes:
    """Times of the steps that count.

    Attributes:
        first_seconds: duration of the very first step, including compilation.
        first_since_start: seconds from the start of the process to the end of the first step.
        seconds, cpu_seconds, sizes: wall time, processor time of the process and batch size of
            each step that counts.
    """

    first_seconds: float = 0.0
    first_since_start: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    sizes: list[BatchSize] = field(default_factory=list)

    def result(self, job: dict[str, Any], peak: float, **more: Any) -> dict[str, Any]:
        """Throughput of the process.

        Args:
            peak: FLOPs per second of a large matrix product on this machine.
            more: further keys of the result.
        """
        total, cpu = sum(self.seconds), sum(self.cpu_seconds)
        tokens = sum(int(size.lengths.sum()) for size in self.sizes)
        flops = sum(
            useful_flops(job["model"], job["vocab_size"], size.lengths, size.masked)
            for size in self.sizes
        )
        return {
            "tokens_per_second": tokens / total,
            "tokens_per_cpu_second": tokens / cpu,
            "examples_per_step": sum(len(size.lengths) for size in self.sizes) / len(self.sizes),
            "tokens_per_step": tokens / len(self.sizes),
            "useful_flops_per_second": flops / total,
            "peak_flops_per_second": peak,
            "peak_fraction": flops / total / peak,
            "step_seconds": self.seconds,
            "step_cpu_seconds": self.cpu_seconds,
            "first_step_seconds": self.first_seconds,
            "first_step_since_start": self.first_since_start,
            **more,
        }


def time_steps(
    batches: Iterator[Any],
    step: Callable[[Any], None],
    size: Callable[[Any], BatchSize],
    count: int,
    compilations: Callable[[], int] = lambda: 0,
    after_first: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> StepTimes:
    """Times `count` training steps after the warm-up.

    Args:
        step: trains on a batch; returns when everything is computed.
        size: measures a batch, outside the timed part.
        compilations: number of compilations so far; steps up to the last one do not count.
        after_first: called once after the first step, outside the timed part.
    """
    times = StepTimes()
    drop = _WARMUP_STEPS
    for number in range(count + _WARMUP_STEPS + _MAX_EXTRA_STEPS):
        before = compilations()
        start, cpu_start = clock(), time.process_time()
        batch = next(batches)
        step(batch)
        seconds, cpu_seconds = clock() - start, time.process_time() - cpu_start
        if number == 0:
            times.first_seconds = seconds
            times.first_since_start = time.time() - float(os.environ.get(STARTED, "nan"))
            after_first()
        if compilations() != before and number < _MAX_EXTRA_STEPS:
            drop = _WARMUP_STEPS
            for values in (times.seconds, times.cpu_seconds, times.sizes):
                values.clear()
        elif drop:
            drop -= 1
        else:
            times.seconds.append(seconds)
            times.cpu_seconds.append(cpu_seconds)
            times.sizes.append(size(batch))
            if len(times.seconds) == count:
                break
    return times


def matmul_peak(product: Callable[[], None]) -> float:
    """FLOPs per second of a product of square matrices of MATMUL_SIZE: best of MATMUL_REPEATS."""
    best = float("inf")
    for _ in range(MATMUL_REPEATS):
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return 2 * MATMUL_SIZE**3 / best
