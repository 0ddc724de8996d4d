"""A table of experiments that fits a screen: `python -m lib.commands.experiments`.

`dvc exp show` has a column for every parameter, every metric and the hash of every dependency,
about 400 in all, and dvc.yaml cannot reduce them. This calls it for the parameters that differ and
for the metrics that mean the same for every vocabulary, the best experiment first. Options of
`dvc exp show` may follow: `--md`, `--csv`, `--keep dev_mlm_loss` for one more column.
"""

import os
import sys

from lib.evaluation.metrics import METRICS
from lib.params import Params


def command(options: list[str]) -> list[str]:
    """The dvc command, with further options of `dvc exp show`."""
    metrics = [metric for metric in METRICS.values() if metric.any_vocabulary]
    best = metrics[0]
    names = ["Experiment", "rev", "State", *(metric.name for metric in metrics)]
    parameters = rf"(?:{'|'.join(Params.model_fields)})\."
    shown = "|".join([parameters, *(f"{name}$" for name in names)])
    columns = ["--only-changed", "--drop", f"(?!{shown})", "--keep", f"Experiment$|{best.name}$"]
    order = ["--sort-by", best.name, *(["--sort-order", "desc"] if best.higher_is_better else [])]
    return ["dvc", "exp", "show", *columns, "--hide-workspace", *order, *options]


if __name__ == "__main__":
    try:
        os.execvp("dvc", command(sys.argv[1:]))
    except FileNotFoundError:
        sys.exit("experiments: error: dvc is not on the PATH; run `source .venv/bin/activate`")
