"""The model card: README.md of a Hugging Face directory (Mitchell et al., 2019, Model Cards).

Everything in it follows from parameters and measurements; it has no dates and no machine names.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from lib.evaluation.metrics import INITIAL, results_in
from lib.model.bert_config import POSITIONS
from lib.model.encoder_config import EncoderConfig
from lib.records.statistics import constant_pairs
from lib.report.card.facts import CardFacts
from lib.report.card.markdown import bullets, in_words, table
from lib.report.card.sections import model_name, tokenizer, training, training_data
from lib.report.repeats import Repeats

# 16 GB of English text (Liu et al., 2019, RoBERTa, section 3.2).
_BERT_CHARACTERS = 16e9
# Hidden size below which a model is a trial.
_TRIAL_SIZE = 256
# Fraction of the characters under [UNK] above which metrics are about a part of the text only.
_MANY_UNKNOWN = 0.01
# Values of evaluate that are in the text above the table.
# evaluate has it if the NSP head was trained (for external examples, params.yaml does not say so).
_NSP = "nsp_loss"
_IN_TEXT = ("phase", "masked_tokens", "examples", "documents", "words")


def model_card(
    facts: CardFacts,
    config: EncoderConfig,
    metrics: Mapping[str, Any],
    repeats: Repeats | None = None,
) -> str:
    """The model card as Markdown, with the front matter that the Hugging Face hub reads.

    Args:
        facts: see `lib.report.card.facts.gather`.
        config: of the model.
        metrics: of evaluate, with the baselines.
        repeats: runs with other training seeds, of which this model is one.
    """
    sections = [
        f"---\n{_front_matter(facts, config)}---",
        f"# {facts.phases[-1].name}",
        _description(facts, config, metrics),
        "## How to use it",
        _usage(),
        "## Training data",
        training_data(facts),
        "## Tokenizer",
        tokenizer(facts),
        "## Training",
        training(facts),
        "## Evaluation",
        _held_out(facts, metrics),
        *([_repeated(repeats)] if repeats else []),
        "## Limits",
        _limits(facts, config, metrics),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: CardFacts, config: EncoderConfig) -> str:
    given = facts.params.evaluate
    values: dict[str, object] = {}
    if given.language:
        values["language"] = given.language
    if given.license:
        values["license"] = given.license
    values |= {"library_name": "transformers", "pipeline_tag": "fill-mask"}
    if facts.base and facts.base.revision:
        values["base_model"] = facts.base.name
    values["tags"] = [config.architecture, "domain-bert"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _description(facts: CardFacts, config: EncoderConfig, metrics: Mapping[str, Any]) -> str:
    goals = "masked language model"
    if _NSP in metrics:
        goals += " and next sentence prediction"
    origin = f"continued from {model_name(facts.base)}" if facts.base else "trained from scratch"
    sizes = [
        ("parameters", facts.parameters),
        ("layers", config.num_hidden_layers),
        ("hidden size", config.hidden_size),
        ("attention heads", config.num_attention_heads),
        ("intermediate size", config.intermediate_size),
        *config.description(),
    ]
    return (
        f"A {config.title} ({goals}), {origin} with domain-bert, a pipeline that reproduces it "
        f"from the same text and parameters.\n\n{table(('size', ''), sizes)}"
    )


def _usage() -> str:
    return """```python
from transformers import AutoModelForSequenceClassification, pipeline

fill = pipeline("fill-mask", model="PATH/TO/THIS/FOLDER")
print(fill(f"A sentence with a {fill.tokenizer.mask_token} in it."))

# For fine-tuning; also AutoModelForTokenClassification and others.
model = AutoModelForSequenceClassification.from_pretrained("PATH/TO/THIS/FOLDER")
```"""


def _held_out(facts: CardFacts, metrics: Mapping[str, Any]) -> str:
    unseen = "that were not used in training or for the vocabulary."
    if facts.external_examples:
        unseen = "of the text above; the examples that it was trained on may contain them as well."
    elif facts.base:
        unseen = f"kept out of this training; what {facts.base.name} had seen is not known."
    found, rest = results_in(metrics)
    with_initial = any(INITIAL in result.baselines for result in found)
    heading = ["metric", "this model", "95 % interval", "baseline", "what the baseline is"]
    if with_initial:
        heading.insert(3, INITIAL.label)
    rows = []
    for result in found:
        row = [result.metric.label, result.written(result.value), result.written_interval()]
        if with_initial:
            initial = result.baselines.get(INITIAL)
            row.append("" if initial is None else result.written(initial))
        if result.without_model:
            baseline, value = result.without_model
            row += [result.written(value), baseline.label]
        else:
            row += ["", ""]
        rows.append(row)
    others = [
        (in_words(name), f"{value:,.4g}" if isinstance(value, float) else value)
        for name, value in rest.items()
        if name not in _IN_TEXT
    ]
    return (
        f"Measured on {metrics['words']:,} masked words ({metrics['masked_tokens']:,} tokens) of "
        f"{metrics['documents']:,} test documents {unseen} They fill {metrics['examples']:,} "
        "sequences. The intervals show how much the values depend on the choice of test "
        f"documents.\n\n{table(heading, rows)}\n\n{table(('other value', ''), others)}"
    )


def _repeated(repeats: Repeats) -> str:
    rows = [
        (metric.label, repeats.written(metric), ", ".join(format(v, metric.format) for v in values))
        for metric, values in repeats.of_metrics()
        if metric.headline
    ]
    return (
        f"How much the metrics depend on the training seed: {repeats.described()}, all else equal; "
        "this model is one of them.\n\n"
        f"{table(('metric', 'mean ± standard deviation', 'runs'), rows)}"
    )


def _beyond(facts: CardFacts, config: EncoderConfig) -> str:
    """What is known of inputs that are longer than the training sequences."""
    truncate = "Truncate its input to that length."
    if not any(parameter.name == POSITIONS for parameter in config.parameter_table()):
        if facts.base:
            return f"what {facts.base.name} had learnt of longer ones was not measured here."
        return (
            "it takes longer ones, as its positions are rotations, but was not measured on them. "
            f"{truncate}"
        )
    if facts.base:
        return f"position embeddings beyond that come from {facts.base.name}."
    return f"later positions were never trained. {truncate}"


def _limits(facts: CardFacts, config: EncoderConfig, metrics: Mapping[str, Any]) -> str:
    corpus, params = facts.corpus, facts.params
    text = f"one collection of {corpus['characters']:,} characters"
    if facts.base:
        trained = (
            f"It was trained further from {model_name(facts.base)}, whose limits it shares, on "
            f"{text}"
        )
    elif facts.external_examples:
        trained = f"The text behind `{facts.external_examples}` is not known here"
    else:
        trained = f"It was trained on {text}"
        part = round(_BERT_CHARACTERS / corpus["characters"])
        if part > 1:
            trained += f", about 1/{part:,} of the text of the original BERT"
    limits = [
        f"{trained}. Expect worse results on text of another kind; they were not measured.",
        "The evaluation shows how well it predicts words of text from the same collection, not how "
        "well it does on a task: fine-tune it and measure that. To compare it with a model of "
        "another vocabulary, use code length per character, on the same text and with the same "
        "treatment of case and accents: MLM loss, perplexity and accuracy depend on the "
        "vocabulary.",
    ]
    if not facts.external_examples:
        overlap = facts.split["overlap"]["test"]
        better = ", which makes the metrics look better than they are"
        limits.append(
            f"{overlap['near_duplicates']:,} of the {overlap['documents']:,} test documents have a "
            f"near duplicate in the training text{better if overlap['near_duplicates'] else ''}."
        )
    if config.hidden_size < _TRIAL_SIZE:
        limits.append(f"It is a trial model: its hidden size is {config.hidden_size}.")
    longest = max(phase.max_seq_length for phase in facts.phases)
    if longest < config.max_position_embeddings:
        limits.append(
            f"Its training sequences had at most {longest} tokens: {_beyond(facts, config)}"
        )
    if config.has_next_sentence and _NSP not in metrics:
        limits.append("Its NSP head was not trained here.")
    if _NSP in metrics and (found := constant_pairs(facts.phases[-1].random_next)):
        limits.append(f"{found}.")
    unknown = metrics.get("unknown_character_fraction", 0)
    if unknown > _MANY_UNKNOWN:
        limits.append(
            f"{unknown:.1%} of the characters of the test text are in words that it sees as [UNK]: "
            "it learnt nothing of such words, and its metrics are about the others."
        )
    if params.vocab.lowercase:
        limits.append("It does not distinguish upper and lower case.")
    if params.vocab.strip_accents:
        limits.append("It does not distinguish letters with and without accents.")
    limits.append(
        "It may reproduce false, private or unfair statements from its training text; it was not "
        "examined for them. Do not use it as a source of facts or to make decisions about people."
    )
    if not params.evaluate.license:
        limits.append("No licence is given: ask the author before you use it.")
    return bullets(limits)
