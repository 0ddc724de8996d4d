"""Pretraining examples as others make them, written by other means than ours."""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

CLS, SEP, MASK = 2, 3, 4
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(295))]
LENGTH, PREDICTIONS = 16, 4

Arrays = dict[str, np.ndarray]


def write_vocabulary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    return folder


def some_examples(rows: int, seed: int, length: int = LENGTH) -> Arrays:
    """Google's features of made-up sentence pairs; ids over 127 take two bytes in a TFRecord."""
    draw = np.random.default_rng(seed)
    arrays = {
        name: np.zeros((rows, columns), np.int64)
        for name, columns in (
            ("input_ids", length),
            ("input_mask", length),
            ("segment_ids", length),
            ("masked_lm_positions", PREDICTIONS),
            ("masked_lm_ids", PREDICTIONS),
            ("next_sentence_labels", 1),
        )
    }
    arrays["masked_lm_weights"] = np.zeros((rows, PREDICTIONS), np.float32)
    for row in range(rows):
        tokens = int(draw.integers(6, length + 1))
        first = int(draw.integers(2, tokens - 2))
        ids = draw.integers(5, len(PIECES), tokens)
        ids[[0, first, tokens - 1]] = CLS, SEP, SEP
        count = int(draw.integers(1, PREDICTIONS + 1))
        words = np.setdiff1d(np.arange(tokens), [0, first, tokens - 1])
        positions = np.sort(draw.choice(words, min(count, len(words)), replace=False))
        taken = slice(len(positions))
        arrays["masked_lm_positions"][row, taken] = positions
        arrays["masked_lm_ids"][row, taken] = ids[positions]
        arrays["masked_lm_weights"][row, taken] = 1
        ids[positions] = draw.choice([MASK, MASK, 77], len(positions))
        arrays["input_ids"][row, :tokens] = ids
        arrays["input_mask"][row, :tokens] = 1
        arrays["segment_ids"][row, first + 1 : tokens] = 1
        arrays["next_sentence_labels"][row] = draw.integers(0, 2)
    return arrays


def write_tfrecords(
    path: Path, arrays: Arrays, names: dict[str, str] | None = None, compression: str = ""
) -> Path:
    """As Google's create_pretraining_data.py; `names` renames features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in range(len(arrays["input_ids"])):
            feature = {}
            for name, matrix in arrays.items():
                if matrix.dtype == np.float32:
                    values = tf.train.Feature(float_list=tf.train.FloatList(value=matrix[row]))
                else:
                    values = tf.train.Feature(int64_list=tf.train.Int64List(value=matrix[row]))
                feature[(names or {}).get(name, name)] = values
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return path


def write_hdf5(path: Path, arrays: Arrays, **options: object) -> Path:
    """As NVIDIA's create_pretraining_data.py: without the weights, and flat labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, matrix in arrays.items():
            if name == "next_sentence_labels":
                matrix = matrix[:, 0]
            if name != "masked_lm_weights":
                kind = "i1" if name in ("input_mask", "segment_ids") else "i4"
                file.create_dataset(name, data=matrix, dtype=kind, **options)
    return path


def as_objects(arrays: Arrays, padded: bool = True) -> list[dict]:
    """The arguments of Hugging Face's BertForPreTraining, row by row."""
    objects = []
    for row in range(len(arrays["input_ids"])):
        length = arrays["input_ids"].shape[1] if padded else int(arrays["input_mask"][row].sum())
        labels = [-100] * length
        for slot, weight in enumerate(arrays["masked_lm_weights"][row]):
            if weight:
                labels[arrays["masked_lm_positions"][row, slot]] = int(
                    arrays["masked_lm_ids"][row, slot]
                )
        objects.append(
            {
                "input_ids": arrays["input_ids"][row, :length].tolist(),
                "attention_mask": arrays["input_mask"][row, :length].tolist(),
                "token_type_ids": arrays["segment_ids"][row, :length].tolist(),
                "labels": labels,
                "next_sentence_label": int(arrays["next_sentence_labels"][row, 0]),
            }
        )
    return objects


def write_objects(path: Path, objects: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(each) + "\n" for each in objects).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def parsed(paths: list[Path], length: int = LENGTH, compression: str = "") -> Arrays:
    """What TensorFlow reads from record files."""
    sizes = {"input_ids": length, "input_mask": length, "segment_ids": length}
    sizes |= {"masked_lm_positions": PREDICTIONS, "masked_lm_ids": PREDICTIONS}
    features = {
        name: tf.io.FixedLenFeature([size], tf.int64)
        for name, size in (sizes | {"next_sentence_labels": 1}).items()
    }
    features["masked_lm_weights"] = tf.io.FixedLenFeature([PREDICTIONS], tf.float32)
    serialized = list(
        tf.data.TFRecordDataset(list(map(str, paths)), compression).as_numpy_iterator()
    )
    return {
        name: value.numpy() for name, value in tf.io.parse_example(serialized, features).items()
    }
