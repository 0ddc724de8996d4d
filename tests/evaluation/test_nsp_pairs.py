"""Sentence pairs of test text."""

import numpy as np

from lib.evaluation.nsp_pairs import pair_batches
from lib.records.settings import RecordSettings
from tests.helpers.held_out import LARGE, PROBABILITY, SEED, read_documents


def test_pairs_are_made_of_the_documents_that_they_are_said_to_be_from(shards):
    settings = RecordSettings(32, 5, short_seq_prob=0.0)
    found = list(pair_batches(shards, LARGE, settings, PROBABILITY, 100, SEED))
    labels = np.concatenate([batch.labels for batch in found])
    documents = np.concatenate([batch.documents for batch in found])
    assert len(labels) == 100 and 0.3 < labels.mean() < 0.9
    assert (np.diff(documents) >= 0).all()
    text = [
        {token for sentence in sentences for token in LARGE.encode(sentence)}
        for sentences in read_documents(shards)
    ]
    ids = np.concatenate([batch.features["input_ids"][: len(batch.labels)] for batch in found])
    segments = np.concatenate([b.features["segment_ids"][: len(b.labels)] for b in found])
    special = {LARGE.cls_id, LARGE.sep_id, LARGE.pad_id, LARGE.mask_id}
    foreign = 0
    for row, segment, document, label in zip(ids, segments, documents, labels, strict=True):
        for part in (0, 1) if not label else (0,):
            # A tenth of the masked tokens is replaced by a random one.
            foreign += len(set(row[segment == part].tolist()) - special - text[document])
    assert foreign < 0.05 * (ids > 4).sum()
