"""Counts of the training sample: words by their number of tokens, and uses of each token.

`results/vocab/tokens_per_word.csv` and `data/vocab/token_counts.txt`, which evaluate needs.
"""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lib.run.atomic import write_text
from lib.run.errors import UserError

TOKEN_COUNTS = "token_counts.txt"


def write_tokens_per_word(path: Path, words: Iterable[int]) -> None:
    """Writes a line for each number of tokens.

    Args:
        words: how many words have 1, 2, ... tokens.
    """
    lines = [f"{tokens},{count}\n" for tokens, count in enumerate(words, 1)]
    write_text(path, "".join(["tokens,words\n", *lines]))


@contextmanager
def _checked(path: Path, content: str) -> Iterator[None]:
    """Refuses a file that is missing or has not the content that it should have."""
    again = "make it again: dvc repro -f -s vocab"
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {again}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: should have {content}; {again}") from None


def read_token_counts(path: Path) -> np.ndarray:
    """int64 [vocabulary size]: how often training text has each token, from `token_counts.txt`."""
    with _checked(path, "a whole number per line"):
        counts = [int(line) for line in path.read_text(encoding="utf-8").split()]
    return np.array(counts, np.int64)


def read_tokens_per_word(path: Path) -> np.ndarray:
    """int64 [K]: how many words have 1, 2, ... K tokens, from a file of `write_tokens_per_word`."""
    with (
        _checked(path, "the numbers of tokens 1, 2, ... and their words"),
        path.open(encoding="utf-8", newline="") as lines,
    ):
        rows = [(int(line["tokens"]), int(line["words"])) for line in csv.DictReader(lines)]
        if [tokens for tokens, _ in rows] != list(range(1, len(rows) + 1)):
            raise ValueError
    return np.array([words for _, words in rows], np.int64)
