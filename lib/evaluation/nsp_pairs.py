"""Sentence pairs of test text, made as the records stage makes them, for the NSP head."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.records.masking import VocabularyFacts, mask_sequences
from lib.records.sequences import assemble
from lib.records.settings import RecordSettings
from lib.records.shard import make_examples
from lib.records.tokens import read_tokens
from lib.run.random import generator
from lib.vocab.tokenizer import WordPieceTokenizer

# Cells of a batch; see `lib.evaluation.sequences`.
_CELLS = 4096


@dataclass(frozen=True)
class PairBatch:
    """R rows of S cells, of which the first N are pairs.

    Attributes:
        features: `input_ids`, `input_mask`, `segment_ids`, int32 [R, S].
        documents: int64 [N]: which document segment A is from.
        labels: int64 [N]: 0 = B follows A in the text, 1 = B is random.
    """

    features: dict[str, np.ndarray]
    documents: np.ndarray
    labels: np.ndarray


def pair_batches(
    shards: list[Path],
    tokenizer: WordPieceTokenizer,
    settings: RecordSettings,
    share: float,
    most: int,
    seed: int,
) -> Iterator[PairBatch]:
    """The first `most` pairs, in the order of the text.

    Args:
        settings: those of the training records. Tokens are masked as there, because the head has
            seen no other rows; but always `share` of them, and pieces, so that models trained on
            other records are asked the same.
    """
    length = settings.max_seq_length
    settings = replace(settings.held_out(), whole_word_mask=False)
    facts, rows = VocabularyFacts.from_tokenizer(tokenizer), max(1, _CELLS // length)
    documents_before = 0
    for number, shard in enumerate(shards):
        tokens = read_tokens(shard, tokenizer.encode_lines)
        examples = make_examples(tokens, settings, seed, number)
        starts = tokens.sentence_offsets[tokens.document_offsets]
        for start in range(0, min(len(examples), most), rows):
            chosen = np.arange(start, min(start + rows, len(examples), most))
            made = assemble(tokens, examples, chosen, length, facts.cls_id, facts.sep_id)
            masked = mask_sequences(
                made.input_ids,
                made.lengths,
                facts,
                share,
                int(np.ceil(share * length)),
                False,
                generator(seed, "mask pairs", number, start),
            )
            whole = {
                "input_ids": masked.input_ids,
                "input_mask": made.input_mask,
                "segment_ids": made.segment_ids,
            }
            beyond = ((0, rows - len(chosen)), (0, 0))
            own = np.searchsorted(starts, examples.a_start[chosen], side="right") - 1
            yield PairBatch(
                {name: np.pad(values, beyond).astype(np.int32) for name, values in whole.items()},
                own + documents_before,
                examples.is_random[chosen].astype(np.int64),
            )
        documents_before += tokens.documents
        most -= min(len(examples), most)
        if not most:
            return
