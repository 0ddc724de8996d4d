"""Sentence pairs of test text for the NSP head, made as the records stage makes them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.evaluation.sequences import BATCH_POSITIONS
from lib.records.masking import VocabularyFacts, mask_sequences
from lib.records.sequences import assemble
from lib.records.settings import RecordSettings
from lib.records.shard import make_examples
from lib.records.tokens import read_tokens
from lib.run.random import generator
from lib.vocab.tokenizer import Tokenizer


@dataclass(frozen=True)
class PairBatch:
    """B sequences of S token positions, of which the first N are pairs and the others padding.

    Attributes:
        features: `input_ids`, `input_mask`, `segment_ids`, int32 [B, S].
        documents: int64 [N]: which document segment A is from.
        labels: int64 [N]: 0 = B follows A in the text, 1 = B is random.
    """

    features: dict[str, np.ndarray]
    documents: np.ndarray
    labels: np.ndarray


def pair_batches(
    shards: list[Path],
    tokenizer: Tokenizer,
    settings: RecordSettings,
    masked_lm_prob: float,
    max_pairs: int,
    seed: int,
) -> Iterator[PairBatch]:
    """The first `max_pairs` pairs, in the order of the text.

    Args:
        settings: those of the training records. Tokens are masked as there, because the head has
            seen no other sequences.
        masked_lm_prob: fraction of the tokens to mask. It and the choice of single tokens are the
            same for all models, whatever their records, so that they are evaluated on the same
            sequences.
    """
    length = settings.max_seq_length
    settings = replace(settings.held_out(), whole_word_mask=False)
    facts, batch_size = VocabularyFacts.from_tokenizer(tokenizer), max(1, BATCH_POSITIONS // length)
    documents_before = 0
    for number, shard in enumerate(shards):
        tokens = read_tokens(shard, tokenizer.encode_lines)
        examples = make_examples(tokens, settings, seed, number)
        starts = tokens.sentence_offsets[tokens.document_offsets]
        for start in range(0, min(len(examples), max_pairs), batch_size):
            chosen = np.arange(start, min(start + batch_size, len(examples), max_pairs))
            unmasked = assemble(tokens, examples, chosen, length, facts.cls_id, facts.sep_id)
            masked = mask_sequences(
                unmasked.input_ids,
                unmasked.lengths,
                facts,
                masked_lm_prob,
                int(np.ceil(masked_lm_prob * length)),
                False,
                generator(seed, "mask pairs", number, start),
            )
            features = {
                "input_ids": masked.input_ids,
                "input_mask": unmasked.input_mask,
                "segment_ids": unmasked.segment_ids,
            }
            padding = ((0, batch_size - len(chosen)), (0, 0))  # [N, S] -> [B, S]
            documents = np.searchsorted(starts, examples.a_start[chosen], side="right") - 1
            yield PairBatch(
                {name: np.pad(own, padding).astype(np.int32) for name, own in features.items()},
                documents + documents_before,
                examples.is_random[chosen].astype(np.int64),
            )
        documents_before += tokens.documents
        max_pairs -= min(len(examples), max_pairs)
        if not max_pairs:
            return
