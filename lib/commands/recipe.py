"""Recipes: sets of parameters in small YAML files, applied to params.yaml with its comments kept.

python -m lib.commands.recipe                              # list the recipes
python -m lib.commands.recipe qarib                        # apply recipes/qarib.yaml to params.yaml
python -m lib.commands.recipe qarib --scale tiny           # scaled down to minutes on two cores
python -m lib.commands.recipe smoke --in .scratch/smoke    # apply it in a copy of the project

Keys that only other recipes set are reset to the demo's values, so that the result does not depend
on which recipe was applied before. Keys that no recipe sets stay as they are. `git checkout
params.yaml` undoes it.
"""

import difflib
import io
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, CommentToken
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import CommentMark, MarkedYAMLError

from lib.commands.tiny_scale import TINY_BASE, tiny_changes
from lib.commands.tools import run_dvc, run_git
from lib.params import Params, load_params, parse_params
from lib.run.atomic import write_text
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError

_FOLDER = Path("recipes")
# Every key that any recipe sets, with its value in the params.yaml under version control.
_DEFAULTS = _FOLDER / "demo.yaml"


def merge(into: Any, changes: Any) -> None:
    """Deep merge of nested dicts: sets the keys of `changes` in `into`, which keeps its others.

    Equal values stay as they are written (2e-3, quotes).
    """
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif key not in into or into[key] != value:
            into[key] = value


def apply_recipe(recipe: Path, params: Path, scale: str | None = None) -> str:
    """Writes the demo's values and then the recipe's into a params.yaml.

    `phases` is replaced as a whole: phases that the recipe does not name are removed.

    Args:
        scale: `tiny` scales the run down to minutes (see `lib.commands.tiny_scale`).

    Returns:
        A unified diff of the file; empty if nothing changed.

    Raises:
        UserError: the recipe is missing, or the result would not be valid. The file is unchanged.
    """
    before = params.read_text(encoding="utf-8")
    changes = _read(_DEFAULTS)
    _merge_recipe(changes, _read(recipe))
    source = f"{params} with {recipe}"
    after, result = edit_params(before, changes, source)
    if scale:
        merge(changes, tiny_changes(result))
        after, _ = edit_params(before, changes, f"{source} at {scale} scale")
    write_text(params, after)
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, f"a/{params.name}", f"b/{params.name}", n=1))


def edit_params(before: str, changes: Any, source: str) -> tuple[str, Params]:
    """The text of a params.yaml after `changes`, with its comments, and its parsed parameters.

    Args:
        source: name of the file in error messages.

    Raises:
        UserError: the result is not valid.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # Longer than any line, so that no line is wrapped.
    # By default ruamel writes nothing after the colon.
    yaml.representer.add_representer(
        type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    values = yaml.load(before)
    _merge_recipe(values, changes)
    buffer = io.StringIO()
    yaml.dump(values, buffer)
    after = buffer.getvalue()
    return after, parse_params(YAML(typ="safe").load(after), source)


def _read(recipe: Path) -> Any:
    try:
        changes = YAML().load(recipe.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{recipe}: no such file; `make recipe` lists the recipes") from None
    except MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1
        raise UserError(f"{recipe} line {line}: {failure.problem}; fix the YAML there") from None
    if not isinstance(changes, dict):
        raise UserError(f"{recipe}: should hold sections such as `records:`")
    return changes


def _merge_recipe(values: Any, changes: Any) -> None:
    """Merges `changes` into `values`; different `phases` replace those of `values` altogether."""
    phases = changes.get("phases")
    merge(values, {key: value for key, value in changes.items() if key != "phases"})
    if phases is None or _non_null(phases) == _non_null(values.get("phases") or {}):
        return
    # ruamel attaches what follows a section (a blank line, the next section's comment) to the
    # section's last key: move it to the last key of the new phases.
    trailing = _trailing_comment(values.get("phases"))
    new = _without_comments(phases)
    values["phases"] = new
    if trailing:
        last = list(new.values())[-1]
        mark = CommentMark(0)
        last.ca.items[list(last)[-1]] = [None, None, CommentToken(trailing, mark, mark), None]


def _non_null(phases: Any) -> dict[str, dict[str, Any]]:
    """Phases without their null keys, which mean the same as keys left out."""
    return {
        name: {key: value for key, value in phase.items() if value is not None}
        for name, phase in phases.items()
    }


def _without_comments(values: Any) -> CommentedMap:
    """A copy in block style (one key per line), without comments."""
    new = CommentedMap()
    for key, value in values.items():
        new[key] = _without_comments(value) if isinstance(value, dict) else value
    return new


def _trailing_comment(values: Any) -> str:
    """Line breaks and comments that follow the last line of a section."""
    found = ""
    while isinstance(values, CommentedMap) and values:
        last = list(values)[-1]
        token = (values.ca.items.get(last) or [None] * 3)[2]
        if token and "\n" in token.value:
            found = token.value[token.value.index("\n") :]
        values = values[last]
    return found


def recipes() -> dict[str, str]:
    """Recipe names with the first line of each file, which describes it."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for path in sorted(_FOLDER.glob("*.yaml"))
    }


