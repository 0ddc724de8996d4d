"""Evaluation of a model in any folder, for comparisons."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.checkpoints.huggingface import read_model
from lib.evaluation.by_input import test_shards
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.held_out import HeldOut
from lib.evaluation.metrics import TokenCountCode
from lib.params import Params
from lib.run.errors import UserError
from lib.run.pool import worker_count
from lib.vocab.characters import BasicTokenizer
from lib.vocab.loading import load_tokenizer
from lib.vocab.report import measure_fit
from lib.vocab.words import count_words


def evaluate_folder(
    params: Params, model: Path, test: Path, sample: Path
) -> tuple[int, pd.DataFrame]:
    """Evaluates any model on the test documents, as a model of this project is evaluated.

    With `records.next_sentence`, its masked words are in pairs, unless the model has one segment.

    Args:
        sample: the folder of the training sample, for the numbers of tokens of its words.

    Returns:
        Tokens of the sequences: as many as the phase's have, or fewer if the model has fewer
        positions. And totals per document, see `ModelSums.table`.
    """
    by_input, training_text = test_shards(test), sample / "train.txt"
    if not by_input or not training_text.exists():
        raise UserError(
            f"{training_text if by_input else test}: no such text; make it with dvc repro split"
        )
    evaluator = Evaluator(*read_model(model))
    length = params.phases[params.evaluate.phase].max_seq_length
    length = min(length, evaluator.config.max_position_embeddings)
    tokenizer = load_tokenizer(model)
    counted = count_words(
        training_text,
        BasicTokenizer(tokenizer.lowercase, tokenizer.strip_accents),
        params.vocab.max_sentence_length,
        worker_count(params.cluster.workers),
        tokenizer.zero_width,
    )
    count_code = TokenCountCode(np.array(measure_fit(tokenizer, counted).words_by_tokens))
    pairs = params.records.next_sentence and evaluator.config.segments > 1
    records = params.records.model_copy(update={"next_sentence": pairs})
    tables = []
    for shards in by_input.values():
        held_out = HeldOut(shards, tokenizer, params.evaluate, records, count_code)
        sums = held_out.sums(evaluator, length)
        tables.append(sums.table(held_out.digests(sums.documents())))
    return length, pd.concat(tables)
