"""External pretraining examples, written with the libraries that their authors use."""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

CLS, SEP, MASK = 2, 3, 4
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *(f"w{number}" for number in range(295)),
]
LENGTH, PREDICTIONS = 16, 4

Arrays = dict[str, np.ndarray]


def write_vocabulary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    return folder


def some_examples(count: int, seed: int, length: int = LENGTH) -> Arrays:
    """Google's features of random sentence pairs; ids above 127 take two bytes in a TFRecord."""
    draw = np.random.default_rng(seed)
    arrays = {
        name: np.zeros((count, width), np.int64)
        for name, width in (
            ("input_ids", length),
            ("input_mask", length),
            ("segment_ids", length),
            ("masked_lm_positions", PREDICTIONS),
            ("masked_lm_ids", PREDICTIONS),
            ("next_sentence_labels", 1),
        )
    }
    arrays["masked_lm_weights"] = np.zeros((count, PREDICTIONS), np.float32)
    for index in range(count):
        tokens = int(draw.integers(6, length + 1))
        first = int(draw.integers(2, tokens - 2))
        ids = draw.integers(5, len(VOCABULARY), tokens)
        ids[[0, first, tokens - 1]] = CLS, SEP, SEP
        masked = int(draw.integers(1, PREDICTIONS + 1))
        words = np.setdiff1d(np.arange(tokens), [0, first, tokens - 1])
        positions = np.sort(draw.choice(words, min(masked, len(words)), replace=False))
        slots = slice(len(positions))
        arrays["masked_lm_positions"][index, slots] = positions
        arrays["masked_lm_ids"][index, slots] = ids[positions]
        arrays["masked_lm_weights"][index, slots] = 1
        ids[positions] = draw.choice([MASK, MASK, 77], len(positions))
        arrays["input_ids"][index, :tokens] = ids
        arrays["input_mask"][index, :tokens] = 1
        arrays["segment_ids"][index, first + 1 : tokens] = 1
        arrays["next_sentence_labels"][index] = draw.integers(0, 2)
    return arrays


def as_feature(values: np.ndarray) -> tf.train.Feature:
    """The values of a feature, [V] of float32 or integers, as a protocol buffer."""
    if values.dtype == np.float32:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def write_tfrecords(
    path: Path, arrays: Arrays, names: dict[str, str] | None = None, compression: str = ""
) -> Path:
    """As Google's create_pretraining_data.py; `names` renames features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for index in range(len(arrays["input_ids"])):
            feature = {}
            for name, matrix in arrays.items():
                feature[(names or {}).get(name, name)] = as_feature(matrix[index])
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
    """The arguments of Hugging Face's BertForPreTraining, one object per example."""
    objects = []
    for index in range(len(arrays["input_ids"])):
        length = arrays["input_ids"].shape[1] if padded else int(arrays["input_mask"][index].sum())
        labels = [-100] * length
        for slot, weight in enumerate(arrays["masked_lm_weights"][index]):
            if weight:
                labels[arrays["masked_lm_positions"][index, slot]] = int(
                    arrays["masked_lm_ids"][index, slot]
                )
        objects.append(
            {
                "input_ids": arrays["input_ids"][index, :length].tolist(),
                "attention_mask": arrays["input_mask"][index, :length].tolist(),
                "token_type_ids": arrays["segment_ids"][index, :length].tolist(),
                "labels": labels,
            }
        )
        if "next_sentence_labels" in arrays:
            objects[-1]["next_sentence_label"] = int(arrays["next_sentence_labels"][index, 0])
    return objects


def write_objects(path: Path, objects: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(each) + "\n" for each in objects).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path
