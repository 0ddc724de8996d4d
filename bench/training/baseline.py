"""The unigram baseline on held-out records: what a model that sees no context can reach."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from lib.evaluation.unigram import Unigram
from lib.records.tfrecord_reader import read_examples
from lib.vocab.loading import load_tokenizer


def unigram_loss(paths: Mapping[str, str]) -> float:
    """Mean loss in nats over the masked tokens of the dev records.

    Args:
        paths: as in jobs: `records`, next to the shards whose training text is counted;
            `heldout_records`, with static masks, not packed; `vocabulary`.
    """
    tokenizer = load_tokenizer(Path(paths["vocabulary"]))
    counts = np.zeros(len(tokenizer.vocabulary), np.int64)
    for path in sorted((Path(paths["records"]).parents[1] / "shards/train").glob("*.txt")):
        with path.open(encoding="utf-8") as lines:
            while batch := list(islice(lines, 1000)):
                ids = [token for line in batch for token in tokenizer.encode(line)]
                counts += np.bincount(np.array(ids, np.int64), minlength=len(counts))
    losses, total, number = Unigram(counts).losses, 0.0, 0
    for path in sorted(Path(paths["heldout_records"]).glob("dev/*.tfrecord*")):
        for example in read_examples(path):
            labels = example["masked_lm_ids"][example["masked_lm_weights"] > 0]
            total += float(losses[labels].sum())
            number += len(labels)
    return total / number
