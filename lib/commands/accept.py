"""Keeps finished outputs when only the code has changed: `make accept`.

After an update of this project `dvc repro` runs every stage whose code changed, and trains again.
CHANGELOG.md says which stages' results differ between versions. If yours do not, or if the old
model is good enough, this marks the present outputs as up to date with the new code. It does so for
stages that differ from their last run only in code, or in new parameters that have the values by
which earlier versions worked. Others are listed and left as they are.

Training that was interrupted is resumed with the new code then, and a finished run can be continued
with it (`make continue`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lib.commands.tools import run_dvc
from lib.params import Params, load_params
from lib.run.command import new_parser, one_line_errors
from lib.run.paths import CODE, DEMO, PHASES, STATES, VOCAB
from lib.run.phases import own_values
from lib.train.saving import accepted_code, checkpoint, identity, kept_state, run_record, runs


def main() -> None:
    new_parser("lib.commands.accept", __doc__).parse_args()
    params = load_params()
    run_dvc("repro", "-q", "check")
    add_missing_states(params)
    accepted = 0
    left: dict[str, list[str]] = {}
    files = ["dvc.yaml", "probe/dvc.yaml"]
    # Elsewhere the demo corpus is not made, and its stage always counts as changed.
    files += ["data/dvc.yaml"] if Path(params.preprocess.input) == DEMO else []
    stages = _locked_stages()
    for stage, changes in json.loads(run_dvc("status", "--json", *files)).items():
        locked = stages.get(stage, {}).get("params", {}).get("params.yaml", {})
        same = _with_the_vocabulary(stage, stages)
        if reasons := other_changes(changes, params, locked, same):
            left[stage] = reasons
        else:
            run_dvc("commit", "-q", "-f", stage)
            print(f"accept: {stage}: its outputs are kept")
            accepted += 1
    for line in accept_runs():
        print(line)
        accepted += 1
    for stage, reasons in left.items():
        print(f"accept: {stage}: will run again, since it differs in more than code: ", end="")
        print(", ".join(reasons))
    if not accepted and not left:
        print("accept: nothing to accept: no stage differs from its last run")


def _locked_stages() -> dict[str, Any]:
    """The stages of the pipeline as they were run, by name."""
    lock = Path("dvc.lock")
    return yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}


def _with_the_vocabulary(stage: str, stages: Mapping[str, Any]) -> bool:
    """Whether a stage that depended on all of data/vocab was run with the present one."""

    def md5(stage: str, kind: str) -> str | None:
        found = stages.get(stage, {}).get(kind, [])
        return next((each.get("md5") for each in found if each["path"] == str(VOCAB)), None)

    before = md5(stage, "deps")
    return before is not None and before == md5("vocab", "outs")


def add_missing_states(params: Params) -> None:
    """Gives models of a version that kept no states the output that says so."""
    stages = _locked_stages()
    for name in params.phases:
        stage = stages.get(f"pretrain@{name}")
        if stage and str(STATES / name) not in [out["path"] for out in stage["outs"]]:
            kept_state.write_nothing(STATES / name)


def accept_runs() -> Iterator[str]:
    """Lets runs in scratch, and states that are outputs, be used with the present training code.

    Yields:
        A line per run.
    """
    code = identity.training_code()
    for run in runs.all_runs():
        old = run_record.code_of(run)
        if old and not accepted_code.is_accepted(old, code):
            accepted_code.accept(old, code)
        if old and old != code:
            last = max(checkpoint.steps(run), default=0)
            what, then = "unfinished run", "resumed"
            if run.name == runs.FINISHED:
                what, then = "finished run", "continued (make continue)"
            yield f"accept: phase {run.parent.name}: its {what} of {last:,} steps can be {then}"
    for state in sorted(STATES.glob("*/")):
        old = run_record.code_of(state)
        if old and not accepted_code.is_accepted(old, code):
            accepted_code.accept(old, code)
            yield f"accept: {state}: a longer run of the phase can go on from it"


def other_changes(
    changes: Iterable[Any],
    params: Params,
    locked: Mapping[str, Any] | None = None,
    same_vocabulary: bool = False,
) -> list[str]:
    """What differs in a stage besides its code, as `dvc status --json` shows it.

    Args:
        changes: of one stage: strings such as "changed command", or {"changed deps": {path: how}},
            where `how` for params.yaml is {key: "modified", "deleted" or "new"}.
        locked: values of the stage's parameters in its last run, by key.
        same_vocabulary: the stage depended on the folder of the vocabulary, where it now depends on
            files in it, and the folder is as it was.

    Returns:
        Paths and keys; none if only the code changed.
    """
    found = []
    for change in changes:
        if not isinstance(change, dict):
            # A command has no values of the user's: it is code.
            found += [] if change == "changed command" else [str(change)]
            continue
        for kind, entries in change.items():
            for path, how in entries.items():
                if isinstance(how, dict):
                    found += [
                        key
                        for key, state in how.items()
                        if not _is_as_before(key, state, params, (locked or {}).get(key))
                    ]
                elif Path(path).parent == STATES and how in ("new", "modified"):
                    # It was added by `add_missing_states`.
                    found += [path] if kept_state.has_state(Path(path)) else []
                elif same_vocabulary and Path(path).parent == VOCAB and how == "new":
                    continue
                elif kind != "changed deps" or not _is_code(path, how, params):
                    found.append(path)
    return found


def _is_code(path: str, state: str, params: Params) -> bool:
    """Whether a dependency is code, or new with the code: what a phase overrides, if nothing."""
    if Path(path).parent == PHASES:
        phase = params.phases.get(Path(path).stem)
        return state == "new" and phase is not None and not own_values(params.records, phase)
    return path.startswith(f"{CODE}/")


def _is_as_before(key: str, state: str, params: Params, locked: object) -> bool:
    """Whether a parameter is one that the last run did not know yet, with the value it had then.

    Args:
        key: of a parameter, or of a section all of whose keys a stage uses.
        locked: its value in the last run.
    """
    values: Any = params.model_dump()
    before: Any = Params(phases=params.phases).model_dump()
    before["pretrain"]["initialization"] = "normal"
    before["pretrain"]["model"]["architecture"] = "bert"
    if not params.records.next_sentence:
        before["records"]["whole_sentences"] = True
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values or part not in before:
            return False
        values, before = values[part], before[part]
    if state == "modified" and isinstance(values, dict) and isinstance(locked, dict):
        # The last run may not have known some keys of the section; those it knew are as they were.
        return bool(values == {**before, **locked})
    return state == "new" and bool(values == before)


if __name__ == "__main__":
    with one_line_errors("accept"):
        main()
