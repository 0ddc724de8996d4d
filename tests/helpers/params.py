"""Parameters of tests, whatever the user has changed in params.yaml."""

import subprocess
from typing import Any

import yaml

from bench.common.project import BASE
from lib.commands.recipe import edit_params, merge
from lib.params import Params
from tests.conftest import ROOT

_PHASES = {"main": {"max_seq_length": 32, "init": "data/vocab"}}


def default_values() -> dict[str, Any]:
    """The defaults in code as plain values, with one phase, `main`, and BERT's own training.

    That is sentence pairs masked once, and random initial weights: there is more to test in it than
    in the default one.
    """
    values = Params(phases=_PHASES).model_dump()
    merge(values, {section: BASE[section] for section in ("records", "pretrain")})
    return values


def default_params_text() -> str:
    """Text of params.yaml with its comments and the defaults in code."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    phases = {"main": {"max_seq_length": 128, "init": "data/vocab"}}
    return edit_params(text, Params(phases=phases).model_dump(), "params.yaml")[0]


def shipped_values() -> dict[str, Any]:
    """Values of params.yaml as it belongs to this version of the code.

    A user's changes of params.yaml do not count, committed or not: it is read as of the last commit
    that changed code, unless code has changed since.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    code = ("--", "lib", "stages", "tests", "docs", "recipes")
    if git("status", "--porcelain", *code):
        return dict(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    commit = git("log", "-1", "--format=%H", *code)
    return dict(yaml.safe_load(git("show", f"{commit}:params.yaml")))
