"""Which stages have results that no longer belong to params.yaml, to the text or to the model.

`dvc status` cannot be used for that: it refuses to work while a stage runs, and it names the stages
that changed, not those downstream of them. So this compares what `dvc.lock` recorded when each
stage finished with params.yaml, with the recorded outputs of the stages before it, and with the
files on disk. Example: `vocab.size` was changed and `dvc repro` was stopped while it made records.
Then the lock has vocab with the new size, records and pretrain with the MD5 of the old vocabulary,
and evaluate with the MD5 of the old model: these three are outdated.

Changed code does not make results outdated here (`dvc status` shows it).
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from lib.run import fingerprint
from lib.run.errors import UserError
from lib.run.paths import CODE, RESULTS
from lib.text.reading.input_digest import input_md5

OUTDATED = "outdated: params.yaml or an input has changed since its last run"
NOT_RECORDED = "unverified: not run by DVC, so it may belong to other parameters or text"

_FILES = ("dvc.yaml", "data/dvc.yaml", "probe/dvc.yaml")
_PARAMS = "params.yaml"
# The stage that checks params.yaml and lists code; it has no results.
_CHECK = "check"
# Files up to this many bytes in all are compared by content, others by number and size.
_MAX_HASHED = 64 * 2**20
_THREADS = 4

# Of a stage: `deps`, `outs` and `params` as dvc.lock has them, or as dvc.yaml declares them.
Stage = Mapping[str, Any]


def outdated_stages(root: Path) -> dict[str, str]:
    """Stages whose results are not current: name in dvc.yaml (`records@main`) -> reason.

    Args:
        root: the folder of the project.

    Raises:
        UserError: a YAML file of DVC is damaged.
    """
    params = _read(root / _PARAMS)
    locked: dict[str, Stage] = {}
    declared: dict[str, set[str]] = {}
    for file in _FILES:
        locked |= _read((root / file).with_suffix(".lock")).get("stages") or {}
        stages = _read(root / file).get("stages") or {}
        for name, deps in _declared_deps(stages, params).items():
            declared[name] = {_relative(root, dep) for dep in deps}
    declared.pop(_CHECK, None)
    outs = {
        out["path"]: (name, out)
        for name, stage in locked.items()
        if name in declared
        for out in stage.get("outs", ())
    }
    found = {}
    for name, deps in declared.items():
        if name not in locked or not _has_recorded_results(locked[name], root):
            found[name] = NOT_RECORDED
        elif not _is_current(locked[name], deps, params, outs, root):
            found[name] = OUTDATED
    _add_followers(found, declared, outs)
    return found


def _read(path: Path) -> dict[str, Any]:
    # YAML 1.2, which DVC reads: 2e-3 is a number, and `no` is a word.
    yaml = YAML(typ="safe", pure=True)
    try:
        return dict(yaml.load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
    except (YAMLError, ValueError) as failure:
        line = " ".join(str(failure).split())
        raise UserError(f"{path}: not valid YAML ({line}); fix it or restore it from git") from None


def _declared_deps(stages: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, set[str]]:
    """The dependencies of each stage by its full name, with the values of params.yaml in place."""
    found = {}
    for name, stage in stages.items():
        if "foreach" not in stage:
            found[name] = {_filled(dep, params) for dep in stage.get("deps", ())}
            continue
        for key, item in _lookup(params, stage["foreach"][2:-1]).items():
            values = {**params, "key": key, "item": item}
            deps = stage["do"].get("deps", ())
            found[f"{name}@{key}"] = {_filled(dep, values) for dep in deps}
    return found


def _filled(text: str, values: Mapping[str, Any]) -> str:
    """A path with `${a.b}` replaced by the value."""
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_lookup(values, found[1])), text)


def _relative(root: Path, path: str) -> str:
    """A path in one form: relative to the project, without `..` inside or a slash at its end."""
    return Path(os.path.relpath(root / path, root)).as_posix()


def _lookup(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key such as `vocab.size`; None if there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _has_recorded_results(stage: Stage, root: Path) -> bool:
    """Whether the results are those that DVC recorded, and not of a stage that was run by hand."""
    return all(
        _same_on_disk(root / out["path"], out)
        for out in stage.get("outs", ())
        if Path(out["path"]).parts[0] == RESULTS.name
    )


def _is_current(
    stage: Stage,
    declared: set[str],
    params: Mapping[str, Any],
    outs: Mapping[str, tuple[str, Mapping[str, Any]]],
    root: Path,
) -> bool:
    recorded = {_relative(root, dep["path"]): dep for dep in stage.get("deps", ())}
    if set(recorded) != declared:
        return False
    for key, value in stage.get("params", {}).get(_PARAMS, {}).items():
        if _lookup(params, key) != value:
            return False
    for path, dep in recorded.items():
        if CODE.as_posix() in (path, Path(path).parent.as_posix()):
            continue
        if path in outs and outs[path][1].get("md5") != dep.get("md5"):
            return False
        if not _same_on_disk(root / path, dep):
            return False
    return True


def _same_on_disk(path: Path, recorded: Mapping[str, Any]) -> bool:
    """Whether a file or folder is as recorded; one that is not on this machine counts as such."""
    if not path.exists():
        return True
    try:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        if size != recorded.get("size", size) or len(files) != recorded.get("nfiles", len(files)):
            return False
        if size > _MAX_HASHED or "md5" not in recorded:
            return True
        named = {file.relative_to(path).as_posix(): file for file in files}
        digest = fingerprint.of_file(path) if path.is_file() else input_md5(named, _THREADS)
    except FileNotFoundError:
        return False  # A stage is writing there.
    return bool(digest == recorded["md5"])


def _add_followers(
    found: dict[str, str],
    declared: Mapping[str, set[str]],
    outs: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> None:
    """Adds the stages that depend on an output of an outdated one."""
    sources = {name: set(_producers(deps, outs)) for name, deps in declared.items()}
    while followers := [
        name for name in sources if name not in found and sources[name] & found.keys()
    ]:
        found |= dict.fromkeys(followers, OUTDATED)


def _producers(deps: set[str], outs: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    for dep in deps:
        for path in (dep, *(parent.as_posix() for parent in Path(dep).parents)):
            if path in outs:
                yield outs[path][0]
