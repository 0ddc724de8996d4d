"""Experiments in a table that fits a screen: `python -m lib.commands.experiments`.

`dvc exp show` has a column for every parameter, every metric and the hash of every dependency, some
400 in all, and nothing in dvc.yaml can make them fewer. This calls it for the parameters that
differ and for numbers that mean the same for every vocabulary, the best experiment first. Flags of
`dvc exp show` may follow: `--md`, `--csv`, `--keep dev_mlm_loss` for one more column.
"""

import os
import sys

from lib.params import Params

_BEST_BY = "bits_per_character"
_COLUMNS = ["Experiment", "rev", "State", _BEST_BY, "word_accuracy", "nsp_accuracy"]


def command(flags: list[str]) -> list[str]:
    """The call of dvc, with further flags of `dvc exp show`."""
    parameters = rf"(?:{'|'.join(Params.model_fields)})\."
    shown = "|".join([parameters, *(f"{name}$" for name in _COLUMNS)])
    columns = ["--only-changed", "--drop", f"(?!{shown})", "--keep", f"Experiment$|{_BEST_BY}$"]
    return ["dvc", "exp", "show", *columns, "--hide-workspace", "--sort-by", _BEST_BY, *flags]


if __name__ == "__main__":
    try:
        os.execvp("dvc", command(sys.argv[1:]))
    except FileNotFoundError:
        sys.exit("experiments: error: dvc is not on the PATH; run `source .venv/bin/activate`")
