"""The report in a real browser: opened from disk, without a network, in light and dark mode."""

import re
from pathlib import Path

import numpy as np
import pytest

from lib.params import parse_params
from lib.report.page import page
from lib.report.results import Results
from lib.run import tf
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.project import Project
from tests.helpers.results import LANGUAGES, write_everything

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium"),
]
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
# Subjects, objects and verbs of small sentences, what is between words, and what ends them.
GRAMMARS = {
    "English": ("pilot engine student", "bridge letter coin", "sees paints finds", " ", "."),
    "Turkish": ("öğrenci çiğdem ışık", "köprüyü mektubu İzmir’i", "görür boyar bulur", " ", "."),
    "Arabic": ("الطالب المهندس الجدة", "الجسر الرسالة العملة", "يرى يرسم يجد", " ", "."),
    "Hindi": ("लड़का छात्र दादी", "पुल चिट्ठी सिक्का", "देखता बनाता पाता", " ", " है।"),
    "Russian": ("ученик инженер бабушка", "мост письмо монету", "видит рисует находит", " ", "."),
    "Chinese": ("学生 工程师 奶奶", "桥梁 信件 硬币", "看见 画着 找到", "", "。"),
    "Japanese": ("学生が 技師が 祖母が", "橋を 手紙を 硬貨を", "見る 描く 探す", "", "。"),
}


def open_page(path: Path, folder: Path, width: int, scheme: str) -> str:
    """Opens a page and returns its text.

    Nothing is loaded from a network, no errors are logged, all images are visible, and nothing is
    cut off.
    """
    with Browser(folder / f"profile-{width}-{scheme}") as browser:
        browser.set_viewport(width, 900, scheme)
        browser.open(path.as_uri())
        # Folded content is checked, too.
        browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        images = browser.evaluate(
            "[...document.querySelectorAll('img, svg')].map(each => {"
            "const box = each.getBoundingClientRect(); return [each.tagName, box.x + scrollX, "
            "box.y + scrollY, box.width, box.height, each.tagName != 'IMG' || "
            "(each.complete && each.naturalWidth > 0)]})"
        )
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        text = browser.evaluate("document.body.innerText")
        right_to_left = browser.evaluate(
            "[...document.querySelectorAll('p.corpus')].filter(each => "
            "/^[\u0590-\u06ff]/.test(each.textContent)).map(each => each.matches(':dir(rtl)'))"
        )
        screenshots = browser.screenshots(folder / f"report-{width}-{scheme}.png")
        events = browser.events
    assert right_to_left and all(right_to_left)
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 300) == (scheme == "dark")
    errors = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}
    assert [event for event in events if event["method"] in errors] == []
    loaded = [
        event["params"]["request"]["url"].partition(":")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert "file" in loaded and set(loaded) <= {"file", "data"}
    pixels = np.concatenate(
        [tf.io.decode_png(each.read_bytes(), 3).numpy().mean(axis=2) / 255 for each in screenshots]
    )
    # A blank page, or an image that looks like the background, would have a single colour.
    assert all(np.ptp(band) > 0.3 for band in np.array_split(pixels, 10))
    assert {tag for tag, *_ in images} == {"IMG", "svg"}
    for tag, x, y, wide, high, whole in images:
        assert whole and wide > 200 and high > 100, tag
        seen = pixels[int(y) : int(y + high), int(x) : int(x + wide)]
        assert seen.size and np.ptp(seen) > 0.3, (tag, x, y)
        # The background of the image is that of the page.
        assert abs(seen[3, 3] - pixels[0, 0]) < 0.1, (tag, x, y)
    return text


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_text_that_is_hard_to_show_is_complete(tmp_path, values, width, scheme):
    write_everything(tmp_path / "results")
    path = tmp_path / "report.html"
    results = Results(tmp_path / "results", parse_params(values))
    path.write_text(page(results, "vocab: {size: 300}\n"), encoding="utf-8")
    text = open_page(path, tmp_path, width, scheme)
    for sentence in LANGUAGES.values():
        assert sentence in text
    assert "<script>alert('1')</script>" in text


def test_a_run_on_seven_languages_is_complete(tmp_path):
    project = Project(tmp_path / "project")
    raw = project.folder / "data/raw"
    raw.mkdir(parents=True)
    for language, (subjects, objects, verbs, space, end) in GRAMMARS.items():
        sentences = [
            # A capital at the beginning of a sentence, in scripts that have them.
            subject[0].upper() + space.join((subject[1:], str(number), thing, verb)) + end
            for number in range(8)
            for subject in subjects.split()
            for thing in objects.split()
            for verb in verbs.split()
        ]
        documents = [" ".join(sentences[start : start + 4]) for start in range(0, 216, 4)]
        (raw / f"{language}.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    project.set({"vocab": {"size": 400, "lowercase": False, "strip_accents": False}})
    project.run("dvc", "add", "-q", "data/raw")
    project.run("dvc", "repro")
    report = project.folder / "results/report.html"
    for width, scheme in LOOKS:
        text = open_page(report, tmp_path, width, scheme)
        for language in GRAMMARS:
            assert f"{language}.txt" in text
        for word in ("letter", "köprüyü", "الجسر", "चिट्ठी", "письмо", "桥梁", "手紙"):
            assert word in text
