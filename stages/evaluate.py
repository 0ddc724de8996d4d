"""evaluate: models/<phase> and test text -> results/evaluate, the model card and the report."""

import json
from functools import partial
from pathlib import Path

from lib.evaluation.metrics import headlines
from lib.evaluation.phase import evaluate_phase
from lib.params import load_params
from lib.report.card.facts import gather
from lib.report.card.model_card import model_card
from lib.report.charts.run_charts import draw_run
from lib.report.page import write_page
from lib.run.atomic import write_text
from lib.run.json_files import read_object
from lib.run.metrics import write_metrics
from lib.run.names import write_name
from lib.run.paths import MODELS, SAVED_MODELS, SHARDS, VOCAB
from lib.run.stage import run_stage

_RESULTS, _TARGET = Path("results"), Path("results/evaluate")


def main(
    phase: str = "",
    model: Path | None = None,
    test: Path = SHARDS / "test",
    vocab: Path = VOCAB,
) -> None:
    """Evaluates a finished model on test text, and writes its model card.

    PHASE is its name in params.yaml, MODEL its folder, TEST the folder of test shards, VOCAB the
    vocabulary (with the token counts of training text, for the unigram baseline). The models that
    training saved are in models/saved/PHASE.
    """
    params = load_params()
    phase = phase or params.evaluate.phase
    params.check_phase(phase)
    model = model or MODELS / phase
    facts = gather(params, phase, _RESULTS)
    training = read_object(_RESULTS / f"pretrain/{phase}/metrics.json")
    saved = SAVED_MODELS / phase
    tokens_per_word = _RESULTS / "vocab/tokens_per_word.csv"
    evaluation = evaluate_phase(params, phase, model, saved, test, vocab, tokens_per_word, training)

    for name, table in evaluation.tables.items():
        write_text(_TARGET / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    # As many digits as the metrics that are computed from them need.
    documents = evaluation.documents.to_csv(index=False, float_format="%.9g")
    write_text(_TARGET / "documents.csv", documents)
    draw_run(_RESULTS, phase, evaluation.tables)
    examples = json.dumps(evaluation.fill_mask, indent=2, ensure_ascii=False)
    write_text(_TARGET / "fill_mask.json", examples + "\n")
    metrics = {"phase": phase, **evaluation.metrics}
    write_text(model / "README.md", model_card(facts, evaluation.config, metrics))
    write_metrics(_TARGET / "metrics.json", metrics)
    write_name("evaluate", phase)
    print(f"evaluate: {phase}: {', '.join(map(str, headlines(metrics)))}")


if __name__ == "__main__":
    # The report comes last, because it also shows what evaluate took.
    run_stage(main, afterwards=partial(write_page, just_finished="evaluate"))
