"""The model card: README.md of a Hugging Face directory (Mitchell et al., 2019, Model Cards).

Everything in it follows from parameters and measurements; it has no dates and no machine names. Its
text is in a template, which counts as code of evaluate (lib/run/code_digest.py).
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lib.evaluation.metrics import INITIAL, METRICS, UNIGRAM, results_in
from lib.model.bert_config import POSITIONS
from lib.model.encoder_config import EncoderConfig
from lib.records.statistics import constant_pairs
from lib.report.card.facts import CardFacts
from lib.report.repeats import Repeats
from lib.report.templating import environment
from lib.report.wording import words
from lib.run.phases import overridden

if TYPE_CHECKING:
    from jinja2 import Template

# evaluate has it if the NSP head was trained (for external examples, params.yaml does not say so).
_NSP = "nsp_loss"
# Values of evaluate that are in the text above the table.
_IN_TEXT = ("phase", "masked_tokens", "examples", "documents", "words", "inputs")
_COMPARED = METRICS["bits_per_character"]


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
    found, others = results_in(metrics)
    return _template().render(
        facts=facts,
        params=facts.params,
        records=facts.params.records,
        phase=facts.phases[-1],
        training=facts.phases[-1].settings,
        corpus=facts.corpus,
        split=facts.split,
        vocabulary=facts.vocabulary,
        config=config,
        metrics=metrics,
        repeats=repeats,
        front_matter=_front_matter(facts, config),
        cleaning=list(_cleaning(facts)),
        masked_fraction=_masked_fraction(facts),
        found=found,
        others={name: value for name, value in others.items() if name not in _IN_TEXT},
        inputs=_inputs(metrics.get("inputs", {})),
        repeated=_repeated(repeats) if repeats else [],
        initial=INITIAL,
        with_initial=any(INITIAL in result.baselines for result in found),
        has_nsp=_NSP in metrics,
        has_positions=any(each.name == POSITIONS for each in config.parameter_table()),
        constant_pairs=constant_pairs(facts.phases[-1].random_next),
    )


@cache
def _template() -> "Template":
    found = environment(
        Path(__file__).parent,
        autoescape=False,  # It is Markdown, which has no need of HTML's escapes.
        cell=_cell,
        fit=_fit,
        g="{:g}".format,
        thousands="{:,}".format,
        words=words,
    )
    return found.get_template("model_card.md.jinja")


def _cell(value: object) -> str:
    """A cell of a table, with numbers for people, that neither | nor a line end cuts off."""
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _inputs(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The cells of each input's line, by its name; see `lib.evaluation.by_input`."""

    def written(value: float | None) -> str:
        return "" if value is None else format(value, _COMPARED.format)

    def interval(ends: list[float] | None) -> str:
        return " to ".join(map(written, ends or ()))

    lines = {}
    for name, own in metrics.items():
        ends = own.get("intervals", {}).get(_COMPARED.name)
        line = [_cell(name), written(own[_COMPARED.name]), interval(ends)]
        if (before := own.get(_COMPARED.key(INITIAL))) is not None:
            change = own.get("change", {})
            since = written(change.get(_COMPARED.name))
            line += [written(before), since, interval(change.get("interval"))]
        lines[name] = [*line, written(own[_COMPARED.key(UNIGRAM)])]
    return lines


def _fit(value: float | None, name: str) -> str:
    if value is None:
        return "no text"
    return f"{value:.3%}" if name.endswith("fraction") else f"{value:.3f}"


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


def _cleaning(facts: CardFacts) -> Iterator[str]:
    """The cleaning options that are on."""
    values = facts.params.preprocess.clean.model_dump()
    for key, value in values.items():
        if value in ("keep", False) or key.endswith("placeholder") or key == "merge_placeholders":
            continue
        placeholder = values.get(f"{key.removesuffix('s')}_placeholder")
        by = f" by `{placeholder}`" if value == "replace" else ""
        yield words(key) + ("" if value is True else f": {value}{by}")


def _masked_fraction(facts: CardFacts) -> str:
    """Of the training records: one number, or if phases differ, one per phase."""
    section, phases = facts.params.records, facts.params.phases
    rates = {
        phase.name: overridden(section, phases[phase.name]).masked_lm_prob for phase in facts.phases
    }
    if len(set(rates.values())) == 1:
        return f"{next(iter(rates.values())):g}"
    return ", ".join(f"{rate:g} (phase {name})" for name, rate in rates.items())


def _repeated(repeats: Repeats) -> list[tuple[str, str, str]]:
    """Each headline metric over the repeated runs: its name, mean and deviation, and values."""
    return [
        (metric.label, repeats.written(metric), ", ".join(format(v, metric.format) for v in values))
        for metric, values in repeats.of_metrics()
        if metric.headline
    ]
