"""Export check: the written model computes the same logits as the trained one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.checkpoints.verification import MASKED_LM, MAX_SEQUENCES, NEXT_SENTENCE, verify
from lib.model.encoder_config import EncoderConfig
from lib.model.losses import head_logits
from lib.records.manifest import Manifest
from lib.run import tf
from lib.train.input import evaluation_batches

# The verifying process is exact and slow: about 15 seconds for this many tokens with BERT-base.
_MAX_TOKENS = 512


def max_logit_difference(
    directory: Path,
    config: EncoderConfig,
    weights: Mapping[str, np.ndarray],
    records: Path,
    manifest: Manifest,
) -> float:
    """Reads a written model in a new process and compares its logits with those of the trainer.

    They are logits of the first dev sequences. Returns the largest absolute difference; raises a
    UserError if it is too large.
    """
    sequences = min(
        MAX_SEQUENCES,
        manifest.splits["dev"].sequences,
        max(1, _MAX_TOKENS // manifest.max_seq_length),
    )
    batch = next(iter(evaluation_batches(records, manifest, "dev", sequences)))
    # Other devices may compute in less than float32.
    with tf.device("CPU:0"):
        mlm_logits, nsp_logits = head_logits(
            weights, config, batch, next_sentence=config.has_next_sentence
        )
    logits = {MASKED_LM: np.asarray(mlm_logits)}
    if nsp_logits is not None:
        logits[NEXT_SENTENCE] = np.asarray(nsp_logits)
    arrays = {name: values.numpy() for name, values in batch.items()}
    return verify(directory, arrays, logits)
