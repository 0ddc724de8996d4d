"""Evaluation of a phase: its model, its baselines, and the models that training saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lib.checkpoints.huggingface import read_model
from lib.evaluation.breakdowns import Breakdowns
from lib.evaluation.by_input import (
    SumsByInput,
    input_metrics,
    input_table,
    main_shards,
    sums_by_input,
    sums_with_unigram,
    test_shards,
    whole,
    with_baselines,
)
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.fill_mask import example_sentences, fill_mask_examples
from lib.evaluation.held_out import HeldOut
from lib.evaluation.metrics import INITIAL, METRICS, UNIGRAM, TokenCountCode
from lib.evaluation.paired import INPUT
from lib.evaluation.unigram import Unigram
from lib.model.encoder_config import EncoderConfig
from lib.params import Params
from lib.run.errors import UserError
from lib.vocab.counts import TOKEN_COUNTS, read_token_counts, read_tokens_per_word
from lib.vocab.directory import has_vocabulary, read_directory
from lib.vocab.loading import load_tokenizer


@dataclass(frozen=True)
class Evaluation:
    """Results of the evaluation of a phase.

    Attributes:
        config: of the phase's model.
        metrics: the content of metrics.json but for the phase's name.
        tables: the CSV files by name.
        documents: totals per document, by `model` and `length`: the phase's own model first.
        fill_mask: the content of fill_mask.json.
    """

    config: EncoderConfig
    metrics: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    documents: pd.DataFrame
    fill_mask: list[dict[str, object]]


def evaluate_phase(
    params: Params,
    phase: str,
    model: Path,
    saved: Path,
    test: Path,
    vocab: Path,
    tokens_per_word: Path,
    training: Mapping[str, Any],
) -> Evaluation:
    """Evaluates a phase's model, and the saved models if params.yaml is set to do so.

    Args:
        model, test: folders of the model and of the test shards.
        saved: the folder of the models that training saved.
        vocab: the folder of the vocabulary, with the token counts of training text.
        tokens_per_word: the file of `lib.vocab.counts`.
        training: `steps`, `best_step` and dev metrics of the phase, as pretrain reports them.
    """
    settings, length = params.evaluate, params.phases[phase].max_seq_length
    lengths = sorted({length, *settings.lengths})
    evaluator = _load(model, lengths[-1])
    tokenizer = load_tokenizer(model)
    counts = read_token_counts(vocab / TOKEN_COUNTS)
    # The model may have spare entries.
    if not len(counts) == len(tokenizer.vocabulary) <= evaluator.config.vocab_size:
        raise UserError(
            f"{model}: has a vocabulary of {len(tokenizer.vocabulary)} tokens and "
            f"{evaluator.config.vocab_size} embeddings, but {vocab} has {len(counts)} tokens; "
            "train the model with this vocabulary"
        )
    if has_vocabulary(vocab) and read_directory(vocab).vocabulary != tokenizer.vocabulary:
        raise UserError(
            f"{vocab}: not the vocabulary of {model}, so its counts are those of other tokens; "
            "train the model with this vocabulary"
        )
    # As the model was trained: for external records, params.yaml does not say it.
    records = params.records.model_copy(update={"next_sentence": "dev_nsp_loss" in training})
    count_code = TokenCountCode(read_tokens_per_word(tokens_per_word))
    held_out = {
        name: HeldOut(shards, tokenizer, settings, records, count_code)
        for name, shards in test_shards(test).items()
    }
    unigram, breakdowns = Unigram(counts), Breakdowns(counts, length)
    own_sums, unigram_sums, totals = sums_with_unigram(
        held_out, evaluator, unigram, breakdowns, length
    )
    metrics = {
        **with_baselines(whole(own_sums), whole(unigram_sums), settings.seed),
        **totals,
    }
    # A phase may be called unigram.
    sums = {(phase, length): own_sums}
    sums.setdefault((UNIGRAM.key, length), unigram_sums)
    examples = fill_mask_examples(
        evaluator,
        tokenizer,
        unigram,
        example_sentences(main_shards(held_out)),
        settings.fill_mask_examples,
        settings.seed,
    )
    lines = [{"model": phase, "step": training["steps"], "length": length, **metrics}]
    config = evaluator.config
    others = _saved_models(saved, training["best_step"])
    for name, step in {phase: training["steps"], **others}.items():
        if name not in (phase, INITIAL.key) and not settings.saved_models:
            continue
        if name != phase:
            evaluator = _load(saved / name, lengths[-1])
        for each in lengths:
            if (name, each) != (phase, length):
                sums[name, each] = sums_by_input(held_out, evaluator, each)
                found = whole(sums[name, each]).metrics()
                lines.append({"model": name, "step": step, "length": each, **found})
                if (name, each) == (INITIAL.key, length):
                    metrics |= {METRICS[key].key(INITIAL): own for key, own in found.items()}
    columns = ["model", "step", "length", *(name for name in METRICS if name in metrics)]
    initial = sums.get((INITIAL.key, length))
    if named := input_metrics(own_sums, unigram_sums, initial, settings.seed):
        metrics["inputs"] = named
    shown = {name: own for (name, each), own in sums.items() if each == length}
    tables = {
        **breakdowns.tables(),
        "models": pd.DataFrame(lines)[columns],
        "inputs": input_table(shown, initial, settings.seed),
    }
    return Evaluation(config, metrics, tables, _document_table(held_out, sums), examples)


def _load(model: Path, max_length: int) -> Evaluator:
    config, weights = read_model(model)
    if max_length > config.max_position_embeddings:
        raise UserError(
            f"evaluate.lengths: {max_length} is more than the {config.max_position_embeddings} "
            f"positions of {model}; remove it"
        )
    return Evaluator(config, weights)


def _saved_models(folder: Path, best_step: int) -> dict[str, int]:
    """The models that pretrain saved, with their steps, ordered by step.

    Args:
        folder: one folder for each model; the one that training started from, if any, has step 0.
        best_step: the step of the model with the lowest dev loss.
    """
    steps = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in (INITIAL.key, "best"):
            steps[path.name] = best_step if path.name == "best" else 0
        elif path.name.startswith("step-"):
            steps[path.name] = int(path.name.removeprefix("step-"))
    return dict(sorted(steps.items(), key=lambda item: (item[1], item[0])))


def _document_table(
    held_out: Mapping[str, HeldOut], sums: Mapping[tuple[str, int], SumsByInput]
) -> pd.DataFrame:
    digests = {
        name: own.digests(max(each[name].documents() for each in sums.values()))
        for name, own in held_out.items()
    }
    tables = []
    for (model, length), by_input in sums.items():
        for name, own in by_input.items():
            table = own.table(digests[name])
            table.insert(1, "model", model)
            table.insert(2, "length", length)
            if name:
                table.insert(3, INPUT, name)
            tables.append(table)
    return pd.concat(tables)
