"""Counts of the training sample, written beside the vocabulary for evaluate."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lib.run.errors import UserError

# Line i, from 0: how often the token with id i occurs.
TOKEN_COUNTS = "token_counts.txt"
# Line k, from 1: how many words have k tokens.
TOKENS_PER_WORD = "tokens_per_word.txt"


def write_counts(path: Path, counts: Iterable[int]) -> None:
    """Writes whole numbers, one per line."""
    path.write_text("".join(f"{count}\n" for count in counts), encoding="utf-8")


def read_counts(path: Path) -> np.ndarray:
    """The numbers of a file of `write_counts`, int64.

    Raises:
        UserError: the file is missing, or has something else in it.
    """
    again = "make the vocabulary again: dvc repro -f -s vocab"
    try:
        lines = path.read_text(encoding="utf-8").split()
        return np.array([int(line) for line in lines], np.int64)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {again}") from None
    except ValueError:
        raise UserError(f"{path}: should have a whole number per line; {again}") from None
