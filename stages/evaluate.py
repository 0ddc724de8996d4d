"""evaluate: models/<phase> and test text -> results/evaluate and the model card."""

import json
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from lib.evaluation.baselines import Unigram
from lib.evaluation.breakdowns import Breakdowns
from lib.evaluation.comparison import INITIAL, read_evaluator, saved_models, table
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.fill_mask import fill_holes
from lib.evaluation.held_out import HeldOut, named
from lib.evaluation.metrics import OF_HOLES, OF_PAIRS
from lib.model.config import read_config
from lib.params import SAVED, load_params
from lib.report.card.facts import gather
from lib.report.card.model_card import model_card
from lib.report.charts.run_charts import (
    draw_breakdowns,
    draw_data,
    draw_models,
    draw_throughput,
    draw_training,
)
from lib.report.page import write_page
from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.metrics import write_metrics
from lib.run.paths import MODELS, SHARDS, VOCAB
from lib.run.stage import run_stage
from lib.text.documents import read_corpus
from lib.vocab.tokenizer import WordPieceTokenizer

_RESULTS, _TARGET = Path("results"), Path("results/evaluate")
_LOOKED_AT = 200  # documents to take example sentences from


def _sentences(shards: list[Path]) -> Iterator[str]:
    """Sentences to look at: the first of many documents, then the second of each, and so on."""
    documents = list(islice((text for path in shards for text in read_corpus(path)), _LOOKED_AT))
    lines = [document.decode().splitlines() for document in documents]
    for row in zip_longest(*lines, fillvalue=""):
        yield from filter(None, row)


def _numbers(
    held_out: HeldOut, evaluator: Evaluator, unigram: Unigram, breakdowns: Breakdowns, length: int
) -> dict[str, Any]:
    """What the model gets, and what one gets without a model, with intervals and counts."""
    (without, sums), counts = held_out.ask(length, [unigram.score, evaluator.score], breakdowns.see)
    seed = held_out.settings.seed
    found, intervals = sums.metrics(OF_HOLES), sums.intervals(OF_HOLES, seed)
    baselines = named(without.metrics(OF_HOLES), "unigram")
    baselines["mlm_accuracy_top_token"] = baselines.pop("mlm_accuracy_unigram")
    if held_out.records.next_sentence:
        pairs = held_out.ask_pairs(length, evaluator, breakdowns.see_pairs)
        found |= pairs.metrics(OF_PAIRS)
        intervals |= pairs.intervals(OF_PAIRS, seed)
        random = pairs.total("random") / pairs.total("pairs")
        baselines["nsp_accuracy_majority"] = max(random, 1 - random)
        counts["pairs"] = int(pairs.total("pairs"))
    counts |= {
        "masked_tokens": int(sums.total("pieces")),
        "characters": int(sums.total("characters")),
    }
    return {**found, **baselines, "intervals": intervals, **counts}


def main(
    phase: str = "",
    model: Path | None = None,
    test: Path = SHARDS / "test",
    vocab: Path = VOCAB,
) -> None:
    """Asks a finished model about text that it never saw.

    PHASE is its name in params.yaml, MODEL its folder, TEST the folder of test shards, VOCAB the
    vocabulary (with the piece counts of training text, for the unigram baseline). The models that
    training kept are in models/saved/PHASE.
    """
    params = load_params()
    phase = phase or params.evaluate.phase
    params.check_phase(phase)
    model = model or MODELS / phase
    facts = gather(params, phase, _RESULTS)
    config = read_config(model / "config.json")
    tokenizer = WordPieceTokenizer.load(model)
    counts = np.array([int(line) for line in (vocab / "token_counts.txt").read_text().split()])
    # The model may have rows to spare.
    if not len(counts) == len(tokenizer.vocabulary) <= config.vocab_size:
        raise UserError(
            f"{model}: {config.vocab_size} rows, but {vocab} has {len(counts)}; train "
            "the model with this vocabulary"
        )
    settings, length = params.evaluate, params.phases[phase].max_seq_length
    held_out = HeldOut(sorted(test.glob("*.txt")), tokenizer, settings, params.records)
    evaluator = read_evaluator(
        model, max([length, *settings.lengths]), params.records.next_sentence
    )
    unigram, breakdowns = Unigram(counts), Breakdowns(counts, length)
    numbers = _numbers(held_out, evaluator, unigram, breakdowns, length)
    holes = fill_holes(
        evaluator,
        tokenizer,
        unigram,
        _sentences(held_out.shards),
        settings.fill_mask_examples,
        settings.seed,
    )

    training = read_object(_RESULTS / f"pretrain/{phase}/metrics.json")
    kept = Path("models") / SAVED / phase
    others = saved_models(kept, training["best_step"])
    lengths = sorted({length, *settings.lengths})
    lines = [{"model": phase, "step": training["steps"], "length": length, **numbers}]
    for name, step in {phase: training["steps"], **others}.items():
        if name not in (phase, INITIAL) and not settings.saved_models:
            continue
        if name != phase:
            evaluator = read_evaluator(kept / name, lengths[-1], params.records.next_sentence)
        for own in lengths:
            if (name, own) != (phase, length):
                found = held_out.metrics(own, evaluator)
                lines.append({"model": name, "step": step, "length": own, **found})
                if (name, own) == (INITIAL, length):
                    numbers |= named(found, INITIAL)
    models, tables = table(lines), breakdowns.tables()
    for name, values in {**tables, "models": models}.items():
        write_text(_TARGET / f"{name}.csv", values.to_csv(index=False, float_format="%.6g"))
    draw_breakdowns(_TARGET, tables)
    draw_models(_TARGET, models)
    draw_training(_TARGET, _RESULTS / f"pretrain/{phase}/live/plots/metrics")
    draw_data(_TARGET, _RESULTS / f"records/{phase}", _RESULTS / "vocab")
    costs = _RESULTS / "cost"
    draw_throughput(costs / f"throughput-{phase}.svg", costs / f"training-{phase}.csv")

    metrics = {"phase": phase, **numbers}
    write_text(_TARGET / "fill_mask.json", json.dumps(holes, indent=2, ensure_ascii=False) + "\n")
    write_text(model / "README.md", model_card(facts, config, metrics))
    write_metrics(_TARGET / "metrics.json", metrics)
    print(
        f"evaluate: {phase}: {numbers['bits_per_character']:.3f} bits a character (unigram "
        f"{numbers['bits_per_character_unigram']:.3f}), MLM loss {numbers['mlm_loss']:.3f} "
        f"({numbers['mlm_loss_unigram']:.3f}), accuracy {numbers['mlm_accuracy']:.1%} (top "
        f"token {numbers['mlm_accuracy_top_token']:.1%})"
    )


if __name__ == "__main__":
    # Last of all, because the page tells what evaluate took, too.
    run_stage(main, afterwards=write_page)
