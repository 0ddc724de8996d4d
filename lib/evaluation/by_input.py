"""Evaluation on each input of the test text: the model, the one it started from, no model.

Text that is not trained on (`evaluate.extra`) is an input as well. It is left out of the metrics of
the whole.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.evaluation.breakdowns import Breakdowns
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.held_out import HeldOut
from lib.evaluation.metrics import (
    CHARACTERS,
    INITIAL,
    MAJORITY,
    METRICS,
    MLM_METRICS,
    NSP_METRICS,
    PAIRS,
    RANDOM_PAIRS,
    TOKENS,
)
from lib.evaluation.paired import Difference, differences
from lib.evaluation.sums import ModelSums
from lib.evaluation.unigram import Unigram
from lib.text.layout import EXTRA, shard_files, shard_input

SumsByInput = dict[str, ModelSums]
"""The sums of a model by input; the input is "" if there are none."""

# In the table of inputs.
_SHOWN = ("bits_per_character", "code_length_per_character", "mlm_accuracy", "word_accuracy")
_COMPARED = METRICS["bits_per_character"]


def test_shards(test: Path) -> dict[str, list[Path]]:
    """The shards of test text by input, `extra` last."""
    shards: dict[str, list[Path]] = {}
    for path in shard_files(test.parent, test.name):
        shards.setdefault(shard_input(path, test.name), []).append(path)
    return dict(sorted(shards.items(), key=lambda item: (item[0] == EXTRA, item[0])))


def main_shards(held_out: Mapping[str, HeldOut]) -> list[Path]:
    """The shards of all inputs but `extra`."""
    return [path for name, own in held_out.items() if name != EXTRA for path in own.shards]


def whole(sums: SumsByInput) -> ModelSums:
    """The sums over all inputs but `extra`."""
    return ModelSums.join([own for name, own in sums.items() if name != EXTRA])


def sums_by_input(
    held_out: Mapping[str, HeldOut], evaluator: Evaluator, length: int
) -> SumsByInput:
    """The sums of a model on sequences of one length."""
    return {name: own.sums(evaluator, length) for name, own in held_out.items()}


def sums_with_unigram(
    held_out: Mapping[str, HeldOut],
    evaluator: Evaluator,
    unigram: Unigram,
    breakdowns: Breakdowns,
    length: int,
) -> tuple[SumsByInput, SumsByInput, Counter[str]]:
    """The sums of a model and of the unigram baseline, and the counts of the whole.

    Args:
        breakdowns: collects the predictions of the model, but for `extra`.
    """
    model: SumsByInput = {}
    without: SumsByInput = {}
    total: Counter[str] = Counter()
    for name, own in held_out.items():
        is_extra = name == EXTRA
        model[name], without[name], counts = own.with_unigram(
            evaluator, unigram, None if is_extra else breakdowns, length
        )
        total.update({} if is_extra else counts)
    return model, without, total


def with_baselines(model: ModelSums, unigram: ModelSums, seed: int) -> dict[str, Any]:
    """The metrics of a model and of the baselines without a model, intervals, and counts."""
    without_model = unigram.metrics()
    found: dict[str, Any] = model.metrics() | {
        metric.key(metric.baseline): without_model[metric.name]
        for metric in MLM_METRICS
        if metric.baseline
    }
    counts = {}
    if pairs := model.nsp:
        random = pairs.total(RANDOM_PAIRS) / max(pairs.total(PAIRS), 1)
        found |= {
            metric.key(MAJORITY): max(random, 1 - random)
            for metric in NSP_METRICS
            if metric.baseline is MAJORITY
        }
        counts["pairs"] = int(pairs.total(PAIRS))
    counts["masked_tokens"] = int(model.mlm.total(TOKENS))
    counts["characters"] = int(model.mlm.total(CHARACTERS))
    return {**found, "intervals": model.intervals(seed), **counts}


def input_metrics(
    model: SumsByInput, unigram: SumsByInput, initial: SumsByInput | None, seed: int
) -> dict[str, dict[str, Any]]:
    """The metrics of each named input, with the difference to the model that training began with.

    The difference is in bits per character, below 0 if the model has become better, and has a
    paired interval over documents.
    """
    found = {}
    for name, own in model.items():
        if not name:
            continue
        found[name] = with_baselines(own, unigram[name], seed)
        if initial:
            before = initial[name].metrics()
            found[name] |= {METRICS[key].key(INITIAL): value for key, value in before.items()}
            if difference := _difference(own, initial[name], seed):
                found[name]["change"] = {
                    _COMPARED.name: difference.value,
                    "interval": list(difference.interval),
                }
    return found


def input_table(
    models: Mapping[str, SumsByInput], initial: SumsByInput | None, seed: int
) -> pd.DataFrame:
    """A line for each input and model, with intervals.

    Args:
        models: by name; the first one also gets its change since the initial model.
    """
    first = next(iter(models))
    lines = []
    for name in models[first]:
        for model, sums in models.items():
            values, intervals = sums[name].metrics(), sums[name].intervals(seed)
            low, high = intervals.get(_COMPARED.name, (None, None))
            line: dict[str, Any] = {"input": name or "all", "model": model}
            line |= {key: values[key] for key in _SHOWN} | {"low": low, "high": high}
            change = None
            if initial and model == first:
                change = _difference(sums[name], initial[name], seed)
            line["change"] = change.value if change else None
            line["change_low"], line["change_high"] = change.interval if change else (None, None)
            lines.append(line)
    return pd.DataFrame(lines)


def _difference(model: ModelSums, initial: ModelSums, seed: int) -> Difference | None:
    """Bits per character of a model less those of another; None for a single document."""
    names = [_COMPARED.total.name, _COMPARED.per.name]
    sides = [
        np.stack([sums.mlm.by_name[name] for name in names])[np.newaxis]
        for sums in (model, initial)
    ]
    size = max(side.shape[-1] for side in sides)
    a, b = (np.pad(side, [(0, 0), (0, 0), (0, size - side.shape[-1])]) for side in sides)
    found = differences(a, b, names, [_COMPARED], seed)
    return found[0] if found else None
