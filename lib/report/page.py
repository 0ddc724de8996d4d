"""results/report.html: the whole run on one page that needs nothing else.

It holds timings and what has run so far, so it is no output of a stage: evaluate writes it when it
has run, `make report` at any time.
"""

from pathlib import Path
from xml.etree.ElementTree import Element

from lib.params import VOCAB, load_params
from lib.report.corpus import corpus
from lib.report.cost import cost, time_in_all
from lib.report.fill_mask import fill_mask
from lib.report.held_out import flat, held_out, tiles
from lib.report.markup import document, element, facts, figures, section
from lib.report.results import Results
from lib.report.training import examples, training
from lib.report.vocabulary import vocabulary
from lib.run.atomic import write_text

REPORT = Path("results/report.html")
_TOLD = (
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


def write_page() -> None:
    """Writes the page from results/ and params.yaml.

    Raises:
        UserError: params.yaml or a file of results cannot be read.
    """
    params_file = Path("params.yaml")
    results = Results(Path("results"), load_params(params_file))
    write_text(REPORT, page(results, params_file.read_text(encoding="utf-8")))
    print(f"report: {REPORT}")


def page(results: Results, params_text: str) -> str:
    """The page as HTML; the same for the same results.

    Args:
        params_text: params.yaml as it is written.

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
        element("p", _in_a_sentence(results), class_="lede"),
        tiles(results),
    )
    footer = element("footer", element("p", "Written from results/ by make report."))
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    body = [header, element("nav", element("div", links)), element("main", sections), footer]
    return document(f"domain-bert: {phase}", style, body)


def _in_a_sentence(results: Results) -> str:
    params = results.params
    phase = params.evaluate.phase
    trained, text = results.metrics(f"pretrain/{phase}"), results.metrics("preprocess")
    parts = []
    if trained:
        start = params.phases[phase].init
        origin = "from scratch" if start == VOCAB else f"from {start}"
        parts.append(
            f"A BERT of {trained['parameters']:,} parameters, trained {origin} for "
            f"{trained['steps']:,} steps ({trained['epochs']:.2f} epochs)."
        )
    if text:
        parts.append(
            f"Its text: {params.preprocess.input}, {text['documents']:,} documents with "
            f"{text['characters']:,} characters."
        )
    took = time_in_all(results)
    if took:
        parts.append(f"All stages took {took} on this machine.")
    return " ".join(parts) or "No stage has run yet: dvc repro"


def _more(results: Results) -> list[Element]:
    """What other folders of results hold: their metrics, images and tables."""
    made = []
    for folder in sorted(path for path in results.folder.glob("*") if path.is_dir()):
        if folder.name in _TOLD:
            continue
        numbers: list[Element] = []
        for path in results.files(folder.name, "metrics.json"):
            name = path.parent.relative_to(results.folder).as_posix()
            numbers += [element("h3", name), facts(flat(results.metrics(name) or {}))]
        images = figures(*results.images(folder.name))
        tables = results.tables(folder.name)
        if numbers or images is not None or tables:
            title = folder.name.replace("_", " ").capitalize()
            made.append(section(f"more-{folder.name}", title, numbers, images, tables))
    return made


def _params(text: str) -> Element:
    """params.yaml as it stands, its comments set back."""
    lines = []
    for line in text.split("\n"):
        code, mark, comment = line.partition("#")
        lines += [code, element("i", mark + comment) if mark else "", "\n"]
    return section("params", "Params", element("pre", lines, tabindex="0"))
