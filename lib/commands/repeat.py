"""Runs the present setting with several training seeds: `python -m lib.commands.repeat 3`.

Each run is an experiment in a folder of its own (`dvc exp run --temp`), with the next value of
`pretrain.seed`: other initial weights, another order of sequences, other dropout, and with
`records.masking: dynamic` other masks. Text, vocabulary, split and test documents stay the same.
DVC takes what has been run before from its cache, so that a killed command continues where it was
when it is given again: finished seeds are not trained again, and the current one resumes at its
checkpoint.

At the end results/repeats.json has every run's metrics with mean and standard deviation. The report
and the card of the model show them, if the model in the workspace is one of the runs.
"""

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from lib.commands.evaluations import SEED, experiments
from lib.commands.tools import run_dvc, run_git
from lib.evaluation.metrics import METRICS
from lib.model.config import read_config
from lib.params import Params, load_params
from lib.report.card.facts import gather
from lib.report.card.model_card import model_card
from lib.report.outdated import outdated_stages
from lib.report.page import write_page
from lib.report.repeats import Repeat, Repeats
from lib.run.atomic import write_text
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.paths import MODELS, RESULTS
from lib.run.stage import exit_with_parent

_DIGITS = 6


def experiment_name(params: Params, overrides: Sequence[str], start: str) -> str:
    """`repeat-1f2e3d`: equal for equal parameters, whatever the seed."""
    values = params.model_dump(mode="json")
    values["pretrain"].pop("seed")
    values.pop("cluster", None)
    text = json.dumps([values, sorted(overrides)], sort_keys=True)
    return f"{start}-{hashlib.blake2b(text.encode()).hexdigest()[:_DIGITS]}"


def run_seed(name: str, seed: int, overrides: Sequence[str]) -> None:
    """Runs one experiment, with its output on the terminal.

    Raises:
        UserError: it failed.
    """
    if name in run_dvc("exp", "list", "--name-only").split():
        print(f"repeat: {name}: run before; what has not changed since comes from DVC's cache")
        run_dvc("exp", "remove", name)
    words = [word for override in (*overrides, f"{SEED}={seed}") for word in ("-S", override)]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "-n", name, *words]
    # Otherwise dvc would go on without this process.
    done = subprocess.run(command, preexec_fn=partial(exit_with_parent, signal.SIGTERM))
    if done.returncode:
        raise UserError(
            f"{name}: dvc ended with code {done.returncode} (see above); fix that and give the "
            "same command again: finished seeds are in DVC's cache"
        )


def repeat(params: Params, seeds: Sequence[int], overrides: Sequence[str], start: str) -> Repeats:
    """Runs every seed.

    Raises:
        UserError: a run failed, or there is no git repository.
    """
    run_git("rev-parse", "HEAD")
    name = experiment_name(params, overrides, start)
    names = {f"{name}-seed-{seed}": seed for seed in seeds}
    for number, (experiment, seed) in enumerate(names.items(), start=1):
        print(f"repeat: {number} of {len(names)}: {SEED}={seed} as experiment {experiment}")
        sys.stdout.flush()
        run_seed(experiment, seed, overrides)
    # A killed one stays in DVC's list as running.
    found = {each.name: each for each in experiments() if each.metrics}
    if len({found[experiment].setting() for experiment in names}) > 1:
        raise UserError(
            "params.yaml, the text or the code changed between the runs; give the same command "
            "again: what has not changed comes from DVC's cache"
        )
    runs = []
    for experiment, seed in names.items():
        own = found[experiment]
        values = {key: own.metrics[key] for key in METRICS if own.metrics.get(key) is not None}
        runs.append(Repeat(seed, experiment, own.rev, values))
    return Repeats(SEED, runs)


def update_card(params: Params, repeats: Repeats) -> str:
    """Writes the repeated runs into the model's card, if it is one of them; returns what it did.

    The card is an output of evaluate, so it is committed to DVC again.
    """
    phase = params.evaluate.phase
    path = RESULTS / "evaluate/metrics.json"
    card = MODELS / phase / "README.md"
    if not path.exists() or not card.exists() or "evaluate" in outdated_stages(Path()):
        return "The workspace has no current model; `dvc exp apply` brings one of these into it."
    metrics = read_object(path)
    if not repeats.belongs_to(metrics):
        return "The model in the workspace is none of these runs; its card stays as it is."
    if json.loads(run_dvc("status", "--json", "evaluate")):
        return (
            f"{card} stays as it is, because evaluate has changed (see dvc status); run dvc repro, "
            "then this command again."
        )
    facts = gather(params, phase, RESULTS)
    config = read_config(MODELS / phase / "config.json")
    write_text(card, model_card(facts, config, metrics, repeats))
    run_dvc("commit", "-q", "-f", "evaluate")
    return f"{card} shows them."


def summary(repeats: Repeats) -> str:
    """The metrics as a table."""
    lines = [
        {
            "metric": metric.label,
            **{
                f"seed {run.seed}": format(run.metrics[metric.name], metric.format)
                for run in repeats.runs
            },
            "mean ± sd": repeats.written(metric),
        }
        for metric, _ in repeats.of_metrics()
    ]
    return str(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True))


def main() -> None:
    parser = new_parser("lib.commands.repeat", __doc__)
    parser.add_argument("seeds", type=int, help="number of runs, at least 2")
    parser.add_argument("--name", default="repeat", help="beginning of the experiments' names")
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting than that of the workspace, as for dvc exp run",
    )
    options = parser.parse_args()
    if options.seeds < 2:
        raise UserError(f"SEEDS should be at least 2. Received: {options.seeds}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", options.name):
        raise UserError(f"NAME should have letters, digits, - and _. Received: {options.name!r}")
    if any(each.startswith(f"{SEED}=") for each in options.set_param):
        raise UserError(f"{SEED} is what differs between the runs; leave it out of -S")
    params = load_params()
    first = params.pretrain.seed
    seeds = range(first, first + options.seeds)
    repeats = repeat(params, seeds, options.set_param, options.name)
    print(f"\n{summary(repeats)}\n\n{repeats.described()}")
    if options.set_param:
        print("They are another setting than that of the workspace: results/repeats.json stays.")
        return
    repeats.write(RESULTS)
    print(update_card(params, repeats))
    write_page()


if __name__ == "__main__":
    with one_line_errors("repeat"):
        try:
            main()
        except KeyboardInterrupt:
            sys.exit("repeat: stopped; the same command continues")
