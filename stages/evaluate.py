"""evaluate: models/<phase> and test text -> results/evaluate and the model card."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np

from lib.interop.card import model_card
from lib.interop.card_facts import gather
from lib.interop.huggingface import read_model
from lib.params import Params, load_params
from lib.records.documents import read_tokens
from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.shard import features, make_examples, row_blocks
from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.stage import run_stage
from lib.text.documents import read_corpus
from lib.train.evaluation import Evaluator, Unigram
from lib.train.holes import fill_holes
from lib.vocab.tokenizer import WordPieceTokenizer

_BATCH = 32
_LOOKED_AT = 200  # documents to take example sentences from
_INTEGERS = (
    "input_ids",
    "input_mask",
    "segment_ids",
    "masked_lm_positions",
    "masked_lm_ids",
    "next_sentence_labels",
)


def _test_batches(
    params: Params, shards: list[Path], tokenizer: WordPieceTokenizer
) -> Iterator[dict[str, np.ndarray]]:
    """At most evaluate.max_examples test examples, in batches of one shape.

    They are made here from text, always with evaluate's own settings, so that models trained on
    other records are asked the same questions.
    """
    length = params.phases[params.evaluate.phase].max_seq_length
    settings = replace(
        RecordSettings.from_params(params.records, length).once(),
        max_predictions_per_seq=int(np.ceil(params.evaluate.masked_lm_prob * length)),
        masked_lm_prob=params.evaluate.masked_lm_prob,
    )
    facts = VocabularyFacts.of(tokenizer)
    left, seed = params.evaluate.max_examples, params.evaluate.seed
    for number, shard in enumerate(shards):
        tokens = read_tokens(shard, tokenizer.encode_lines)
        examples = make_examples(tokens, settings, seed, number)
        for each, masked in row_blocks(tokens, examples, settings, facts, seed, number):
            block = features(each, masked)
            rows = min(len(each.lengths), left)
            left -= rows
            for start in range(0, rows, _BATCH):
                count = min(_BATCH, rows - start)
                batch = {
                    name: np.zeros(
                        (_BATCH, *values.shape[1:]), np.int32 if name in _INTEGERS else np.float32
                    )
                    for name, values in block.items()
                }
                for name, values in block.items():
                    batch[name][:count] = values[start : start + count]
                batch["example_weights"] = (np.arange(_BATCH) < count).astype(np.float32)
                yield batch
            if not left:
                return


def _sentences(shards: list[Path]) -> Iterator[str]:
    """Sentences to look at: the first of many documents, then the second of each, and so on."""
    documents = list(islice((text for path in shards for text in read_corpus(path)), _LOOKED_AT))
    lines = [document.decode().splitlines() for document in documents]
    for row in zip_longest(*lines, fillvalue=""):
        yield from filter(None, row)


def main(phase: str, model: Path, test: Path, vocab: Path) -> None:
    """Asks a finished model about text that it never saw.

    PHASE is its name in params.yaml, MODEL its folder, TEST the folder of test shards, VOCAB the
    vocabulary (with the piece counts of training text, for the unigram baseline).
    """
    params = load_params()
    facts = gather(params, phase, Path("results"))
    config, weights = read_model(model)
    tokenizer = WordPieceTokenizer.load(model)
    counts = np.array([int(line) for line in (vocab / "piece_counts.txt").read_text().split()])
    # The model may have rows to spare.
    if not len(counts) == len(tokenizer.vocabulary) <= config.vocab_size:
        raise UserError(
            f"{model}: {config.vocab_size} rows, but {vocab} has {len(counts)}; train "
            "the model with this vocabulary"
        )
    shards = sorted(test.glob("*.txt"))
    evaluator = Evaluator(config, weights, params.records.next_sentence)
    unigram = Unigram(counts)
    numbers = evaluator.evaluate(map(unigram.see, _test_batches(params, shards, tokenizer)))
    baselines = unigram.metrics()
    if not baselines["examples"]:
        raise UserError(f"{test}: its text makes no examples; raise split.test_share")
    if not params.records.next_sentence:
        del baselines["nsp_accuracy_majority"]
    metrics = {
        "phase": phase,
        **numbers,
        "mlm_perplexity": float(np.exp(numbers["mlm_loss"])),
        **baselines,
    }
    holes = fill_holes(
        evaluator,
        tokenizer,
        unigram,
        _sentences(shards),
        params.evaluate.holes,
        params.evaluate.seed,
    )
    write_text(
        Path("results/evaluate/holes.json"), json.dumps(holes, indent=2, ensure_ascii=False) + "\n"
    )
    write_text(model / "README.md", model_card(facts, config, metrics))
    write_metrics(Path("results/evaluate/metrics.json"), metrics)
    print(
        f"evaluate: {phase}: MLM loss {numbers['mlm_loss']:.3f} (unigram "
        f"{baselines['mlm_loss_unigram']:.3f}), accuracy {numbers['mlm_accuracy']:.1%} (top "
        f"token {baselines['mlm_accuracy_top_token']:.1%})"
    )


if __name__ == "__main__":
    run_stage(main)
