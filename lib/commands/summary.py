"""The summary of a finished run on one screen: `python -m lib.commands.summary`."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lib.evaluation.metrics import INITIAL, headlines
from lib.params import load_params
from lib.report.outdated import outdated_stages
from lib.report.results import METRICS, Results
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.run.paths import MODELS, RESULTS

# A run with fewer optimizer steps is a trial: it may well not beat its baselines.
_TRIAL_STEPS = 1000

Describe = Callable[[Results, Mapping[str, Any]], Iterator[str]]


def summary(root: Path = Path()) -> str:
    """Data, vocabulary, examples, held-out metrics with baselines, fill-mask examples, next steps.

    Stages that have not run and stages that are outdated are marked.

    Raises:
        UserError: no stage has run yet.
    """
    params = load_params(root / "params.yaml")
    results = Results(root / RESULTS, params, outdated_stages(root))
    first = results.folder / "preprocess" / METRICS
    if not first.exists():
        raise UserError(f"{first}: no such file; run the pipeline first: dvc repro")
    phase = params.evaluate.phase
    model = root / MODELS / phase
    metrics = results.metrics("evaluate")
    is_current = results.metrics(f"pretrain/{phase}") is not None
    lines = [
        "",
        *_stage(results, "preprocess", "Read", _read),
        *_stage(results, "split", "Held out", _held_out),
        *_stage(results, "vocab", "Vocabulary", _vocabulary),
        *_stage(results, f"records/{phase}", "Examples", _examples),
        *_stage(results, f"pretrain/{phase}", "Trained", _trained),
        *_stage(results, "evaluate", "Evaluated", _evaluated),
        *(_metrics(results, metrics) if metrics else ()),
        *_fill_mask(results),
        "",
        *([f"The model is in {model.resolve()}; transformers can load it."] if is_current else []),
        "To try next:",
        "",
        "  dvc exp run -S records.dupe_factor=2          one change: only what it affects runs",
        "  make experiments                              compare the runs",
        "  dvc add data/raw && dvc exp run -S preprocess.input=data/raw    your own text",
        "",
    ]
    return "\n".join(lines)


def _stage(results: Results, stage: str, title: str, describe: Describe) -> Iterator[str]:
    """The lines of a stage, the first one after its title."""
    metrics = results.metrics(stage)
    if metrics is None:
        why = results.why_outdated(results.folder / stage / METRICS)
        lines = iter([f"{why or 'has not run yet'}; run dvc repro"])
    else:
        lines = describe(results, metrics)
    for number, line in enumerate(lines):
        yield f"{'' if number else title:<13}{line}".rstrip()


def _read(results: Results, text: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{results.params.preprocess.input}: {text['files']:,} files, {text['documents']:,} "
        f"documents, {text['sentences']:,} sentences, {text['characters']:,} characters"
    )
    yield f"({text['documents_duplicate']:,} exact duplicates dropped)"


def _held_out(results: Results, split: Mapping[str, Any]) -> Iterator[str]:
    yield (f"{split['dev']['documents']:,} dev and {split['test']['documents']:,} test documents")


def _vocabulary(results: Results, vocabulary: Mapping[str, Any]) -> Iterator[str]:
    fit = vocabulary["heldout"]
    unknown = fit.get("unknown_character_fraction")  # Earlier versions did not measure it.
    yield (
        f"{vocabulary['size']:,} entries; in held-out text {fit['tokens_per_word']:.2f} tokens per "
        "word" + ("" if unknown is None else f", {unknown:.2%} of characters under [UNK]")
    )


def _examples(results: Results, records: Mapping[str, Any]) -> Iterator[str]:
    train = records["train"]
    length = results.params.phases[results.params.evaluate.phase].max_seq_length
    yield f"{train['examples']:,}; sequences of {length} tokens, {train['fill']:.0%} full"


def _trained(results: Results, training: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{training['parameters']:,} parameters, {training['steps']:,} steps, "
        f"{training['epochs']:.1f} epochs"
    )


def _evaluated(results: Results, metrics: Mapping[str, Any]) -> Iterator[str]:
    yield f"on {metrics['words']:,} masked words of {metrics['documents']:,} test documents"


def _metrics(results: Results, metrics: Mapping[str, Any]) -> Iterator[str]:
    """The table of the headline metrics, and a sentence if the model does not beat a baseline."""
    found = list(headlines(metrics))
    with_initial = any(INITIAL in result.baselines for result in found)
    width = len(INITIAL.label) + 3 if with_initial else 0
    yield ""
    heading = f"{INITIAL.label if with_initial else '':>{width}}"
    yield f"  {'':<22}{'model':>10}{heading}{'baseline':>10}"
    all_better = True
    for result in found:
        line = f"  {result.metric.label:<22}{result.written(result.value):>10}"
        initial = result.baselines.get(INITIAL)
        line += f"{'' if initial is None else result.written(initial):>{width}}"
        if result.without_model:
            baseline, value = result.without_model
            line += f"{result.written(value):>10}  {baseline.label}"
        if not all(map(result.beats, result.baselines)):
            line, all_better = f"{line} (not beaten)", False
        yield line
    if not all_better:
        yield ""
        yield f"  {_advice(results)}"


def _advice(results: Results) -> str:
    training = results.metrics(f"pretrain/{results.params.evaluate.phase}") or {}
    steps = training.get("steps", 0)
    text = "The model does not beat every baseline. "
    if steps < _TRIAL_STEPS:
        return text + (
            f"This is expected after {steps:,} steps, as in the smoke run, which only shows that "
            "all stages work."
        )
    return text + "Train for more steps, on more text, or with another learning rate."


def _fill_mask(results: Results) -> Iterator[str]:
    for example in results.fill_mask() or ():
        guesses = ", ".join(
            f"{guess} {probability:.0%}"
            for guess, probability in zip(example["guesses"], example["probabilities"], strict=True)
        )
        yield ""
        yield f"  {example['sentence']}"
        yield f"    masked: {example['word']}   predicted: {guesses}"


if __name__ == "__main__":
    new_parser("lib.commands.summary", __doc__).parse_args()
    with one_line_errors("summary"):
        print(summary())
