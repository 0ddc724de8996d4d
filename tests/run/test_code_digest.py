"""Digests of a stage's code: what changes them and what does not."""

import importlib.metadata
from pathlib import Path

import pytest

from lib.run.code_digest import CANNOT_ALTER_OUTPUTS, closure, listing, module_digest, stages
from tests.conftest import ROOT

STAGE = "from lib.a import work\nimport lib.pack.b as b\n\n\ndef main():\n    return work() + b.X\n"
WORK = '''"""What it does."""

from pathlib import Path

TABLE = Path(__file__).with_name("table.json")


def work(value=None):
    """Works."""
    # A comment.
    return [value, 0, f"{value!r:>10}"]
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for path, text in {
        "stages/one.py": STAGE,
        "stages/two.py": "import json\n",
        "stages/check.py": "",
        "stages/__init__.py": "",
        "lib/a.py": WORK,
        "lib/table.json": "{}",
        "lib/other.json": "{}",
        "lib/pack/__init__.py": "from lib.run import errors\nfrom lib.unused import *\n",
        "lib/pack/b.py": "X = 1\n",
        "lib/unused.py": "",
        "lib/apart.py": "",
        "lib/run/errors.py": "from lib.apart import x\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def files(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def test_a_listing_has_all_that_is_imported_with_packages_and_data_files(project):
    assert stages(project) == ["one", "two"]
    assert "lib/run/errors.py" in CANNOT_ALTER_OUTPUTS
    assert files(listing(project, "one")) == [
        "lib/a.py",
        "lib/pack/__init__.py",
        "lib/pack/b.py",
        "lib/table.json",
        "lib/unused.py",
        "stages/one.py",
    ]
    assert files(listing(project, "two")) == ["stages/two.py"]


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lib/a.py", "# A comment.", "# Another.\n\n    # And more."),
        ("lib/a.py", '"""Works."""', '"""Works,\n\n    and how."""'),
        ("lib/a.py", '    """Works."""\n', ""),
        ("lib/a.py", '"""What it does."""\n', "# No docstring\n"),
        ("lib/a.py", "[value, 0, ", "[\n        value,\n        0x0, "),
        ("lib/pack/b.py", "X = 1\n", "\n\nX=1 # one\n"),
        ("lib/run/errors.py", "x", "y"),
        ("lib/other.json", "{}", "[]"),
        ("stages/two.py", "json", "os"),
        ("stages/check.py", "", "import os\n"),
    ],
)
def test_comments_docstrings_format_and_other_code_leave_a_listing_as_it_is(
    project, path, old, new
):
    before = listing(project, "one")
    file = project / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    assert listing(project, "one") == before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lib/a.py", "value, 0", "value, 1"),
        ("lib/a.py", "value, 0", "value, None"),
        ("lib/a.py", "value, 0", "value, False"),
        ("lib/a.py", "value, 0", "value, 0.0"),
        ("lib/a.py", "value, 0", "0, value"),
        ("lib/a.py", "value=None", "value=()"),
        ("lib/a.py", "value!r", "value"),
        ("lib/a.py", "value=None", "*, value=None"),
        ("lib/table.json", "{}", "[]"),
        ("lib/pack/__init__.py", "from lib.run", "x = 1\nfrom lib.run"),
        ("lib/unused.py", "", "import os\n"),
        ("stages/one.py", "+", "-"),
    ],
)
def test_a_change_of_code_or_data_changes_the_listing(project, path, old, new):
    before = listing(project, "one")
    file = project / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    assert listing(project, "one") != before
    assert listing(project, "two") == listing(project, "two")


def test_the_template_of_the_card_is_code_and_those_of_the_report_are_not():
    # The card is an output of evaluate, the report is not.
    found = files(listing(ROOT, "evaluate"))
    assert "lib/report/card/model_card.md.jinja" in found
    assert [file for file in found if file.startswith("lib/report/templates/")] == []
    assert list((ROOT / "lib/report/templates").glob("*.html"))


def test_excluded_modules_are_not_followed(project):
    assert "lib/apart.py" not in closure(project, "stages/one.py")


def test_the_digest_of_a_module_changes_with_all_that_its_results_depend_on(project, monkeypatch):
    found = {module_digest(project, "stages/one.py")}
    assert module_digest(project, "stages/one.py") in found
    for file in ("lib/a.py", "lib/pack/b.py", "lib/table.json"):
        (project / file).write_text((project / file).read_text() + "\n\n")
        found.add(module_digest(project, "stages/one.py"))
    (project / "lib/a.py").write_text(WORK + "import numpy, yaml\n")
    found.add(module_digest(project, "stages/one.py"))
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version(name) + ".post1")
    found.add(module_digest(project, "stages/one.py"))
    assert len(found) == 6
    for file in ("lib/apart.py", "lib/other.json", "lib/run/errors.py"):
        (project / file).write_text("changed = 1")
    assert module_digest(project, "stages/one.py") in found
