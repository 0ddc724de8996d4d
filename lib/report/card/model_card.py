"""The model card: README.md of a Hugging Face directory (Mitchell et al., 2019, Model Cards).

All of it follows from what was measured and set; it holds no dates and no names of machines.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from lib.model.config import BertConfig
from lib.report.card.facts import CardFacts
from lib.report.card.markdown import bullets, in_words, table
from lib.report.card.sections import model_name, tokenizer, training, training_data

# 16 GB of English text (Liu et al., 2019, RoBERTa, section 3.2).
_BERT_CHARACTERS = 16e9
# Below so many hidden units a model is for trying things out.
_TRIAL_SIZE = 256
# Measure, its baseline, what the baseline is, how both are written.
_HELD_OUT = {
    "bits_per_character": (
        "bits a character of hidden words",
        "bits_per_character_unigram",
        "frequency of pieces",
        ".3f",
    ),
    "mlm_loss": ("MLM loss, nats a masked piece", "mlm_loss_unigram", "frequency of pieces", ".3f"),
    "mlm_perplexity": ("MLM perplexity", "mlm_perplexity_unigram", "frequency of pieces", ",.1f"),
    "mlm_accuracy": (
        "masked pieces found",
        "mlm_accuracy_top_token",
        "always the commonest piece",
        ".1%",
    ),
    "mlm_accuracy_at_5": (
        "masked pieces among the five likeliest",
        "mlm_accuracy_at_5_unigram",
        "always the five commonest",
        ".1%",
    ),
    "word_accuracy": (
        "hidden words found whole",
        "word_accuracy_unigram",
        "always the commonest piece",
        ".1%",
    ),
    "nsp_loss": ("next sentence loss, nats", "", "", ".3f"),
    "nsp_accuracy": (
        "next sentence answers that are right",
        "nsp_accuracy_majority",
        "always the commoner answer",
        ".1%",
    ),
}
_TOLD_ELSEWHERE = ("phase", "masked_tokens", "examples", "intervals", "documents", "words")
_INITIAL = "_initial"


def model_card(facts: CardFacts, config: BertConfig, metrics: Mapping[str, Any]) -> str:
    """Markdown with the front matter that the hub reads.

    Args:
        facts: see `lib.report.card.facts.gather`.
        config: of the model.
        metrics: of evaluate, baselines among them.
    """
    sections = [
        f"---\n{_front_matter(facts)}---",
        f"# {facts.phases[-1].name}",
        _what_it_is(facts, config),
        "## How to use it",
        _usage(),
        "## Training data",
        training_data(facts),
        "## Tokenizer",
        tokenizer(facts),
        "## Training",
        training(facts),
        "## Held-out numbers",
        _held_out(facts, metrics),
        "## Limits",
        _limits(facts, config),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: CardFacts) -> str:
    given = facts.params.evaluate
    values: dict[str, object] = {}
    if given.language:
        values["language"] = given.language
    if given.license:
        values["license"] = given.license
    values |= {"library_name": "transformers", "pipeline_tag": "fill-mask"}
    if facts.base and facts.base.revision:
        values["base_model"] = facts.base.name
    values["tags"] = ["bert", "domain-bert"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _what_it_is(facts: CardFacts, config: BertConfig) -> str:
    goals = "masked language model"
    if facts.params.records.next_sentence:
        goals += " and next sentence prediction"
    start = f"continued from {model_name(facts.base)}" if facts.base else "trained from scratch"
    sizes = [
        ("parameters", facts.parameters),
        ("layers", config.num_hidden_layers),
        ("hidden size", config.hidden_size),
        ("attention heads", config.num_attention_heads),
        ("intermediate size", config.intermediate_size),
        ("activation", config.hidden_act),
        ("positions", config.max_position_embeddings),
        ("segments", config.type_vocab_size),
        ("rows of the word embeddings", config.vocab_size),
        ("dropout of hidden states", f"{config.hidden_dropout_prob:g}"),
        ("dropout of attention", f"{config.attention_probs_dropout_prob:g}"),
    ]
    return (
        f"A BERT ({goals}), {start}, made by domain-bert: a pipeline that makes it again from the "
        f"same text and parameters.\n\n{table(('size', ''), sizes)}"
    )


def _usage() -> str:
    return """```python
from transformers import AutoModelForSequenceClassification, pipeline

fill = pipeline("fill-mask", model="PATH/OF/THIS/FOLDER")
print(fill(f"A sentence with a {fill.tokenizer.mask_token} in it."))

# To be fine-tuned; likewise AutoModelForTokenClassification and others.
model = AutoModelForSequenceClassification.from_pretrained("PATH/OF/THIS/FOLDER")
```"""


def _held_out(facts: CardFacts, metrics: Mapping[str, Any]) -> str:
    unseen = "that neither training nor the vocabulary has seen."
    if facts.made_elsewhere:
        unseen = "of the text above; the examples that it was trained on may hold them as well."
    elif facts.base:
        unseen = f"kept out of this training; what {facts.base.name} had seen is not known."
    intervals = metrics["intervals"]
    began = any(name.endswith(_INITIAL) for name in metrics)
    told = set(_TOLD_ELSEWHERE)
    rows = []
    for name, (words, baseline, what, form) in _HELD_OUT.items():
        if name not in metrics:
            continue
        told |= {name, baseline, name + _INITIAL}
        row = [words, format(metrics[name], form), ""]
        if name in intervals:
            row[-1] = " to ".join(format(bound, form) for bound in intervals[name])
        if began:
            row.append(format(metrics[name + _INITIAL], form) if name + _INITIAL in metrics else "")
        row += [format(metrics[baseline], form), what] if baseline in metrics else ["", ""]
        rows.append(row)
    heading = ["measure", "this model", "95 % interval", "baseline", "what the baseline is"]
    if began:
        heading.insert(3, "the model it started from")
    for name, value in metrics.items():
        if name not in told:
            written = f"{value:,.4g}" if isinstance(value, float) else value
            rows.append([in_words(name), written, *[""] * (len(heading) - 2)])
    return (
        f"Measured on {metrics['words']:,} words hidden in {metrics['documents']:,} test documents "
        f"{unseen} They are {metrics['masked_tokens']:,} pieces in {metrics['examples']:,} rows. "
        "The intervals say how much the numbers would differ had other documents been drawn.\n\n"
        + table(heading, rows)
    )


def _limits(facts: CardFacts, config: BertConfig) -> str:
    corpus, params = facts.corpus, facts.params
    text = f"one collection of {corpus['characters']:,} characters"
    if facts.base:
        trained = f"It went on from {model_name(facts.base)}, whose limits are its own, with {text}"
    elif facts.made_elsewhere:
        trained = f"The text behind `{facts.made_elsewhere}` is not known here"
    else:
        trained = f"It was trained on {text}"
        part = round(_BERT_CHARACTERS / corpus["characters"])
        if part > 1:
            trained += f", about 1/{part:,} of what the first BERT had"
    limits = [
        f"{trained}. On text of another kind it does worse, and nothing here says how much.",
        "The held-out numbers tell how well it guesses words of text from the same collection, "
        "not how well it does at a task: fine-tune it and measure that. Of models with different "
        "vocabularies only the bits a character compare, on the same text and with the same "
        "treatment of case and accents; all else is counted in pieces of its own vocabulary.",
    ]
    if not facts.made_elsewhere:
        twins = facts.split["overlap"]["test"]
        better = ", which makes the held-out numbers look better than they are"
        limits.append(
            f"{twins['near_duplicates']:,} of the {twins['documents']:,} test documents have a near "
            f"twin in training text{better if twins['near_duplicates'] else ''}."
        )
    if config.hidden_size < _TRIAL_SIZE:
        limits.append(f"Its size ({config.hidden_size} hidden units) is one for trying things out.")
    longest = max(phase.max_seq_length for phase in facts.phases)
    if longest < config.max_position_embeddings:
        limits.append(
            f"Its rows in training had at most {longest} tokens: "
            + (
                f"positions beyond are as {facts.base.name} had them."
                if facts.base
                else "positions beyond were never trained. Truncate what you give it to that."
            )
        )
    if not params.records.next_sentence:
        limits.append("Its next sentence head was not trained here.")
    if params.vocab.lowercase:
        limits.append("It cannot tell upper from lower case.")
    if params.vocab.strip_accents:
        limits.append("It cannot tell letters with accents from those without.")
    limits.append(
        "What is false, private or unfair in its text, it has learnt too; it was not examined for "
        "that. It is no source of facts, and nothing to decide about people with."
    )
    if not params.evaluate.license:
        limits.append("No licence is given: ask whoever made it before you use it.")
    return bullets(limits)
