"""The project's params.yaml with its default values, whatever the user has changed in it."""

from lib.commands.recipe import edit_params
from lib.params import Params
from tests.conftest import ROOT

_PHASES = {"main": {"max_seq_length": 32, "init": "data/vocab"}}


def default_params_text() -> str:
    """Text of params.yaml with its comments and the defaults in code."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    defaults = Params(phases=_PHASES).model_dump()
    return edit_params(text, defaults | {"phases": _PHASES}, "params.yaml")[0]
