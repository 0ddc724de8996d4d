"""Parameters of tests, whatever the user has changed in params.yaml."""

import subprocess
from typing import Any

import yaml

from lib.commands.recipe import edit_params, merge
from lib.params import Params
from tests.conftest import ROOT

_PHASES = {"main": {"max_seq_length": 32, "init": "data/vocab"}}
# Sentence pairs masked once, and random weights: Devlin et al.'s training, which has more parts to
# test than the default one. Tests also rely on these lengths and rates.
_CHANGES: dict[str, dict[str, Any]] = {
    "records": {
        "masked_lm_prob": 0.15,
        "short_seq_prob": 0.1,
        "dupe_factor": 5,
        "next_sentence": True,
        "masking": "static",
        "packing": False,
    },
    "pretrain": {
        "model": {"num_attention_heads": 4},
        "initialization": "normal",
        "steps": 8000,
        "learning_rate": 2e-3,
        "warmup_steps": 400,
        "evaluate_every": 2000,
    },
}


def default_values() -> dict[str, Any]:
    """The defaults in code as plain values, with one phase, `main`, and sentence pairs."""
    values = Params(phases=_PHASES).model_dump()
    merge(values, _CHANGES)
    return values


def default_params_text() -> str:
    """Text of params.yaml with its comments and the defaults in code."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    phases = {"main": {"max_seq_length": 64, "init": "data/vocab"}}
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
