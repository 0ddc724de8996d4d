"""Reader of NVIDIA's pretraining data: HDF5 files of Google's features, without the weights.

DeepLearningExamples/PyTorch/LanguageModeling/BERT/create_pretraining_data.py writes them as
compressed int32 and int8 data sets. There the loader of run_pretraining.py uses the masked
positions of an example up to the first 0, and so does this reader:

    masked_lm_positions [[3, 7, 0, 0]]  ->  masked_lm_weights [[1, 1, 0, 0]]

The labels of next sentences may be missing. Refused: links, external storage and virtual data sets,
by which a file can bring the content of any other readable file into the records.

Shapes: B examples in a batch, N in the file, S tokens and P predictions per sequence.
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

# Data set -> number of values per example: S, P, or 1.
_WIDTHS = {
    "input_ids": "S",
    "input_mask": "S",
    "segment_ids": "S",
    "masked_lm_positions": "P",
    "masked_lm_ids": "P",
    "next_sentence_labels": "1",
}
_LABELS = "next_sentence_labels"
# HDF5's cache of decompressed chunks, per data set: a chunk that spans several batches is
# decompressed only once.
_CACHE_BYTES = 1 << 23


def hdf5_sizes(path: Path) -> SequenceSizes:
    """The sizes of the sequences of a file.

    Raises:
        UserError: the file is damaged or empty, or data sets are missing or have wrong shapes.
    """
    with _data_sets(path) as sets:
        length = sets["input_ids"].shape[1]
        predictions = sets["masked_lm_positions"].shape[1]
        return SequenceSizes(length, length, predictions, _LABELS in sets)


def read_hdf5(path: Path, batch_size: int) -> Iterator[ExampleBatch]:
    """The examples of a file.

    Args:
        batch_size: B, fewer in the last batch.

    Raises:
        UserError: as `hdf5_sizes`.
    """
    with _data_sets(path) as sets:
        for start in range(0, len(sets["input_ids"]), batch_size):
            features = {
                name: data[start : start + batch_size].astype(np.int64)
                for name, data in sets.items()
            }
            count = len(features["input_ids"])
            labels = features.get(_LABELS, np.zeros(count, np.int64))
            features[_LABELS] = labels.reshape(-1, 1)  # [B] -> [B, 1]
            is_used = np.logical_and.accumulate(features["masked_lm_positions"] != 0, axis=1)
            features["masked_lm_weights"] = is_used.astype(np.float32)
            yield ExampleBatch(np.arange(start + 1, start + 1 + count), features)


@contextmanager
def _data_sets(path: Path) -> Iterator[dict[str, "h5py.Dataset"]]:
    """The data sets of the file, shapes and dtypes checked."""
    import h5py  # here, because it is slow to import and rarely needed

    try:
        with h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES) as file:
            for name in _WIDTHS:
                _refuse_links(path, file, name)
            sets = {name: file[name] for name in _WIDTHS if name in file}
            sets = {name: data for name, data in sets.items() if isinstance(data, h5py.Dataset)}
            for name, data in sets.items():
                if data.external or data.is_virtual:
                    raise _elsewhere(path, f"the values of {name} are in other files")
            if missing := [name for name in _WIDTHS if name not in sets and name != _LABELS]:
                raise UserError(
                    f"{path}: has no pretraining examples: it lacks {', '.join(missing)} (it has "
                    f"{', '.join(sorted(file)) or 'nothing'}); use a file of NVIDIA's "
                    "create_pretraining_data.py"
                )
            _check_shapes(path, sets)
            yield sets
    except (OSError, KeyError, RuntimeError) as failure:
        problem = " ".join(str(failure).split())
        raise UserError(f"{path}: is damaged or cut short ({problem}); create it again") from None


def _refuse_links(path: Path, file: "h5py.File", name: str) -> None:
    """Checks that a name is not a link, without following it."""
    import h5py

    links = file.id.links
    if links.exists(name.encode()) and links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise _elsewhere(path, f"{name} is a link")


def _elsewhere(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path}: {problem}, which is refused because a link can lead to any file; write the file "
        "again with its values in it"
    )


def _check_shapes(path: Path, sets: dict[str, "h5py.Dataset"]) -> None:
    for name, data in sets.items():
        if data.dtype.kind not in "iu":
            raise UserError(
                f"{path}: {name} should be a matrix of integers. Received: values of type "
                f"{data.dtype}; create the file again"
            )
        if data.ndim != 2 and not (data.ndim == 1 and _WIDTHS[name] == "1"):
            raise UserError(
                f"{path}: {name} should be a matrix [examples, values]. Received: shape "
                f"{data.shape}; create the file again"
            )
    examples, length = sets["input_ids"].shape
    if not examples:
        raise UserError(f"{path}: holds no examples; remove it or create it again")
    widths = {"S": length, "P": sets["masked_lm_positions"].shape[1], "1": 1}
    for name, data in sets.items():
        expected = (examples, widths[_WIDTHS[name]])
        if (*data.shape, 1)[:2] != expected:
            raise UserError(
                f"{path}: {name} has shape {data.shape}, but should have {expected}; create the "
                "file again"
            )
