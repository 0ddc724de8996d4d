"""The report: one page of well-formed HTML with everything in it and all text unchanged."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.params import parse_params
from lib.report.outdated import OUTDATED
from lib.report.page import page, templates, valid
from lib.report.results import Results
from lib.text.cleaning.inspection import Inspection
from tests.helpers.results import SVG, TEXTS, write, write_everything

STAGES = ["preprocess", "split", "vocab", "records", "pretrain", "evaluate"]
PARAGRAPH = templates().from_string('<p title="{{ name }}">{{ words }}<bdi>{{ words }}</bdi></p>')
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """A parsed page; an element that is left open or closed twice is an error."""

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
            if {"td", "th"} & set(tags):
                row = id(around[tags.index("tr")][1])
                cell = id(around[tags.index("tr") + 1][1])
                of_row = cells.setdefault(row, {})
                of_row[cell] = of_row.get(cell, "") + data
        return (list(of_row.values()) for of_row in cells.values())


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
        assert f"{stage} has not run yet; run dvc repro" in text


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
    assert page.count("evaluate has not run yet") == 2 and "one word masked" not in page


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


def test_runs_with_other_seeds_are_shown_if_this_model_is_one_of_them(results):
    def write_runs(loss: float) -> None:
        runs = [
            {"seed": seed, "experiment": "x", "rev": "y", "metrics": {"mlm_loss": own}}
            for seed, own in ((1, loss), (2, 2.25))
        ]
        write(results.folder / "repeats.json", {"varied": "pretrain.seed", "runs": runs})

    write_runs(2.0)
    shown = Page(render(results))
    head = next(row for row in shown.rows() if row[0] == "metric")
    assert head[-1] == "2 seeds: mean ± sd"
    loss = next(row for row in shown.rows() if row[0].startswith("MLM loss"))
    assert loss[-1] == "2.125 ± 0.177"
    assert "2 runs with pretrain.seed 1, 2" in shown.text
    write_runs(2.1)
    assert "2 seeds" not in Page(render(results)).text


def test_tables_for_programs_are_not_shown(results):
    write(results.folder / "evaluate/documents.csv", "document,mlm.bits\nd1g3st,1\n")
    assert "d1g3st" not in Page(render(results)).text


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
    write(results.folder / "preprocess/samples.txt", inspection.page([]))
    texts = Page(render(results)).texts
    for tag, expected in (("del", removed), ("ins", added)):
        assert [data for data, around in texts if around and around[-1][0] == tag] == expected


def test_curves_are_drawn_from_what_each_stage_logged(results):
    def points() -> list[int]:
        tags = Page(render(results)).tags
        return sorted(len(found["points"].split()) for tag, found in tags if tag == "polyline")

    # Learning rate, loss on two texts (nan is left out), throughput, memory.
    assert points() == [2, 2, 2, 3, 3]
    write(results.folder / "pretrain/main/curves/gradient_norm.tsv", "step\tgradient_norm\n1\t2\n")
    write(results.folder / "vocab/frequencies.csv", "log10_rank,log10_fraction\n0,-1\n1,-2\n2,-3\n")
    assert points() == [1, 2, 2, 2, 3, 3, 3]
    # The files that evaluate draws of the same values are not shown twice.
    for name in ("training_loss", "learning_rate", "records_lengths", "token_frequency"):
        write(results.folder / f"evaluate/{name}.svg", SVG)
    assert [tag for tag, _ in Page(render(results)).tags].count("img") == 1


def test_the_time_of_a_resumed_training_includes_all_its_parts(results):
    # Killed at step 25 after 2 x 100 s, resumed at 10; the process that finished took 65 s.
    log = "step,steps_per_second\n10,0.1\n20,0.1\n20,0.5\n30,0.5\n"
    write(results.folder / "cost/training-main.csv", log)
    seconds = 100 + 100 + results.params.pretrain.log_every / 0.5 + 20
    (row,) = (row for row in Page(render(results)).rows() if row[0] == "pretrain-main")
    assert row[1] == f"{int(seconds // 60)}:{int(seconds % 60):02}"


@given(st.text(), st.text())
def test_any_text_survives_the_page(words, name):
    parsed = Page(valid(PARAGRAPH.render(words=words, name=name)))
    (tag, attributes), _ = parsed.tags
    assert tag == "p" and same(attributes["title"], name)
    assert same(parsed.text, words + words)


def write_with(folder: Path, values: dict, text: str) -> Results:
    """Results in which this text is the name of everything that has one, and in all strings."""

    def changed(value: object) -> object:
        if isinstance(value, dict):
            others = {name: changed(each) for name, each in value.items()}
            return others if "mlm_loss" in value else others | {text: 1}
        if isinstance(value, list):
            return [changed(each) for each in value]
        return f"{text} {value}" if isinstance(value, str) else value

    write_everything(folder)
    for path in folder.rglob("*.json"):
        write(path, changed(json.loads(path.read_text(encoding="utf-8"))))
    for stage in ("records", "pretrain"):
        (folder / stage / "main").rename(folder / stage / text)
    run = {"seed": 1, "experiment": text, "rev": text, "metrics": {"mlm_loss": 2.0}}
    write(folder / "repeats.json", {"varied": text, "runs": [run, run]})
    (folder / "cost/evaluate-main.json").rename(folder / f"cost/{text}.json")
    (folder / "cost/training-main.csv").rename(folder / f"cost/training-{text}.csv")
    quoted = '"{}"'.format(text.replace('"', '""'))
    write(folder / f"pretrain/{text}/curves/{text}.tsv", f"step\t{quoted}\n1\t2\n")
    write(folder / f"{text}/metrics.json", {text: {text: [1.0, text]}})
    write(folder / f"{text}/{text}.svg", "<svg")
    write(folder / f"evaluate/{text}.csv", f"{quoted},b\n{quoted},2\n")
    table = f"| {text} |\n| --- |\n| `{text}` |\n| {text} |\n"
    with (folder / "vocab/report.md").open("a", encoding="utf-8") as file:
        file.write(f"\n## {text}\n\n{table}\n## {text}\n\n`{text}`, a\n")
    params = parse_params(values)
    changes = {
        "phases": {text: params.phases["main"].model_copy(update={"init": text})},
        "evaluate": params.evaluate.model_copy(update={"phase": text}),
        "preprocess": params.preprocess.model_copy(update={"input": text}),
    }
    return Results(folder, params.model_copy(update=changes))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)<!--",
        "\"'> onload='x' style=\"color:red",
        "\u202e*_[a](b)_* # ~ \u2066",
        "{{ 1 + 1 }}{% raw %}{#",
    ],
)
def test_no_text_from_results_becomes_markup(tmp_path, values, text):
    def parsed(name: str, text: str) -> Page:
        results = write_with(tmp_path / name, values, text)
        return Page(page(results, f"# {text}\n"))

    plain, hostile = parsed("plain", "harmless"), parsed("hostile", text)
    assert Counter((tag, *sorted(names)) for tag, names in hostile.tags) == Counter(
        (tag, *sorted(names)) for tag, names in plain.tags
    )
    # Where it is a key, an underscore is a space.
    assert hostile.text.replace("_", " ").count(text.replace("_", " ")) > 60


def same(found: str, expected: str) -> bool:
    """Whether they are equal but for characters that HTML cannot represent."""
    return len(found) == len(expected) and all(
        one == other or (one == "\ufffd" and (not other.isprintable() or 0x7F <= ord(other) < 0xA0))
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("pairs", [True, False])
def test_pairs_that_teach_nothing_are_marked(results, values, pairs):
    train = {"examples": 9, "random_next_fraction": 0.9375 if pairs else 0.0}
    write(results.folder / "records/main/metrics.json", {"train": train})
    values["records"]["next_sentence"] = pairs
    text = Page(render(Results(results.folder, parse_params(values)))).text
    assert ("93.8% of the training pairs have a random second segment" in text) == pairs
