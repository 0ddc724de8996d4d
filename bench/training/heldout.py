"""Held-out MLM loss of model directories: python -m bench.training.heldout JOB_JSON MODEL...

Writes losses.json next to the job: for each model, means on sequences with fixed masks, of all sets
for the last model and of the first set for the others:

- `records`: the dev examples of the records stage, each a segment of whole sentences.
- `blocks`, if the job has `heldout_text`: the same text cut as in Hugging Face's example: lines
  concatenated, no padding.
- `other`, if the job has `heldout_others`: dev examples of another text.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from bench.common.report import read_json
from lib.checkpoints.huggingface import read_model
from lib.model.config import read_config
from lib.model.layers import Batch
from lib.model.losses import loss_sums, mean_metrics
from lib.records.manifest import read_manifest
from lib.records.masking import VocabularyFacts, mask_sequences
from lib.run import random, tf
from lib.train.input import evaluation_batches
from lib.vocab.loading import load_tokenizer
from lib.vocab.tokenizer import Tokenizer

_BATCH_SIZE = 32


def block_batches(text: Path, tokenizer: Tokenizer, length: int, seed: int = 1) -> list[Batch]:
    """Batches of a text cut into blocks and masked.

    Each line becomes [CLS] line [SEP]; all are concatenated and cut into blocks of `length` tokens.
    Tokens that do not fill a whole batch are dropped.
    """
    lines = text.read_text(encoding="utf-8").splitlines()
    ids = [
        token
        for line in lines
        if line
        for token in (tokenizer.cls_id, *tokenizer.encode(line), tokenizer.sep_id)
    ]
    count = len(ids) // length // _BATCH_SIZE * _BATCH_SIZE
    blocks = np.array(ids[: count * length], np.int32).reshape(count, length)  # [blocks, S]
    masked = mask_sequences(
        blocks,
        np.full(count, length),
        VocabularyFacts.from_tokenizer(tokenizer),
        0.15,
        length,
        False,
        random.generator(seed, "joined rows"),
    )
    dataset = tf.data.Dataset.from_tensor_slices(
        {
            "input_ids": masked.input_ids,
            "input_mask": np.ones_like(blocks),
            "segment_ids": np.zeros_like(blocks),
            "masked_lm_positions": masked.positions,
            "masked_lm_ids": masked.ids,
            "masked_lm_weights": masked.weights,
            "example_weights": np.ones(count, np.float32),
        }
    )
    return list(dataset.batch(_BATCH_SIZE))


def add_unused_heads(model: Path) -> None:
    """Adds a pooler and an NSP head of zeros to a BERT that was trained without sentence pairs."""
    config = read_config(model / "config.json")
    if not config.has_next_sentence:
        return
    path = model / "model.safetensors"
    tensors = load_file(path)
    size = config.hidden_size
    shapes = {
        "bert.pooler.dense.weight": (size, size),
        "bert.pooler.dense.bias": (size,),
        "cls.seq_relationship.weight": (2, size),
        "cls.seq_relationship.bias": (2,),
    }
    missing = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(missing | tensors, path, metadata={"format": "pt"})


def losses(models: Sequence[Path], sets: Mapping[str, Sequence[Batch]]) -> list[dict[str, float]]:
    """Mean loss and accuracy of models of one shape.

    All models are evaluated on the set `records`, the last one on all sets.
    """
    config = read_config(models[0] / "config.json")

    @tf.function(jit_compile=True)
    def sums(weights: dict[str, tf.Tensor], batch: Batch) -> dict[str, tf.Tensor]:
        return loss_sums(weights, config, batch, False)

    scored = []
    for model in models:
        add_unused_heads(model)
        weights = {name: tf.constant(array) for name, array in read_model(model)[1].items()}
        means: dict[str, float] = {}
        for name in sets if model == models[-1] else ["records"]:
            totals: dict[str, float] = {}
            for batch in sets[name]:
                for key, value in sums(weights, batch).items():
                    totals[key] = totals.get(key, 0.0) + float(value)
            means[f"{name}_loss"] = mean_metrics(totals)["mlm_loss"]
            means[f"{name}_accuracy"] = mean_metrics(totals)["mlm_accuracy"]
        scored.append(means)
    return scored


def _dev_batches(records: Path) -> list[Batch]:
    return list(evaluation_batches(records, read_manifest(records), "dev", _BATCH_SIZE))


def main(path: Path, models: list[Path]) -> None:
    job = read_json(path)
    records = Path(job["heldout_records"])
    tokenizer = load_tokenizer(Path(job["vocabulary"]))
    sets = {"records": _dev_batches(records)}
    if "heldout_text" in job:
        sets["blocks"] = block_batches(Path(job["heldout_text"]), tokenizer, job["length"])
    if "heldout_others" in job:
        sets["other"] = _dev_batches(Path(job["heldout_others"]))
    path.with_name("losses.json").write_text(json.dumps(losses(models, sets)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
