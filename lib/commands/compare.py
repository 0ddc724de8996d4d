"""The difference of two models on the same test documents: `python -m lib.commands.compare A B`.

A and B are each one of

    main             a model that evaluate has evaluated here: the phase's own, `initial`, `best`,
                     `step-500` (with `evaluate.saved_models: true`), `unigram` (the baseline)
    main@64          the same on sequences of 64 tokens (with `evaluate.lengths: [64]`)
    models/base/NAME a folder with a model: evaluated now, on the test documents of this project
    slower           an experiment, branch or commit; nothing is checked out or run
    slower:initial   another model of its evaluation
    a,b,c            several runs that differ in the seed of training alone
    'repeat-*'       all experiments with such a name, as `make repeat` names them

Differences are paired: every resample draws the same documents for both. Nothing is written.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import stdev

import pandas as pd

from lib.commands.evaluations import DOCUMENTS, read_rev, run_in
from lib.commands.tools import run_dvc
from lib.evaluation.paired import Comparison, Run, compare
from lib.params import load_params
from lib.report.repeats import Repeats, mean_and_deviation
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.run.paths import RESULTS, SAMPLE, SHARDS


def load(names: str) -> list[Run]:
    """The runs of one side.

    Raises:
        UserError: there is no such model, experiment or evaluation.
    """
    found = [run for name in names.split(",") for run in _load(name.strip())]
    if len({run.length for run in found}) > 1:
        lengths = ", ".join(f"{run.label}: {run.length} tokens" for run in found)
        raise UserError(f"{names}: runs of one setting have sequences of one length ({lengths})")
    return found


def _load(name: str) -> list[Run]:
    if not name:
        raise UserError("A and B name a model or an experiment each: make compare A=main B=initial")
    if "*" in name:
        listed = run_dvc("exp", "list", "--name-only").split()
        chosen = [each for each in listed if fnmatchcase(each, name)]
        if not chosen:
            raise UserError(f"{name}: no experiment of the last commit has such a name")
        return [_of_rev(each, "") for each in sorted(chosen)]
    here = _workspace()
    model, _, length = name.partition("@") if re.search(r"@\d+$", name) else (name, "", "")
    if here and model in here[1]:
        return [run_in(here[0], model, length, f"{name} of the workspace")]
    if (Path(name) / "config.json").exists():
        return [_evaluated(Path(name))]
    rev, _, model = name.partition(":")
    if not rev:
        if not here:
            raise UserError(f"{DOCUMENTS}: no such file; run the pipeline first: dvc repro")
        return [_select(here[0], model, f"{model} of the workspace")]
    return [_of_rev(rev, model)]


def _of_rev(rev: str, model: str) -> Run:
    return _select(read_rev(rev), model, f"{rev}:{model}" if model else rev)


def _select(text: str, model: str, label: str) -> Run:
    name, _, length = model.partition("@")
    return run_in(text, name, length, label)


def _workspace() -> tuple[str, set[str]] | None:
    """documents.csv of the workspace, and the names of its models."""
    if not DOCUMENTS.exists():
        return None
    text = DOCUMENTS.read_text(encoding="utf-8")
    names = pd.read_csv(DOCUMENTS, usecols=["model"], dtype={"model": str})["model"]
    return text, set(names)


def _evaluated(folder: Path) -> Run:
    from lib.evaluation.folder import evaluate_folder  # TensorFlow, only where it is needed.

    params = load_params()
    length, totals = evaluate_folder(params, folder, SHARDS / "test", SAMPLE)
    return Run(f"{folder}, evaluated now", length, totals)


def report(a: Sequence[Run], b: Sequence[Run], found: Comparison, repeats: Repeats | None) -> str:
    """The comparison as text."""
    lines = [*_heading("A", a), *_heading("B", b)]
    common, in_a, in_b = found.documents
    words = f"{common:,} test documents with {found.words:,} masked words"
    if common < max(in_a, in_b):
        words += f": those in common, of {in_a:,} (A) and {in_b:,} (B)"
    lines += ["", words]
    if found.different:
        lines.append(f"in {found.different:,} of them not the same words could be masked")
    if a[0].length != b[0].length:
        lines.append("A and B were evaluated on sequences of different lengths")
    rows = []
    for difference in found.differences:
        relative = difference.relative
        rows.append(
            {
                "metric": difference.metric.label,
                "A": mean_and_deviation(difference.metric, difference.a),
                "B": mean_and_deviation(difference.metric, difference.b),
                "A - B": difference.written(difference.value),
                "95 % interval": difference.written_interval(),
                "A / B - 1": f"{relative[0]:+.2%}" if relative else "-",
                "interval": f"{relative[1]:+.2%} to {relative[2]:+.2%}" if relative else "-",
                "better": difference.better or "not known",
            }
        )
    table = pd.DataFrame(rows).to_markdown(index=False, tablefmt="simple", disable_numparse=True)
    lines += ["", str(table), ""]
    if found.missing:
        lines.append(f"not compared, because only one side has them: {', '.join(found.missing)}")
    return "\n".join([*lines, _about_seeds(a, b, found, repeats)])


def _heading(side: str, runs: Sequence[Run]) -> list[str]:
    names = ", ".join(run.label for run in runs)
    return [f"{side}  {names} (sequences of {runs[0].length} tokens)"]


def _about_seeds(
    a: Sequence[Run], b: Sequence[Run], found: Comparison, repeats: Repeats | None
) -> str:
    if len(a) + len(b) > 2:
        return (
            "The intervals of A - B include the variance over documents and over training seeds; "
            "those of A / B - 1 only that over documents."
        )
    text = (
        "The intervals show how much the differences depend on the test documents, not how much "
        "they depend on the training seed"
    )
    first = found.differences[0].metric
    values = repeats.values(first.name) if repeats else []
    if values:
        deviation = stdev(values)
        return (
            f"{text}: over {len(values)} seeds {first.label} has a standard deviation of "
            f"{format(deviation, first.format)} (results/repeats.json), and the difference of two "
            f"single runs one of {format(2**0.5 * deviation, first.format)}."
        )
    return f"{text}; `make repeat SEEDS=3` measures that."


def main() -> None:
    parser = new_parser("lib.commands.compare", __doc__)
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    options = parser.parse_args()
    a, b = load(options.a), load(options.b)
    found = compare(a, b, load_params().evaluate.seed)
    print(report(a, b, found, Repeats.read(RESULTS)))


if __name__ == "__main__":
    with one_line_errors("compare"):
        main()
