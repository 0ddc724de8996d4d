"""Evaluations of experiments and commits, read from DVC's cache: nothing is checked out or run."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib.commands.tools import one_line, run_dvc
from lib.evaluation.paired import Run, runs_of
from lib.params import parse_params
from lib.run.errors import UserError
from lib.run.fingerprint import of_values
from lib.run.paths import CODE, RESULTS

DOCUMENTS = Path("results/evaluate/documents.csv")
_METRICS = "results/evaluate/metrics.json"
# Training draws from it: initial weights, the order of sequences, dropout, and with
# `records.masking: dynamic` the masks.
SEED = "pretrain.seed"
# Dependencies that decide nothing beyond data/code and the parameters.
_CHECKED = ("lib", "stages", "params.yaml")


@dataclass(frozen=True)
class Experiment:
    """A commit or an experiment in the table of `dvc exp show`.

    Attributes:
        name: of the experiment or branch; else the commit.
        rev: the commit that holds it.
        state: empty if it has finished; `queued`, `running`, `failed`, or `no results`.
        params: parameters by dotted key, only those that can affect a result.
        code: a digest of the code of the stages.
        text: a digest of what else the pipeline does not make itself: raw text, base models.
        metrics: those of evaluate; empty without results.
        all_metrics: those of all stages, nested ones by dotted key.
        documents: MD5 of its documents.csv; None if it has none.
    """

    name: str
    rev: str
    state: str
    params: Mapping[str, Any]
    code: str
    text: str
    metrics: Mapping[str, Any]
    all_metrics: Mapping[str, Any]
    documents: str | None

    def setting(self) -> tuple[str, str, str]:
        """What its repeated runs have in common: everything but the seed of training."""
        params = {key: value for key, value in self.params.items() if key != SEED}
        return json.dumps(params, sort_keys=True), self.code, self.text


def experiments(options: Sequence[str] = ()) -> list[Experiment]:
    """The experiments of the last commit, and the commit itself.

    Args:
        options: of `dvc exp show`, such as `-A` for all commits.

    Raises:
        UserError: dvc failed, or an option is unknown to it.
    """
    shown = run_dvc("exp", "show", "--json", "--hide-workspace", *options)
    relevant = _relevant_keys()
    found = []
    for commit in json.loads(shown):
        found.append(_experiment(commit, "", relevant))
        for entry in commit["experiments"] or ():
            state = (entry["executor"] or {}).get("state", "")
            state = "" if state == "success" else state
            found.append(
                _experiment({"name": entry["name"], **_last(entry["revs"])}, state, relevant)
            )
    return found


def _last(revs: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    # The newest commit comes first, where an experiment has several.
    newest = revs[0] if revs else {"rev": ""}
    return {key: value for key, value in newest.items() if key != "name" or value}


def _experiment(shown: Mapping[str, Any], state: str, relevant: "re.Pattern[str]") -> Experiment:
    data = shown.get("data") or {}
    files = data.get("metrics") or {}
    metrics = {} if state else (files.get(_METRICS) or {}).get("data") or {}
    outs, deps = data.get("outs") or {}, data.get("deps") or {}
    documents = (outs.get(DOCUMENTS.as_posix()) or {}).get("hash") if metrics else None
    others = {
        name: value
        for file in files.values()
        for name, value in _flat((file or {}).get("data") or {})
        if not state
    }
    params = _params((data.get("params") or {}).get("params.yaml", {}).get("data") or {})
    sources = {
        path: str(dep.get("hash"))
        for path, dep in deps.items()
        if path not in _CHECKED and not _is_made(path, outs)
    }
    return Experiment(
        shown.get("name") or shown["rev"][:7],
        shown["rev"],
        state or ("" if metrics else "no results"),
        {key: value for key, value in params.items() if relevant.fullmatch(key)},
        of_values({path: own for path, own in sources.items() if CODE in Path(path).parents}),
        of_values({path: own for path, own in sources.items() if CODE not in Path(path).parents}),
        metrics,
        others | dict(_flat(metrics)),
        documents,
    )


def _is_made(path: str, outs: Mapping[str, Any]) -> bool:
    """Whether the pipeline makes a dependency; the listings of code count as sources."""
    parents = {parent.as_posix() for parent in (Path(path), *Path(path).parents)}
    return CODE not in Path(path).parents and bool(parents & {*outs, RESULTS.as_posix()})


def _relevant_keys() -> "re.Pattern[str]":
    """Matches the parameters that dvc.yaml names: as parameters of a stage, or in a dependency."""
    keys: set[str] = set()
    for name in ("dvc.yaml", "data/dvc.yaml"):
        declared = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        for stage in declared["stages"].values():
            stage = stage.get("do", stage)
            keys |= {key for key in stage.get("params", ()) if isinstance(key, str)}
            keys |= set(re.findall(r"\$\{([^}]+)\}", " ".join(map(str, stage.get("deps", ())))))
    # `phases.${key}` are all phases.
    roots = {re.sub(r"\.?\$\{.*", "", key) for key in keys}
    return re.compile("|".join(rf"{re.escape(root)}(\..*)?" for root in sorted(roots) if root))


def _params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys, with values of their declared types, and defaults of keys that were unknown."""
    try:
        typed = parse_params(dict(values), "params.yaml").model_dump()
        return dict(_flat(values)) | dict(_flat(typed))
    except UserError:  # Of another version.
        return dict(_flat(values))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def evaluation_of(experiment: Experiment) -> Run | None:
    """The evaluation of the experiment's own model, from the cache or from the remote.

    None if there is none that can be read.
    """
    if not experiment.documents:
        return None
    path = Path(_cache().oid_to_path(experiment.documents))
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else read_rev(experiment.rev)
        return run_in(text, "", "", experiment.name)
    except UserError:
        return None


@cache
def _cache() -> Any:
    from dvc.repo import Repo  # Here, because it takes half a second.

    return Repo().cache.local


def read_rev(rev: str) -> str:
    """The documents.csv of a commit, branch, tag or experiment.

    Raises:
        UserError: there is no such revision, or it has no evaluation.
    """
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        return str(dvc.api.read(DOCUMENTS.as_posix(), rev=rev, encoding="utf-8"))
    except DvcException as failure:
        if "unknown Git revision" in str(failure):
            raise UserError(
                f"{rev}: neither an evaluated model of the workspace, nor a folder with a model, "
                "nor an experiment, branch or commit; `dvc exp list` lists experiments"
            ) from None
        raise UserError(
            f"{rev}: has no {DOCUMENTS} ({one_line(failure)}); it has not finished, or was "
            "evaluated by an older version: run it again with `dvc exp run`"
        ) from None


def run_in(text: str, model: str, length: str, label: str) -> Run:
    """One evaluated model in a documents.csv.

    Args:
        model, length: empty: the first one, which is the phase's own at its own length.

    Raises:
        UserError: it has no such model.
    """
    found = runs_of(pd.read_csv(StringIO(text), dtype={"document": str, "model": str}))
    for name, tokens, totals in found:
        if model in ("", name) and length in ("", str(tokens)):
            return Run(label, tokens, totals)
    names = ", ".join(f"{name}@{tokens}" for name, tokens, _ in found)
    wanted = f"{model}@{length}" if length else model
    raise UserError(
        f"{label}: {wanted} was not evaluated; there are {names or 'none'}; for more set "
        "evaluate.saved_models and evaluate.lengths"
    )