def find_recipe(name: str) -> Path:
    """The file of a recipe, given its name or the path of a YAML file.

    Raises:
        UserError: no recipe has that name.
    """
    path = Path(name)
    if path.suffix == ".yaml":
        return path
    path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no recipe is called {name!r}; there are: {', '.join(recipes())}")
    return path


def missing(params: Params, name: str) -> list[str]:
    """Missing inputs of `dvc repro` (text, base models), one line each with the command to run."""
    lines = []
    text = params.preprocess.input
    if text != "data/demo" and not Path(text).exists():
        lines.append(
            f"{text} does not exist yet: put your text there and run `dvc add {text}`, or "
            f"`make recipe-text NAME={name}` for synthetic text of the recipe's kind"
        )
    models = [params.vocab.base, *(phase.init for phase in params.phases.values())]
    for model in dict.fromkeys(model for model in models if model.startswith("models/base/")):
        if not Path(model).exists():
            command = f"import MODEL={model.removeprefix('models/base/')}"
            command = "tiny-base" if model == TINY_BASE else command
            lines.append(f"{model} does not exist yet: run `make {command}`")
    return lines


def copy_project(target: Path) -> None:
    """Copies the project (the files that git tracks or would track) as a DVC project of its own.

    Outputs and DVC's cache of an earlier copy stay, so that a second run only does what changed.

    Raises:
        UserError: the project is not in a git repository.
    """
    listed = run_git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source = Path(name)
        # Neither the lock nor the results: they describe outputs that the copy does not have.
        if source.is_file() and source.name != "dvc.lock" and source.parts[0] != "results":
            (target / source.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / source)
    config = target / ".dvc/config"
    if "no_scm" not in config.read_text(encoding="utf-8"):
        run_dvc("config", "core.no_scm", "true", folder=target)


def main() -> None:
    parser = new_parser("lib.commands.recipe", __doc__)
    parser.add_argument("recipe", nargs="?", help="name of a recipe, or the path of a YAML file")
    parser.add_argument(
        "--scale", choices=["tiny"], help="scale the run down to minutes on two cores"
    )
    parser.add_argument(
        "--in",
        dest="target",
        type=Path,
        metavar="FOLDER",
        help="apply the recipe in a copy of the project in FOLDER, without showing the diff",
    )
    arguments = parser.parse_args()
    if not arguments.recipe:
        print("\n".join(f"{name:21}{about}" for name, about in recipes().items()))
        return
    recipe, scale = find_recipe(arguments.recipe), arguments.scale
    if arguments.target:
        copy_project(arguments.target)
        apply_recipe(recipe, arguments.target / "params.yaml", scale)
        return
    params = Path("params.yaml")
    change = apply_recipe(recipe, params, scale)
    print(change, end="")
    name = f"{recipe.stem} at {scale} scale" if scale else recipe.stem
    done = f"applied {name} to params.yaml" if change else f"params.yaml already matches {name}"
    print(f"recipe: {done}; `git checkout params.yaml` restores the last commit's")
    if scale:
        print(
            "recipe: note: at tiny scale a run shows that all stages work on your text; so small a "
            "model learns little in so few steps"
        )
    for line in missing(load_params(params), recipe.stem):
        print(f"recipe: note: {line}")


if __name__ == "__main__":
    with one_line_errors("recipe"):
        main()
