"""results/report.html: the whole run on one page without any other file.

It shows timings and the stages that have run so far, so it is not an output of a stage: evaluate
writes it at its end, and `make report` at any time.
"""

from pathlib import Path
from xml.etree.ElementTree import Element

from lib.params import VOCAB, load_params
from lib.report.corpus import corpus
from lib.report.cost import cost, total_time
from lib.report.fill_mask import fill_mask
from lib.report.held_out import flat, held_out, tiles
from lib.report.markup import document, element, facts, figures, section
from lib.report.outdated import outdated_stages
from lib.report.results import METRICS, Results
from lib.report.training import examples, training
from lib.report.vocabulary import vocabulary
from lib.run.atomic import write_text

REPORT = Path("results/report.html")
# Folders of results that have a section; all others are shown as they are.
_KNOWN = (
    "preprocess",
    "sample5M",
    "vocab",
    "split",
    "records",
    "pretrain",
    "evaluate",
    "cost",
    "tensorboard",
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
    sections = [
        held_out(results),
        fill_mask(results),
        training(results),
        corpus(results),
        vocabulary(results),
        examples(results),
        *_more(results),
        cost(results),
        _params(params_text),
    ]
    links = [
        element("a", each.findtext("h2") or "", href=f"#{each.get('id')}") for each in sections
    ]
    phase = results.params.evaluate.phase
    header = element(
        "header",
        element("p", "domain-bert: one run, from raw text to", class_="kicker"),
        element("h1", element("bdi", f"models/{phase}")),
        element("p", _abstract(results), class_="lede"),
        tiles(results),
    )
    footer = element("footer", element("p", "Made from results/; make report updates it."))
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    body = [header, element("nav", element("div", links)), element("main", sections), footer]
    return document(f"domain-bert: {phase}", style, body)


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
    took = total_time(results)
    if took and not results.outdated:
        parts.append(f"All stages took {took} on this machine.")
    return " ".join(parts) or "No stage has run for this params.yaml yet; run dvc repro"


def _more(results: Results) -> list[Element]:
    """A section for each other folder of results: its metrics, images and tables."""
    sections = []
    for folder in sorted(path for path in results.folder.glob("*") if path.is_dir()):
        if folder.name in _KNOWN:
            continue
        numbers: list[Element] = []
        for path in sorted(folder.rglob(METRICS)):
            name = path.parent.relative_to(results.folder).as_posix()
            metrics = results.metrics(name)
            numbers.append(element("h3", name))
            numbers.append(results.absence(name) if metrics is None else facts(flat(metrics)))
        images = figures(*results.images(folder.name))
        tables = results.tables(folder.name)
        if numbers or images is not None or tables:
            title = folder.name.replace("_", " ").capitalize()
            sections.append(section(f"more-{folder.name}", title, numbers, images, tables))
    return sections


def _params(text: str) -> Element:
    """The content of params.yaml, with its comments in grey."""
    lines = []
    for line in text.split("\n"):
        code, mark, comment = line.partition("#")
        lines += [code, element("i", mark + comment) if mark else "", "\n"]
    return section("params", "Parameters", element("pre", lines, tabindex="0"))
