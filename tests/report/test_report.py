"""The report: one page of well-formed HTML with everything in it and all text unchanged."""

import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.params import parse_params
from lib.report.markup import element
from lib.report.outdated import OUTDATED
from lib.report.page import page
from lib.report.results import Results
from lib.text.cleaning.inspection import Inspection
from lib.vocab.report import measure_fit, write_report
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer
from lib.vocab.words import WordCounts

ROOT = Path(__file__).parents[2]
# For the browser, too: see test_report_browser.py.
LANGUAGES = {
    "English": "The pilot & her sister <never> met.",
    "Turkish": "İstanbul’da ışıklar söndü, çığ düştü.",
    "Arabic": "ذهب الولد إلى المدرسة صباحًا.",
    "Hindi": "लड़का स्कूल जाता है।",
    "Russian": "Мальчик идёт в школу.",
    "Chinese": "男孩早上去上学。",
    "Japanese": "少年は朝、学校に行きます。",
}
NASTY = [
    "<script>alert('1')</script>",
    "</style></body><!-- &amp; &#60; ]]>",
    "👩‍👩‍👧 🇹🇷 ☎️",
    "עברית then English, then עברית",
    '" onload="x',
    "a\u2028b\x85c",
]
TEXTS = [*LANGUAGES.values(), *NASTY]
STAGES = ["preprocess", "split", "vocab", "records", "pretrain", "evaluate"]
VOID = {"meta", "br", "hr", "img", "link", "input"}
SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" width="200pt" height="100pt" viewBox="0 0 200 100">
<title>Loss by <frequency></title>
<style>p, table {display: none}</style><script>alert(1)</script>
<rect id="numbers" width="200" height="100" fill="#fff"/><circle cx="50" cy="50" r="30"/></svg>
""".replace("<frequency>", "&lt;frequency&gt;")


class Page(HTMLParser):
    """A page as its parser sees it; one with an element left open, or closed twice, is refused."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict]] = []
        self.tags: list[tuple[str, dict]] = []
        # (text, elements around it)
        self.texts: list[tuple[str, list[tuple[str, dict]]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((data, list(self.open)))

    @property
    def text(self) -> str:
        return "".join(data for data, around in self.texts if around and around[-1][0] != "style")

    def rows(self) -> Iterator[list[str]]:
        """The cells of all tables' rows, as text."""
        cells: dict[int, dict[int, str]] = {}
        for data, around in self.texts:
            tags = [tag for tag, _ in around]
            if "tr" in tags:
                row = id(around[tags.index("tr")][1])
                cell = id(around[tags.index("tr") + 1][1])
                of_row = cells.setdefault(row, {})
                of_row[cell] = of_row.get(cell, "") + data
        return (list(of_row.values()) for of_row in cells.values())


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(text.encode())


def write_everything(folder: Path) -> None:
    """Results of a run on text that is hard to show."""
    write(
        folder / "preprocess/metrics.json",
        {
            "files": 3,
            "input_md5": "0123.dir",
            "characters": 100000,
            "characters_in": 123456,
            "documents": 940,
            "documents_in": 1000,
            "documents_duplicate": 57,
            "documents_empty": 3,
            "sentences": 4000,
            "formats": {"text": 2, "csv (gzip)": 1},
            "edits": {"urls": 12},
            "rejected": {"malformed_json": 5},
        },
    )
    inspection = Inspection()
    inspection.samples = [
        (f"{number:02}", f"data/raw/{number}.txt", f"before {text}", f"after {text}\n{text}")
        for number, text in enumerate(TEXTS)
    ]
    for text in TEXTS:
        inspection.add_rejection(Path("data/raw/<b>.txt"), "malformed_json", text)
    write(folder / "preprocess/samples.txt", inspection.page())
    part = {"documents": 300, "sentences": 1000, "bytes": 40000, "shards": 1}
    overlap = {"test": {"documents": 300, "near_duplicates": 4, "fraction": 0.0133}}
    write(
        folder / "split/metrics.json",
        {"train": part, "dev": part, "test": part, "overlap": overlap},
    )
    write(folder / "sample5M/metrics.json", {"train_sampled": 3500})
    write_vocabulary(folder / "vocab")
    write(folder / "records/main/metrics.json", {"train": {"examples": 9, "fill": 0.9873}})
    write(folder / "records/main/lengths.csv", "tokens,examples\n1,0\n2,5\n3,4\n")
    live = folder / "pretrain/main/live/plots/metrics"
    for text, loss in (("train", 5.0), ("dev", 6.0)):
        write(live / text / "mlm_loss.tsv", f"step\tmlm_loss\n10\t{loss}\n20\tnan\n30\t2.5\n")
    write(live / "learning_rate.tsv", "step\tlearning_rate\n10\t0.001\n20\t0.0005\n")
    write(
        folder / "pretrain/main/metrics.json",
        {
            "parameters": 1234567,
            "steps": 30,
            "epochs": 0.5,
            "train_mlm_loss": 2.5,
            "dev_mlm_loss": 2.75,
        },
    )
    write(
        folder / "evaluate/metrics.json",
        {
            "phase": "main",
            "mlm_loss": 2.0,
            "mlm_loss_unigram": 3.5,
            "mlm_loss_initial": 3.25,
            "mlm_accuracy": 0.5,
            "mlm_accuracy_top_token": 0.0625,
            "bits_per_character": 1.875,
            "intervals": {"mlm_loss": [1.9, 2.1], "new_measure": [0.25, 0.75]},
            "new_measure": 0.5,
            "nested": {"deep": {"count": 12345}},
        },
    )
    write(
        folder / "evaluate/fill_mask.json",
        [
            {
                "sentence": f"{text} ____ {text}",
                "word": text,
                "guesses": [text, "<b>"],
                "probabilities": [0.75, 0.25],
                "unigram_guess": "<i>",
            }
            for text in TEXTS
        ],
    )
    write(folder / "evaluate/by_frequency.csv", "bin,loss\n1-9,2\n")
    write(folder / "evaluate/by_frequency.svg", SVG)
    write(folder / "evaluate/models.csv", "model,mlm_loss\nstep-<20>,2.25\n")
    write(folder / "probe/topic/metrics.json", {"f1": {"mean": 0.8125}})
    cost = {"wall_seconds": 65.0, "cpu_seconds": 100.0, "peak_memory_mib": 512.0}
    for stage in ("evaluate-main", "preprocess", "pretrain-main"):
        write(folder / f"cost/{stage}.json", cost)
    write(
        folder / "cost/training-main.csv",
        "step,steps_per_second,sequences_per_second,tokens_per_second,fraction_of_peak,memory_mib,"
        "device_memory_mib\n10,2,64,1000,0.25,900,0\n20,3,96,3000,0.5,901,0\n30,2,80,2000,0.5,901,0\n",
    )


def write_vocabulary(folder: Path) -> None:
    """Results of a vocabulary of single characters; some words contain Markdown markup."""
    words = {"`|`": 5, "a|b": 4, "``": 3, "مدرسة": 2, "学校": 2, "ışık": 2, "स्कूल": 2, "🇹🇷": 2}
    letters = sorted({letter for word in words for letter in word})
    vocabulary = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = WordPieceTokenizer(vocabulary, False, False)
    counts = WordCounts()
    counts.words.update(words)
    fitted = measure_fit(tokenizer, counts)
    write(folder / "metrics.json", {"size": len(vocabulary), "train": fitted.metrics})
    write_report(folder / "report.md", tokenizer, {"size": len(vocabulary)}, {"train": fitted})


@pytest.fixture
def results(tmp_path, values) -> Results:
    write_everything(tmp_path)
    return Results(tmp_path, parse_params(values))


def render(results: Results) -> str:
    return page(results, "vocab:\n  size: 300  # <rows>\n")


def test_the_page_is_complete_and_loads_or_runs_nothing(results):
    text = render(results)
    assert text.startswith("<!DOCTYPE html>\n")
    parsed = Page(text)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    images = 0
    for tag, attributes in parsed.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "foreignobject"}
        assert not [name for name in attributes if name.startswith("on")]
        assert "url(" not in attributes.get("style", "")
        for name in ("href", "xlink:href"):
            if name in attributes:
                assert attributes[name].removeprefix("#") in ids
        if "src" in attributes:
            assert tag == "img" and attributes["src"].startswith("data:image/svg+xml;base64,")
            images += 1
    assert images == 1
    styles = [data for data, around in parsed.texts if around[-1:] and around[-1][0] == "style"]
    assert styles and not re.search(r"url\(|@import|https?:", "".join(styles))
    assert "default-src 'none'" in str(parsed.tags[:6])
    assert render(results) == text


def test_text_of_every_language_is_unchanged_and_in_its_own_direction(results):
    parsed = Page(render(results))
    # Without a break in a sentence with a masked word, and with marked words in a sample.
    plain = parsed.text.replace("\ufffd", "\x85")
    for text in TEXTS:
        assert f"{text} {text} {text}" in plain
        assert f"before {text}" in plain and f"after {text}" in plain
    for data, around in parsed.texts:
        own = [tag == "bdi" or attributes.get("dir") == "auto" for tag, attributes in around]
        assert any(own) or not re.search("[\u0590-\u06ff]", data)


def test_stages_that_have_not_run_are_named(tmp_path, values):
    text = Page(page(Results(tmp_path / "none", parse_params(values)), "")).text
    for stage in (*STAGES[:3], "records of main", "pretrain of main", "evaluate"):
        assert f"{stage} has not run yet: dvc repro" in text


@pytest.mark.parametrize("stage", STAGES)
def test_results_of_an_outdated_stage_are_not_shown(results, values, stage):
    name = f"{stage}@main" if stage in ("records", "pretrain") else stage
    outdated = Results(results.folder, results.params, {name: OUTDATED})
    label = name.replace("@", " of ")
    assert f"{label}: {OUTDATED}; run dvc repro" in Page(render(outdated)).text
    assert OUTDATED not in Page(render(results)).text


def test_no_value_of_an_outdated_evaluation_is_on_the_page(results):
    outdated = Results(results.folder, results.params, {"evaluate": OUTDATED})
    page, current = render(outdated), render(results)
    for value in ("1.875", "1.900 to 2.100", "Loss by &lt;frequency&gt;", "step-&lt;20&gt;"):
        assert value in current and value not in page, value
    # What training did is still current.
    assert "1,234,567 parameters" in page
    # Then the evaluation is killed: its metrics are gone, and other files of it may remain.
    (results.folder / "evaluate/metrics.json").unlink()
    page = Page(render(outdated)).text
    assert page.count("evaluate has not run yet") == 2 and "masked" not in page


def test_curves_of_a_training_that_has_not_finished_are_shown(results):
    (results.folder / "pretrain/main/metrics.json").unlink()
    running = Results(results.folder, results.params, {"pretrain@main": OUTDATED})
    page = render(running)
    assert "pretrain of main has not run yet" in page and "polyline" in page


@pytest.mark.parametrize("stage", STAGES)
def test_any_stage_may_be_missing(results, stage):
    for path in (results.folder / stage).rglob("*"):
        if path.is_file():
            path.unlink()
    assert f"{stage} " in Page(render(results)).text
    assert re.search(f"{stage}( of main)? has not run yet", Page(render(results)).text)


def test_metrics_are_shown_with_their_intervals_and_baselines(results):
    rows = list(Page(render(results)).rows())
    head = next(row for row in rows if row[0] == "metric")
    assert head == ["metric", "this model", "95 % interval", "baseline", "initial model"]
    loss = next(row for row in rows if row[0].startswith("MLM loss"))
    assert loss[1:] == ["2.000", "1.900 to 2.100", "3.500unigram baseline", "3.250"]
    accuracy = next(row for row in rows if row[0].startswith("MLM accuracy"))
    assert accuracy[1:] == ["50.0%", "–", "6.2%most frequent token", "–"]
    for row in (
        ["bits per characterlower is better", "1.875", "–", "–", "–"],
        # A metric that is not in the table.
        ["new measure", "0.5", "0.25 to 0.75", "–", "–"],
        ["nested: deep: count", "12,345"],
        ["step-<20>", "2.25"],
        ["f1: mean", "0.8125"],
        ["malformed json", "5"],
        ["exact duplicates", "57"],
        ["fill", "98.73%"],
        ["MLM loss (nats)", "2.5", "2.75"],
        ["main", "2,000", "80.0", "2.00", "50.0%", "901 MiB", "–"],
        ["total", "3:15", "5:00"],
    ):
        assert row in rows, row


def test_words_of_the_vocabulary_report_are_read_back_from_its_markdown(results):
    rows = list(Page(render(results)).rows())
    for row in (
        ["`|`", "5", "` ##| ##`"],
        ["a|b", "4", "a ##| ##b"],
        ["``", "3", "` ##`"],
        ["ışık", "2", "ı ##ş ##ı ##k"],
    ):
        assert row in rows, row
    # An empty table is left out.
    report = results.folder / "vocab/report.md"
    empty = "\n## Unknown words, train\n\n| word | times |\n| --- | --- |\n"
    write(report, report.read_text(encoding="utf-8") + empty)
    assert "Unknown words" not in Page(render(results)).text


def test_images_are_embedded_and_small_tables_are_shown_with_them(results):
    parsed = Page(render(results))
    (image,) = (attributes for tag, attributes in parsed.tags if tag == "img")
    assert base64.b64decode(image["src"].partition(",")[2]).decode() == SVG
    assert image["alt"] == "Loss by <frequency>" and "Loss by <frequency>" in parsed.text
    assert ["1-9", "2"] in list(parsed.rows())
    write(results.folder / "evaluate/by_frequency.csv", "bin,loss\n" + "1-9,2\n" * 100)
    assert ["1-9", "2"] not in list(Page(render(results)).rows())
    write(results.folder / "evaluate/by_length.svg", "<svg")
    assert "evaluate/by_length.svg: not an SVG image" in Page(render(results)).text
    titled = SVG.replace("<title>", "<text>Loss</text><title>").replace("by &lt;frequency&gt;", "")
    write(results.folder / "evaluate/by_length.svg", titled.replace("<title>Loss ", "<title>Loss"))
    # An image that shows its own title gets no caption.
    assert "figcaption" not in render(results).partition('alt="Loss">')[0].rpartition("<figure")[2]


@pytest.mark.parametrize(
    ("before", "after", "removed", "added"),
    [
        ("He left. She stayed.", "He left.\nShe stayed.", [], []),
        ("他走了。她留下。", "他走了。\n她留下。", [], []),
        ("see https://a.b now", "see twitterurl now", ["https://a.b"], ["twitterurl"]),
        ("قال @ab نعم", "قال نعم", ["@ab"], []),
        # Both are truncated: what is beyond the end of one is not a change.
        (f"&amp; {'a b c ' * 49}"[:300], f"& {'a b c ' * 49}x y"[:300], ["&amp;"], ["&"]),
    ],
)
def test_words_that_cleaning_changed_are_marked(results, before, after, removed, added):
    inspection = Inspection()
    inspection.samples = [("0", "a.txt", before, after)]
    write(results.folder / "preprocess/samples.txt", inspection.page())
    texts = Page(render(results)).texts
    for tag, expected in (("del", removed), ("ins", added)):
        assert [data for data, around in texts if around and around[-1][0] == tag] == expected


def test_curves_are_drawn_from_the_log_unless_an_image_shows_them(results):
    def points() -> list[int]:
        tags = Page(render(results)).tags
        return sorted(len(found["points"].split()) for tag, found in tags if tag == "polyline")

    # Learning rate, loss on two texts (nan is left out), throughput, memory, lengths.
    assert points() == [2, 2, 2, 3, 3, 3]
    for name in ("evaluate/training_loss", "evaluate/records_lengths", "cost/throughput-main"):
        write(results.folder / f"{name}.svg", SVG)
    assert points() == [2, 3]
    assert [tag for tag, _ in Page(render(results)).tags].count("img") == 4


def test_the_time_of_a_resumed_training_includes_all_its_parts(results):
    # Killed at step 25 after 2 x 100 s, resumed at 10; the process that finished took 65 s.
    log = "step,steps_per_second\n10,0.1\n20,0.1\n20,0.5\n30,0.5\n"
    write(results.folder / "cost/training-main.csv", log)
    seconds = 100 + 100 + results.params.pretrain.log_every / 0.5 + 20
    (row,) = (row for row in Page(render(results)).rows() if row[0] == "pretrain-main")
    assert row[1] == f"{int(seconds // 60)}:{int(seconds % 60):02}"


@given(st.text(), st.text())
def test_any_text_survives_the_page(words, name):
    node = element("p", words, element("bdi", words), title=name)
    parsed = Page(tostring(node, encoding="unicode", method="html"))
    (tag, attributes), _ = parsed.tags
    assert tag == "p" and same(attributes["title"], name)
    assert same(parsed.text, words + words)


def same(found: str, expected: str) -> bool:
    """Whether they are equal but for characters that HTML cannot represent."""
    return len(found) == len(expected) and all(
        one == other or (one == "\ufffd" and (not other.isprintable() or 0x7F <= ord(other) < 0xA0))
        for one, other in zip(found, expected, strict=True)
    )
