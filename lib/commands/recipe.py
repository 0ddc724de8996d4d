"""Recipes: small YAML files of params, set in params.yaml with its comments kept.

python -m lib.commands.recipe                              # which there are
python -m lib.commands.recipe qarib                        # recipes/qarib.yaml into ./params.yaml
python -m lib.commands.recipe qarib --scale tiny           # the same in minutes on two cores
python -m lib.commands.recipe smoke --in .scratch/smoke    # into a copy of the project

What recipes set and this one does not goes back to the demo's value, so that a recipe gives the
same whichever was there before; keys that no recipe sets stay yours. `git checkout params.yaml`
goes back to the last commit.
"""

import argparse
import difflib
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, CommentToken, RoundTripRepresenter, ScalarNode
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import CommentMark, MarkedYAMLError

from lib.commands.tiny_scale import TINY_BASE, shrunk
from lib.params import Params, load_params, parse_params
from lib.run.atomic import write_text
from lib.run.errors import UserError

_FOLDER = Path("recipes")
# Holds every key that some recipe sets, with the value that the project comes with.
_BELOW = _FOLDER / "demo.yaml"


def merge(into: Any, changes: Any) -> None:
    """Sets the keys of nested dicts `changes` in `into`, leaving its other keys."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def apply_recipe(recipe: Path, params: Path, scale: str | None = None) -> str:
    """Sets the demo's keys and then the recipe's in a params.yaml; `phases` are replaced whole.

    Args:
        scale: `tiny`: shrunk to minutes (see `lib.commands.tiny_scale`).

    Returns:
        The change of the file as a unified diff; empty, if there is none.

    Raises:
        UserError: the recipe is missing, or the result would not be valid.
    """
    before = params.read_text(encoding="utf-8")
    changes = _read(_BELOW)
    _lay(changes, _read(recipe))
    source = f"{params} with {recipe}"
    after, result = _changed(before, changes, source)
    if scale:
        merge(changes, shrunk(result))
        after, _ = _changed(before, changes, f"{source} at {scale} scale")
    write_text(params, after)
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, f"a/{params.name}", f"b/{params.name}", n=1))


def _changed(before: str, changes: Any, source: str) -> tuple[str, Params]:
    """The text of a params.yaml with keys set, and what it then says."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # Longer than any line here: comments stay where they are.
    yaml.representer.add_representer(type(None), _as_null)
    values = yaml.load(before)
    _lay(values, changes)
    buffer = io.StringIO()
    yaml.dump(values, buffer)
    after = buffer.getvalue()
    return after, parse_params(YAML(typ="safe").load(after), source)


def _as_null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
    # ruamel would leave the value out.
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _read(recipe: Path) -> Any:
    try:
        changes = YAML().load(recipe.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{recipe}: no such file; see the folder recipes") from None
    except MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1
        raise UserError(f"{recipe} line {line}: {failure.problem}; mend the YAML there") from None
    if not isinstance(changes, dict):
        raise UserError(f"{recipe}: should hold sections such as `records:`")
    return changes


def _lay(values: Any, changes: Any) -> None:
    """Merges, but for phases: those of `values` go, unless they are the same."""
    phases = changes.get("phases")
    _set(values, {key: value for key, value in changes.items() if key != "phases"})
    if phases is None or _named(phases) == _named(values.get("phases") or {}):
        return
    # What stands behind the old ones (a blank line, a comment on what follows) stays.
    behind = _behind(values.get("phases"))
    new = _plain_map(phases)
    values["phases"] = new
    if behind:
        last = list(new.values())[-1]
        mark = CommentMark(0)
        last.ca.items[list(last)[-1]] = [None, None, CommentToken(behind, mark, mark), None]


def _set(into: Any, changes: Any) -> None:
    """Merges, but what is equal stays as it is written."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _set(into[key], value)
        elif key not in into or into[key] != value:
            into[key] = value


def _named(phases: Any) -> dict[str, dict[str, Any]]:
    """Keys of each phase; null is the same as left out."""
    return {
        name: {key: value for key, value in phase.items() if value is not None}
        for name, phase in phases.items()
    }


def _plain_map(values: Any) -> CommentedMap:
    """The same without comments, a key a line."""
    new = CommentedMap()
    for key, value in values.items():
        new[key] = _plain_map(value) if isinstance(value, dict) else value
    return new


def _behind(values: Any) -> str:
    """What follows the line of the last key below `values`: line breaks and comments."""
    found = ""
    while isinstance(values, CommentedMap) and values:
        last = list(values)[-1]
        token = (values.ca.items.get(last) or [None] * 3)[2]
        if token and "\n" in token.value:
            found = token.value[token.value.index("\n") :]
        values = values[last]
    return found


def recipes() -> dict[str, str]:
    """The first line of each recipe's comment, by its name."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for path in sorted(_FOLDER.glob("*.yaml"))
    }


