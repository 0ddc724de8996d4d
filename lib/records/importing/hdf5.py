"""NVIDIA's pretraining data: HDF5 files of Google's features, without the weights.

DeepLearningExamples/PyTorch/LanguageModeling/BERT/create_pretraining_data.py writes them, with
int32 and int8 data sets, compressed; the loader of run_pretraining.py there takes a row's masked
positions up to the first 0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.records.importing.example_batch import ExampleBatch, SequenceSizes
from lib.run.errors import UserError

if TYPE_CHECKING:
    import h5py

# Data set -> how many values a row has: the cells, the predictions, or one.
_WIDTHS = {
    "input_ids": "cells",
    "input_mask": "cells",
    "segment_ids": "cells",
    "masked_lm_positions": "predictions",
    "masked_lm_ids": "predictions",
    "next_sentence_labels": "one",
}
# Of unpacked chunks, per data set: one that reaches over several blocks is unpacked but once.
_CACHE_BYTES = 1 << 23


def hdf5_sizes(path: Path) -> SequenceSizes:
    """The sizes of the rows of a file.

    Raises:
        UserError: the file is damaged, has no rows, or data sets are missing or misshapen.
    """
    with _data_sets(path) as sets:
        cells = sets["input_ids"].shape[1]
        return SequenceSizes(cells, cells, sets["masked_lm_positions"].shape[1])


def read_hdf5(path: Path, rows: int) -> Iterator[ExampleBatch]:
    """The examples of a file.

    Args:
        rows: of a block, at most.

    Raises:
        UserError: as `hdf5_sizes`.
    """
    with _data_sets(path) as sets:
        for start in range(0, len(sets["input_ids"]), rows):
            features = {
                name: each[start : start + rows].astype(np.int64) for name, each in sets.items()
            }
            labels = features["next_sentence_labels"]
            features["next_sentence_labels"] = labels.reshape(-1, 1)
            used = np.logical_and.accumulate(features["masked_lm_positions"] != 0, axis=1)
            features["masked_lm_weights"] = used.astype(np.float32)
            yield ExampleBatch(np.arange(start + 1, start + 1 + len(labels)), features)


@contextmanager
def _data_sets(path: Path) -> Iterator[dict[str, "h5py.Dataset"]]:
    """The file's data sets, of shapes and types that fit together."""
    import h5py  # It takes a while: only where there is such a file.

    try:
        with h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES) as file:
            sets = {name: file[name] for name in _WIDTHS if name in file}
            sets = {name: each for name, each in sets.items() if isinstance(each, h5py.Dataset)}
            if missing := [name for name in _WIDTHS if name not in sets]:
                raise UserError(
                    f"{path}: no pretraining examples: it lacks {', '.join(missing)} (it has "
                    f"{', '.join(sorted(file)) or 'nothing'}); give a file of NVIDIA's "
                    "create_pretraining_data.py"
                )
            _check_shapes(path, sets)
            yield sets
    except (OSError, KeyError, RuntimeError) as failure:
        problem = " ".join(str(failure).split())
        raise UserError(f"{path}: damaged or cut short ({problem}); make it again") from None


def _check_shapes(path: Path, sets: dict[str, "h5py.Dataset"]) -> None:
    for name, each in sets.items():
        if each.dtype.kind not in "iu":
            raise UserError(
                f"{path}: {name} should be integers in rows of one length. Received: values of "
                f"type {each.dtype}; make it again"
            )
        if each.ndim != 2 and not (each.ndim == 1 and _WIDTHS[name] == "one"):
            raise UserError(
                f"{path}: {name} should be a matrix [rows, values]. Received: shape "
                f"{each.shape}; make it again"
            )
    rows, cells = sets["input_ids"].shape
    if not rows:
        raise UserError(f"{path}: holds no rows; remove it or make it again")
    widths = {"cells": cells, "predictions": sets["masked_lm_positions"].shape[1], "one": 1}
    for name, each in sets.items():
        expected = (rows, widths[_WIDTHS[name]])
        if (*each.shape, 1)[:2] != expected:
            raise UserError(
                f"{path}: {name} has shape {each.shape}, where {expected} belongs; make it again"
            )
