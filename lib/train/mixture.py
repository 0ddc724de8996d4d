"""Mixture of named inputs: which input each sequence of the training order is from.

Weights are proportions of tokens. Sequences of one input may hold more tokens than those of
another, so proportions of sequences are computed first; then each sequence gets an input, such that
after any number of sequences each input has had its proportion of them, to within one sequence. For
0.5, 0.3 and 0.2:

    sequence    1 2 3 4 5 6 7 8 9 10
    input       0 1 0 2 0 1 0 2 1 0

Which input a sequence is from depends on the proportions and on its number only, so training can
begin anywhere in the order. The method is that of Tijdeman (1980, "The chairman assignment
problem"): with k inputs no proportion is ever off by more than 1 - 1/(2k - 2) sequences.
"""

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from lib.records.manifest import Split
from lib.run.errors import UserError

# Proportions are rounded to a millionth.
PERIOD = 1_000_000


class Mixture:
    """The order of inputs.

    Attributes:
        names: the inputs that are used.
        proportions: float64 [inputs], of the sequences; they add up to 1.
        period: the inputs of so many sequences recur.
    """

    def __init__(self, proportions: Mapping[str, float]) -> None:
        """
        Args:
            proportions: of the sequences of each input; they are scaled to add up to 1. Inputs of
                proportion 0 are not used.
        """
        total = sum(proportions.values())
        exact = {name: PERIOD * share / total for name, share in proportions.items() if share}
        parts = {name: max(1, int(value)) for name, value in exact.items()}
        # What rounding down leaves goes to the largest remainders.
        by_remainder = sorted(exact, key=lambda name: parts[name] - exact[name])
        for name in by_remainder[: max(0, PERIOD - sum(parts.values()))]:
            parts[name] += 1
        self.names = tuple(parts)
        self._parts = np.array(list(parts.values()), np.int64)
        self.period = int(self._parts.sum())
        self.proportions = self._parts / self.period

    def inputs(self, first: int, past: int) -> np.ndarray:
        """int64 [past - first]: the input, as an index of `names`, of each of some sequences."""
        found: np.ndarray = self._order[np.arange(first, past) % self.period]
        return found

    def counts(self, past: int) -> np.ndarray:
        """int64 [inputs]: how many of the sequences before one are from each input."""
        periods, rest = divmod(past, self.period)
        some = np.bincount(self._order[:rest], minlength=len(self.names))
        found: np.ndarray = periods * self._parts + some
        return found

    @cached_property
    def _order(self) -> np.ndarray:
        """int64 [period]: the input of each sequence of a period."""
        count, total = len(self._parts), self.period
        if count == 1:
            return np.zeros(total, np.int64)
        # All in units of 1 / (total * (2 count - 2)) sequences.
        scale = 2 * count - 2
        owed = [0] * count  # what each input should have had until now, less what it has had
        steps = [scale * part for part in self._parts.tolist()]
        latest = total * (scale - 1)
        order = []
        for _ in range(total):
            best, earliest = -1, 0.0
            for index, step in enumerate(steps):
                owed[index] += step
                if owed[index] >= total:
                    deadline = (latest - owed[index]) / step
                    if best < 0 or deadline < earliest:
                        best, earliest = index, deadline
            owed[best] -= total * scale
            order.append(best)
        return np.array(order)


def read_mixture(
    setting: Mapping[str, float] | float | None, split: Split, where: str
) -> Mixture | None:
    """The mixture of training records that a phase asks for.

    Args:
        setting: weights of the inputs, in tokens; or a power of their sizes; None: no mixture.
        where: the key of params.yaml, for errors.

    Raises:
        UserError: the inputs of the records are others than those with a weight.
    """
    if setting is None:
        return None
    sizes = _sizes(split)
    names = sorted(sizes)
    if "" in names:
        raise UserError(
            f"{where}: the records are not made from named inputs; name the folders of raw text in "
            "preprocess.inputs, or set it to null"
        )
    if isinstance(setting, Mapping):
        weights = dict(setting)
        if unknown := sorted(weights.keys() - names):
            raise UserError(
                f"{where}: no training text is of {', '.join(unknown)}; the inputs are "
                f"{', '.join(names)}"
            )
        if missing := [name for name in names if name not in weights]:
            raise UserError(
                f"{where}: has no weight for {', '.join(missing)}; add `{missing[0]}: 0` if it "
                "should not be trained on"
            )
    else:
        weights = {name: sizes[name]["tokens"] ** setting for name in names}
    # As many tokens as asked for, in sequences that hold different numbers of them.
    return Mixture(
        {name: weights[name] * sizes[name]["sequences"] / sizes[name]["tokens"] for name in names}
    )


def seen(
    split: Split, mixture: Mixture | None, first_sequence: int, sequences: int
) -> dict[str, dict[str, float]]:
    """What a run sees of each input: sequences, examples, tokens, and epochs over the input.

    Args:
        split: of the training records; the input is "" if they have no named ones.
        first_sequence: position in the order at which the run begins.
        sequences: that it sees.
    """
    sizes = _sizes(split)
    if mixture:
        past = first_sequence + sequences
        counts = mixture.counts(past) - mixture.counts(max(first_sequence, 0))
        numbers = dict.fromkeys(sizes, 0.0) | dict(zip(mixture.names, counts.tolist(), strict=True))
    else:
        numbers = {
            name: sequences * size["sequences"] / split.sequences for name, size in sizes.items()
        }
    found: dict[str, dict[str, float]] = {}
    for name, size in sizes.items():
        epochs = numbers[name] / size["sequences"]
        found[name] = {each: round(epochs * count) for each, count in size.items()}
        found[name]["epochs"] = epochs
    return found


def _sizes(split: Split) -> dict[str, Counter[str]]:
    """Sequences, examples and tokens of each input that has any."""
    sizes: dict[str, Counter[str]] = {}
    for name, *counts in zip(
        split.file_inputs,
        split.file_sequences,
        split.file_examples,
        split.file_tokens,
        strict=True,
    ):
        own = dict(zip(("sequences", "examples", "tokens"), counts, strict=True))
        sizes.setdefault(name, Counter()).update(own)
    return {name: size for name, size in sizes.items() if size["sequences"]}
