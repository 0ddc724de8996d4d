"""Optimizer steps by the clock, and the arithmetic that they need: the same for every framework."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Left out at the beginning, and after each compilation.
_DROPPED = 2
# A peer that compiles again and again is measured all the same after so many.
_MOST_EXTRA = 40
# Of the square matrices whose product tells the peak: 4,096 is no faster [m].
MATMUL_SIZE, MATMUL_REPEATS = 2048, 10
STARTED = "BENCH_STARTED"


def useful_flops(model: dict[str, Any], vocab_size: int, lengths: np.ndarray, masked: int) -> float:
    """Floating-point operations of a step: one measure of its work for every system.

    Those of matrix products: the encoder and its attention on real tokens and within examples,
    and the MLM head at masked positions; twice as many backwards as forwards. Padding,
    attention to it, and logits that no loss looks at do not count, whoever computes them. The last
    layer counts whole, also for ours, which leaves out the states that no head looks at.

    Args:
        model: sizes, by the names of a BERT's config.
        lengths: integer array [examples]: tokens without padding.
        masked: masked positions of the step.
    """
    hidden, inner = model["hidden_size"], model["intermediate_size"]
    lengths = lengths.astype(np.float64)
    each_token = 4 * hidden**2 + 2 * hidden * inner
    attention = 2 * hidden * float((lengths**2).sum())  # scores, and their product with the values
    encoder = model["num_hidden_layers"] * (each_token * float(lengths.sum()) + attention)
    head = masked * (hidden**2 + hidden * vocab_size)
    multiply_and_add, forward_and_backward = 2, 3
    return multiply_and_add * forward_and_backward * (encoder + head)


@dataclass
class Size:
    """What is in one batch: tokens of each example, and masked positions."""

    lengths: np.ndarray
    masked: int


@dataclass
class Times:
    """The steps that count.

    Attributes:
        first_seconds: of the very first step, compilation and all.
        seconds, sizes: of each step that counts.
    """

    first_seconds: float = 0.0
    first_since_start: float = 0.0
    seconds: list[float] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)

    def result(self, job: dict[str, Any], peak: float, **more: Any) -> dict[str, Any]:
        """The figures of one process.

        Args:
            peak: operations a second of a large matrix product here.
        """
        total = sum(self.seconds)
        tokens = sum(int(size.lengths.sum()) for size in self.sizes)
        flops = sum(
            useful_flops(job["model"], job["vocab_size"], size.lengths, size.masked)
            for size in self.sizes
        )
        return {
            "tokens_per_second": tokens / total,
            "examples_per_step": sum(len(size.lengths) for size in self.sizes) / len(self.sizes),
            "tokens_per_step": tokens / len(self.sizes),
            "useful_flops_per_second": flops / total,
            "peak_flops_per_second": peak,
            "share_of_peak": flops / total / peak,
            "step_seconds": self.seconds,
            "first_step_seconds": self.first_seconds,
            "first_step_since_start": self.first_since_start,
            **more,
        }


def time_steps(
    batches: Iterator[Any],
    step: Callable[[Any], None],
    size: Callable[[Any], Size],
    count: int,
    compilations: Callable[[], int] = lambda: 0,
    after_first: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Takes batches and steps until `count` of them count.

    Args:
        step: returns when all is computed.
        size: not counted in the time.
        compilations: a number that grows with each compilation: steps before do not count.
        after_first: done once after the first step, not counted.
    """
    times = Times()
    drop = _DROPPED
    for number in range(count + _DROPPED + _MOST_EXTRA):
        before = compilations()
        start = clock()
        batch = next(batches)
        step(batch)
        seconds = clock() - start
        if number == 0:
            times.first_seconds = seconds
            times.first_since_start = time.time() - float(os.environ.get(STARTED, "nan"))
            after_first()
        if compilations() != before and number < _MOST_EXTRA:
            drop = _DROPPED
            times.seconds.clear()
            times.sizes.clear()
        elif drop:
            drop -= 1
        else:
            times.seconds.append(seconds)
            times.sizes.append(size(batch))
            if len(times.seconds) == count:
                break
    return times


def matmul_peak(product: Callable[[], None]) -> float:
    """Operations a second of a product of square matrices of MATMUL_SIZE: the best of some."""
    best = float("inf")
    for _ in range(MATMUL_REPEATS):
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return 2 * MATMUL_SIZE**3 / best


def read_job(path: Path) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return job


def write_result(path: Path, result: dict[str, Any]) -> None:
    """result.json beside the job."""
    path.with_name("result.json").write_text(json.dumps(result), encoding="utf-8")


def example_lengths(marks: np.ndarray) -> np.ndarray:
    """Tokens of each example.

    Args:
        marks: integer array [B, S]: the number of a token's example in its row, 0 for padding.
    """
    most = int(marks.max())
    counts = np.stack([(marks == number).sum(axis=1) for number in range(1, most + 1)])
    return counts[counts > 0]


def random_rows(rows: int, length: int, predictions: int, vocab_size: int) -> dict[str, np.ndarray]:
    """Full rows of random tokens with as many masked positions each, in the records' form."""
    draw = np.random.default_rng(1)
    order = np.argsort(draw.random((rows, length - 2)), axis=1)[:, :predictions]
    shape = (rows, length)
    return {
        "input_ids": draw.integers(5, vocab_size, shape),
        "input_mask": np.ones(shape, np.int64),
        "segment_ids": (np.arange(length) >= length // 2) * np.ones(shape, np.int64),
        "masked_lm_positions": np.sort(order, axis=1) + 1,
        "masked_lm_ids": draw.integers(5, vocab_size, (rows, predictions)),
        "masked_lm_weights": np.ones((rows, predictions), np.float32),
        "next_sentence_labels": draw.integers(0, 2, (rows, 1)),
    }


def as_collated(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """A batch as Hugging Face's collators make it: padded to its longest example.

    Args:
        examples: records of one example each, padded to the same length.

    Returns:
        int64 arrays: `input_ids`, `attention_mask`, `token_type_ids`, `labels` [B, longest], -100
        where nothing is to be predicted; `next_sentence_label` [B].
    """
    rows = {name: np.stack([one[name] for one in examples]) for name in examples[0]}
    longest = int(rows["input_mask"].sum(axis=1).max())
    labels = np.full(rows["input_ids"].shape, -100, np.int64)
    row, column = np.nonzero(rows["masked_lm_weights"] > 0)
    labels[row, rows["masked_lm_positions"][row, column]] = rows["masked_lm_ids"][row, column]
    columns = {
        "input_ids": rows["input_ids"],
        "attention_mask": rows["input_mask"],
        "token_type_ids": rows["segment_ids"],
        "labels": labels,
    }
    cut = {name: values[:, :longest].astype(np.int64) for name, values in columns.items()}
    return {**cut, "next_sentence_label": rows["next_sentence_labels"][:, 0].astype(np.int64)}
