"""README and docs: links and parameter names exist, YAML examples are valid, Google's demo runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from lib.commands.recipe import merge
from lib.params import Params, parse_params
from tests.conftest import ROOT
from tests.helpers.pages import name_of, pages
from tests.helpers.project import Project, sentences

_YAML = re.compile(r"^```yaml\n(.*?)^```", re.M | re.S)
_SECTIONS = "|".join(Params.model_fields)
_NAME = re.compile(rf"`((?:{_SECTIONS})\.[\w.*<>…]+)[`:]")
# Docs of other subjects use the same form for files.
_FILES = re.compile(r"\.(py|json|csv|txt|tsv|md|html|yaml|onnx|dvc)$")


def examples() -> Iterator:
    """The YAML blocks of all pages that set parameters."""
    for page in pages():
        for number, text in enumerate(_YAML.findall(page.read_text(encoding="utf-8"))):
            values = yaml.safe_load(text)
            if isinstance(values, dict) and values.keys() <= Params.model_fields.keys():
                yield pytest.param(values, id=f"{name_of(page)}-{number}")


def exists(model: type[BaseModel], parts: list[str]) -> bool:
    """Whether a dotted name is a parameter, a section, or below a dict such as `phases`."""
    if not parts:
        return True
    first, *rest = parts
    if first not in model.model_fields:
        return first == "*"
    annotation = model.model_fields[first].annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return exists(annotation, rest)
    values = [each for each in get_args(annotation) if isinstance(each, type)]
    sections = [each for each in values if issubclass(each, BaseModel)]
    if sections and rest:  # dict[name, section]: the name is the user's.
        return exists(sections[0], rest[1:])
    return not rest


@pytest.mark.parametrize("changes", list(examples()))
def test_yaml_examples_are_valid(values, changes):
    merge(values, changes)
    assert parse_params(values)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_to_files_and_headings_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_parameter_names_exist(page):
    names = set(_NAME.findall(page.read_text(encoding="utf-8")))
    unknown = [
        name
        for name in names
        if not _FILES.search(name) and not exists(Params, name.rstrip(".").split("."))
    ]
    assert unknown == []


@pytest.mark.slow
def test_the_demo_of_google_bert_runs_up_to_the_shards(tmp_path):
    """Three documents, as in google-research/bert's sample_text.txt, with the page's settings."""
    page = (ROOT / "docs/from-google-bert.md").read_text(encoding="utf-8")
    documented = yaml.safe_load(_YAML.findall(page)[0])
    project = Project(tmp_path, {key: documented[key] for key in ("preprocess", "split")})
    raw = project.folder / "data/raw"
    raw.mkdir()
    documents = (sentences(3, 1), sentences(13, 2), sentences(15, 3))
    text = "\n\n".join("\n".join(lines) for lines in documents) + "\n"
    (raw / "sample_text.txt").write_text(text, encoding="utf-8")
    project.stage("preprocess")
    assert "3 train documents" in project.stage("split")