def find_recipe(name: str) -> Path:
    """The file of a recipe, by its name or its path.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    if path.suffix == ".yaml":
        return path
    path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no recipe is called {name!r}; there are: {', '.join(recipes())}")
    return path


def missing(params: Params, name: str) -> list[str]:
    """What has to be there before `dvc repro` and is not, each as a line with the command."""
    lines = []
    text = params.preprocess.input
    if text != "data/demo" and not Path(text).exists():
        lines.append(
            f"{text} is not there yet: put your text there and `dvc add {text}`, or "
            f"`make recipe-text NAME={name}` for made text of its kind"
        )
    places = [params.vocab.base, *(phase.init for phase in params.phases.values())]
    for place in dict.fromkeys(place for place in places if place.startswith("models/base/")):
        if not Path(place).exists():
            command = f"import MODEL={place.removeprefix('models/base/')}"
            command = "tiny-base" if place == TINY_BASE else command
            lines.append(f"{place} is not there yet: `make {command}`")
    return lines


def copy_project(target: Path) -> None:
    """A copy of the project (what git tracks or would track) with a DVC repository of its own.

    What an earlier copy left there (outputs, DVC's cache) stays, so that a second run only does
    what changed.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = Path(name)
        # dvc.lock tells what the original's outputs are; the copy has none of them.
        if source.is_file() and source.name != "dvc.lock" and source.parts[0] != "results":
            (target / source.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / source)
    config = target / ".dvc/config"
    if "no_scm" not in config.read_text(encoding="utf-8"):
        subprocess.run(["dvc", "config", "core.no_scm", "true"], cwd=target, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.recipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", nargs="?", help="its name, or a YAML file of params")
    parser.add_argument("--scale", choices=["tiny"], help="shrunk to minutes on two cores")
    parser.add_argument(
        "--in",
        dest="target",
        type=Path,
        metavar="FOLDER",
        help="apply it in a copy of the project there, without showing the change",
    )
    arguments = parser.parse_args()
    try:
        if not arguments.recipe:
            print("\n".join(f"{name:16}{about}" for name, about in recipes().items()))
            return
        recipe = find_recipe(arguments.recipe)
        if arguments.target:
            copy_project(arguments.target)
            apply_recipe(recipe, arguments.target / "params.yaml", arguments.scale)
            return
        _apply_here(recipe, arguments.scale)
    except UserError as error:
        sys.exit(f"recipe: error: {error}")


def _apply_here(recipe: Path, scale: str | None) -> None:
    params = Path("params.yaml")
    change = apply_recipe(recipe, params, scale)
    print(change, end="")
    what = f"{recipe.stem} at {scale} scale" if scale else recipe.stem
    done = f"params.yaml is now {what}" if change else f"params.yaml was {what} already"
    print(f"recipe: {done}; `git checkout params.yaml` goes back to the last commit")
    for line in missing(load_params(params), recipe.stem):
        print(f"recipe: note: {line}")


if __name__ == "__main__":
    main()
