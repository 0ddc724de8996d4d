"""Checkpoints for tests: Google TF1 checkpoints, Model Garden fixtures, bitwise comparison."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from lib.model.bert_config import BertConfig
from lib.vocab.settings import SPECIAL_TOKENS
from tests.helpers.tiny_bert import TINY

# The tiny model with Google's gelu, the tanh form.
GOOGLE_CONFIG = replace(TINY, hidden_act="gelu_new")
# As many entries as the tiny model has word embeddings.
VOCABULARY = [*SPECIAL_TOKENS, *(f"word{number}" for number in range(45))]
# Checkpoints written by the Model Garden's own code; see fixtures/model_garden_common.py.
MODEL_GARDEN = Path(__file__).parents[1] / "fixtures/model_garden"


def google_config_values(config: BertConfig = GOOGLE_CONFIG) -> dict:
    """The content of a bert_config.json as Google publishes it."""
    values = {**asdict(config), "hidden_act": "gelu", "directionality": "bidi"}
    del values["layer_norm_eps"]
    return values


def save_tf1(folder: Path, arrays: dict[str, np.ndarray], name: str = "bert_model.ckpt") -> Path:
    """Writes a checkpoint with TF1's Saver and a bert_config.json; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(google_config_values()))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.get_variable(f"v{number}", initializer=array)
            for number, (name, array) in enumerate(arrays.items())
        }
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables)
        saver.save(session, str(folder / name), write_meta_graph=False)
    return folder


def with_training_state(weights: dict[str, np.ndarray], *slots: str) -> dict[str, np.ndarray]:
    """Weights with what training adds: optimizer slots, step counters, loss scales."""
    counters = {"global_step": np.int64(9), "beta1_power": np.float32(0), "good_steps": np.int32(1)}
    return {
        **weights,
        **{f"{name}/{slot}": array + 1 for name, array in weights.items() for slot in slots},
        **counters,
    }


def same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    """Whether both have the same names, and under each the same float32 array, bit for bit."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == np.float32
        and found[name].shape == expected[name].shape
        and found[name].tobytes() == np.ascontiguousarray(expected[name], np.float32).tobytes()
        for name in expected
    )
