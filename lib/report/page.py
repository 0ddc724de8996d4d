"""results/report.html: the whole run on one page without any other file.

It shows timings and the stages that have run so far, so it is not an output of a stage: evaluate
writes it at its end, and `make report` at any time. The markup is in templates/, with one template
per section.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lib.evaluation.metrics import INITIAL, results_in
from lib.params import VOCAB, load_params
from lib.report.charts.svg import COLOURS
from lib.report.corpus import corpus
from lib.report.cost import STAGES, cost, costs, short_time
from lib.report.outdated import outdated_stages
from lib.report.repeats import repeats_of
from lib.report.results import METRICS, Results
from lib.report.templating import environment
from lib.report.training import examples, training
from lib.report.vocabulary import vocabulary
from lib.report.wording import flat, number, words
from lib.run.atomic import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = Path("results/report.html")
# Folders of results that have a section; all others are shown as they are.
_KNOWN = (*STAGES, "cost", "tensorboard")
# Charts of evaluate that other sections draw for every phase.
_OTHER_SECTIONS = ("training_*", "learning_rate*", "records_*", "token_frequency*")
# Characters that HTML cannot represent: controls, halves of surrogate pairs, noncharacters.
_INVALID = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd"
    + "".join(f"{chr(0x10000 * plane)}-{chr(0x10000 * plane + 0xFFFD)}" for plane in range(1, 17))
    + "]"
)


def write_page(just_finished: str = "") -> None:
    """Writes the page from results/ and params.yaml.

    Args:
        just_finished: the stage that calls this at its end: its results are current, although
            DVC has not recorded them yet.

    Raises:
        UserError: params.yaml or a file of results cannot be read.
    """
    params_file = Path("params.yaml")
    params = load_params(params_file)
    outdated = outdated_stages(Path())
    outdated.pop(just_finished, None)
    results = Results(Path("results"), params, outdated)
    write_text(REPORT, page(results, params_file.read_text(encoding="utf-8")))
    print(f"report: {REPORT}")


def page(results: Results, params_text: str) -> str:
    """The page as HTML; the same for the same results.

    Args:
        params_text: the content of params.yaml.

    Raises:
        UserError: a file of results cannot be read.
    """
    measured = _held_out(results)
    sections = [
        ("metrics", "Held-out metrics", measured),
        ("fill-mask", "Fill-mask examples", {"examples": results.fill_mask()}),
        ("training", "Training", training(results)),
        ("text", "Text", corpus(results)),
        ("vocabulary", "Vocabulary", vocabulary(results)),
        ("examples", "Examples", examples(results)),
        *_more(results),
        ("cost", "Cost", cost(results)),
        ("params", "Parameters", {"params_text": params_text}),
    ]
    shown = []
    for name, title, values in sections:
        template = templates().get_template(values.get("template", f"{name}.html"))
        shown.append((name, title, Markup(template.render(results=results, **values))))
    phase, abstract = results.params.evaluate.phase, _abstract(results)
    whole = templates().get_template("page.html")
    return valid(whole.render(phase=phase, abstract=abstract, sections=shown, **measured))


def valid(text: str) -> str:
    """Text in which U+FFFD stands for each character that HTML cannot represent."""
    return _INVALID.sub("\ufffd", text)


@cache
def templates() -> "Environment":
    """The templates, which escape everything but the output of macros and of `| safe`."""
    folder = Path(__file__).with_name("templates")
    found = environment(folder, autoescape=True, words=words, number=number, time=short_time)
    found.globals |= {"colours": COLOURS, "initial": INITIAL}
    return found


def _held_out(results: Results) -> dict[str, Any]:
    """Metrics with intervals and baselines, charts and tables of evaluate, and its counts."""
    metrics = results.metrics("evaluate")
    found, rest = results_in(metrics or {})
    for shown_elsewhere in ("phase", "inputs"):
        rest.pop(shown_elsewhere, None)
    return {
        "metrics": metrics,
        "found": found,
        "with_initial": any(INITIAL in result.baselines for result in found),
        "repeats": repeats_of(results.folder, metrics) if metrics else None,
        "images": results.images("evaluate", skip=_OTHER_SECTIONS),
        "tables": results.tables("evaluate"),
        "others": list(flat(rest)),
    }


def _abstract(results: Results) -> str:
    """The run in two or three sentences."""
    params = results.params
    phase = params.evaluate.phase
    trained, text = results.metrics(f"pretrain/{phase}"), results.metrics("preprocess")
    parts = []
    if trained:
        init = params.phases[phase].init
        origin = "from scratch" if init == VOCAB else f"from {init}"
        parts.append(
            f"A model with {trained['parameters']:,} parameters, trained {origin} for "
            f"{trained['steps']:,} steps ({trained['epochs']:.2f} epochs)."
        )
    if text:
        parts.append(
            f"Its text: {params.preprocess.input}, {text['documents']:,} documents with "
            f"{text['characters']:,} characters."
        )
    stages = costs(results).values()
    if stages and not results.outdated:
        took = short_time(sum(each["wall_seconds"] for each in stages))
        parts.append(f"All stages took {took} on this machine.")
    return " ".join(parts) or "No stage has run for this params.yaml yet; run dvc repro"


def _more(results: Results) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A section for each other folder of results: its metrics, images and tables."""
    for folder in sorted(path for path in results.folder.glob("*") if path.is_dir()):
        if folder.name in _KNOWN:
            continue
        names = [
            path.parent.relative_to(results.folder).as_posix()
            for path in sorted(folder.rglob(METRICS))
        ]
        metrics = {name: results.metrics(name) for name in names}
        images, tables = results.images(folder.name), results.tables(folder.name)
        if metrics or images or tables:
            yield (
                f"more-{folder.name}",
                words(folder.name).capitalize(),
                {
                    "template": "more.html",
                    "metrics": {
                        name: values and list(flat(values)) for name, values in metrics.items()
                    },
                    "images": images,
                    "tables": tables,
                },
            )
