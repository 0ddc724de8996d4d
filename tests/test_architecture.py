"""ARCHITECTURE.md is true: its layers hold, its tree is complete, and there is no import circle."""

import re

from lib.run.code_digest import imports
from tests.conftest import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def modules() -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in ("lib", "stages")
        for path in (ROOT / folder).rglob("*.py")
    )


def package(module: str) -> str:
    """The package or module directly below lib; `stages` for a stage."""
    folder, _, rest = module.partition("/")
    return rest.partition("/")[0].removesuffix(".py") if folder == "lib" else folder


def layers() -> dict[str, int]:
    """The layer of each package, by the table."""
    rows = re.findall(r"^\| (\d) \| (.+) \|$", TEXT, re.MULTILINE)
    return {name: int(layer) for layer, names in rows for name in names.split(", ")}


def test_every_package_has_a_layer_and_is_in_the_tree():
    found = {package(module) for module in modules()} - {"stages", "__init__"}
    assert found == layers().keys()
    tree = TEXT.partition("```\n")[2].partition("```")[0]
    folders = {path.parent.name for path in (ROOT / "lib").rglob("*.py")} - {"lib"}
    assert [name for name in sorted(folders) if f"{name}/" not in tree] == []


def test_packages_import_from_lower_layers_only():
    layer = layers() | {"stages": 9, "__init__": 0}
    wrong = {
        f"{module} imports {imported}"
        for module in modules()
        for imported in imports(ROOT, module)
        if package(imported) != package(module)
        and layer[package(imported)] >= layer[package(module)]
    }
    assert sorted(wrong) == []


def test_there_is_no_import_circle():
    graph = {module: set(imports(ROOT, module)) for module in modules()}
    while leaves := {module for module, used in graph.items() if not used & graph.keys()}:
        for module in leaves:
            del graph[module]
    # What is left is in a circle, or imports one.
    assert sorted(graph) == []
