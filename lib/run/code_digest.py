"""Digests of each stage's code: a stage runs again only if a change can alter its outputs.

The stage `check` writes a listing per stage, data/code/<stage>.txt, on which the stage depends:

    lib/records/masking.py 3f2a9c41d07be6515c0e8f7b92d4a6e1
    lib/records/pairs.py   b81d…

A module is listed if the stage imports it, directly or through other modules, unless it is one of
`CANNOT_ALTER_OUTPUTS`. Its digest covers the syntax tree without docstrings, so that comments,
docstrings and formatting may change freely. A data file (`characters.json`) counts as code if a
listed module in the same folder has its name in a string.
"""

import ast
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Modules that no output depends on, each with its reason. tests/stages/test_updates.py runs the
# pipeline with all of them replaced by stubs, and compares every output.
CANNOT_ALTER_OUTPUTS = {
    "lib/params.py": "checks params.yaml; the values are dependencies of their own in dvc.yaml",
    "lib/report/page.py": "writes results/report.html, which is not an output of a stage",
    "lib/run/atomic.py": "decides when a file appears, not what is in it",
    "lib/run/attempts.py": "decides how often a failed task is retried",
    "lib/run/code_digest.py": "decides when a stage runs",
    "lib/run/contracts.py": "refuses metrics without the keys that later stages need",
    "lib/run/cost.py": "cost files, which are not an output",
    "lib/run/dask_pool.py": "decides where tasks run",
    "lib/run/dask_task.py": "decides where tasks run",
    "lib/run/errors.py": "error messages",
    "lib/run/pool.py": "decides where tasks run",
    "lib/run/progress.py": "progress lines",
    "lib/run/stage.py": "command line, error lines, cost files, resume or start at step 0",
    "lib/run/validation.py": "wording of errors about params.yaml",
    "lib/train/base_models.py": "refuses base models early; vocab and pretrain read them again",
    "lib/train/logging/event_files.py": "event files for TensorBoard, which are not an output",
    "lib/train/logging/throughput.py": "timings in results/cost",
    "lib/train/preemption.py": "decides when training stops early; a resumed run ends the same",
    "lib/train/saving/remote_copies.py": "copies of checkpoints in a bucket",
    "lib/train/saving/storage.py": "file operations of copies of checkpoints",
}

# Packages whose distributions have other names; to look them up takes most of a second.
_DISTRIBUTIONS = {"markdown_it": "markdown-it-py", "yaml": "pyyaml"}

ROOT = Path(__file__).resolve().parents[2]
"""The folder of this project's code."""
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def stages(root: Path) -> list[str]:
    """Names of the stages whose code is listed: all but `check` itself."""
    names = (path.stem for path in (root / "stages").glob("[!_]*.py"))
    return sorted(name for name in names if name != "check")


def listing(root: Path, stage: str) -> str:
    """Listing of a stage's code: a line per file, with its digest.

    Raises:
        SyntaxError: a module is not valid Python.
    """
    files = _with_data_files(root, closure(root, f"stages/{stage}.py"))
    width = max(map(len, files))
    return "".join(f"{file:<{width}} {_digest(root / file)}\n" for file in files)


def closure(root: Path, module: str) -> set[str]:
    """A module and all modules of lib and stages that it imports, except the excluded ones."""
    found: set[str] = set()
    pending = {module}
    while pending:
        path = pending.pop()
        found.add(path)
        pending |= set(imports(root, path)) - found - CANNOT_ALTER_OUTPUTS.keys()
    return found


def imports(root: Path, module: str) -> Iterator[str]:
    """Files in lib and stages that a module imports directly, with the `__init__` of packages."""
    for name in _contents((root / module).read_bytes())[0]:
        parts = name.split(".")
        if parts[0] not in ("lib", "stages"):
            continue
        files = ["/".join(parts) + ".py"]
        # Python also runs the `__init__` of every package in the path.
        files += ["/".join(parts[:count]) + "/__init__.py" for count in range(1, len(parts) + 1)]
        yield from (file for file in files if (root / file).is_file())


def module_digest(root: Path, module: str) -> str:
    """Digest of what the results of a module's functions depend on, apart from their arguments.

    It covers the code of the module and of all that it imports here (see `closure`), the versions
    of the packages that these import, and of Python, on which its Unicode tables depend.
    """
    modules = closure(root, module)
    imported = {name for each in modules for name in _contents((root / each).read_bytes())[0]}
    packages = {name.partition(".")[0] for name in imported}
    digest = hashlib.blake2b("Python {}.{}".format(*sys.version_info).encode(), digest_size=16)
    for file in _with_data_files(root, modules):
        content = (root / file).read_bytes()
        digest.update(f"\n{file} {len(content)}\n".encode() + content)
    for package in sorted(packages - {"lib", "stages"} - sys.stdlib_module_names):
        digest.update(f"\n{package} {_version(package)}".encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(package, package))
    except importlib.metadata.PackageNotFoundError:
        distributions = importlib.metadata.packages_distributions().get(package, [])
        return " ".join(map(importlib.metadata.version, distributions))


def _with_data_files(root: Path, modules: set[str]) -> list[str]:
    """Modules, and files in their folders whose names are strings in them, in sorted order."""
    files = set(modules)
    for module in modules:
        folder = Path(module).parent
        texts = _contents((root / module).read_bytes())[1]
        names = {path.name for path in (root / folder).iterdir() if path.is_file()}
        files |= {f"{folder}/{name}" for name in texts & names}
    return sorted(files)


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".py":
        content = _canonical(_tree(content)).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@cache
def _contents(source: bytes) -> tuple[list[str], set[str]]:
    """What a module imports (packages, modules and what is in them), and the strings in it."""
    imported: list[str] = []
    texts: set[str] = set()
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                texts.add(node.value)
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return imported, texts


@cache
def _tree(source: bytes) -> ast.Module:
    return ast.parse(source)


def _canonical(node: object) -> str:
    """Text of a syntax tree without docstrings and positions, the same for every Python version.

    Empty fields are left out, because newer versions of Python add new ones.
    """
    if isinstance(node, list):
        return "[" + ",".join(map(_canonical, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = fields["body"][1:]
    inner = ",".join(
        f"{name}={_canonical(value)}"
        for name, value in fields.items()
        if value not in (None, []) and name not in ("ctx", "kind", "type_comment")
    )
    return f"{type(node).__name__}({inner})"
