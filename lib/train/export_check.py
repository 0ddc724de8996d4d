"""The written model beside the trained one, on real rows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.checkpoints.verification import MAX_SEQUENCES, verify
from lib.model.config import BertConfig
from lib.model.losses import head_logits
from lib.records.manifest import Manifest
from lib.run import tf
from lib.train.input import evaluation_batches

# The reading process is exact, and slow: some 15 seconds for BERT-base and so many tokens [m].
_TOKENS = 512


def largest_difference(
    directory: Path,
    config: BertConfig,
    weights: Mapping[str, np.ndarray],
    records: Path,
    manifest: Manifest,
) -> float:
    """Reads a written model again, in a new process, and compares its logits with the trainer's.

    Args:
        directory: the model's.
        weights: the trainer's, float32 arrays by the names of the parameter table.
        records: whose first dev rows are asked about.

    Returns:
        The largest absolute difference of a logit, of either head.

    Raises:
        UserError: the written model does not compute what was trained.
    """
    rows = min(
        MAX_SEQUENCES, manifest.splits["dev"].sequences, max(1, _TOKENS // manifest.max_seq_length)
    )
    batch = next(iter(evaluation_batches(records, manifest, "dev", rows)))
    # Other devices may compute in less than float32.
    with tf.device("CPU:0"):
        of_pieces, of_pairs = head_logits(weights, config, batch, next_sentence=True)
    arrays = {name: values.numpy() for name, values in batch.items()}
    return verify(directory, arrays, np.asarray(of_pieces), np.asarray(of_pairs))
