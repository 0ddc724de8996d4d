"""Recipes: small YAML files of params, merged into params.yaml with its comments kept.

python -m lib.recipe recipes/smoke.yaml                    # into ./params.yaml
python -m lib.recipe recipes/smoke.yaml --in .scratch/smoke   # into a copy of the project
"""

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lib.params import parse_params
from lib.run.atomic import write_text
from lib.run.errors import UserError


def merge(into: Any, changes: Any) -> None:
    """Sets the keys of nested dicts `changes` in `into`, leaving its other keys."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def apply_recipe(recipe: Path, params: Path) -> None:
    """Sets the recipe's keys in a params.yaml.

    Raises:
        UserError: the recipe is missing, or the result would not be valid.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # Longer than any line here: comments stay where they are.
    try:
        changes = yaml.load(recipe.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{recipe}: no such file; see the folder recipes") from None
    values = yaml.load(params.read_text(encoding="utf-8"))
    merge(values, changes)
    buffer = io.StringIO()
    yaml.dump(values, buffer)
    parse_params(YAML(typ="safe").load(buffer.getvalue()), f"{params} with {recipe}")
    write_text(params, buffer.getvalue())


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
        prog="python -m lib.recipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="YAML file of params")
    parser.add_argument(
        "--in",
        dest="target",
        type=Path,
        metavar="FOLDER",
        help="apply it in a copy of the project there",
    )
    arguments = parser.parse_args()
    try:
        if arguments.target:
            copy_project(arguments.target)
        apply_recipe(arguments.recipe, (arguments.target or Path()) / "params.yaml")
    except UserError as error:
        sys.exit(f"recipe: error: {error}")


if __name__ == "__main__":
    main()
