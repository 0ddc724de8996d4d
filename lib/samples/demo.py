"""The demo corpus: English technical prose from the documentation of the installed packages.

Docstrings of the standard library and of locked packages, and Python's help topics, are parsed
(nothing is imported), reduced to prose and written to one text file per source: a paragraph per
line, a blank line after each document. A document is a module or a help topic.

The bytes depend only on the versions of Python and the packages, and on `max_bytes`: modules are
identified by dotted names, not paths, and ordered by hashes of these names.
"""

import ast
import hashlib
import importlib.util
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lib.run.atomic import new_file, remove
from lib.run.errors import UserError
from lib.samples.docstrings import paragraphs_of, reason_to_drop

STANDARD_LIBRARY = "<standard-library>"
HELP_TOPICS = "<help-topics>"


@dataclass(frozen=True)
class Source:
    """One file of the corpus.

    Attributes:
        weight: its fraction of the bytes, relative to the weights of the others.
        packages: names under which packages are imported, separated by spaces.
    """

    name: str
    weight: int
    packages: str


# Bytes that a source cannot fill go to later ones. So the small sources come first, and text that
# two packages share stays in the smaller one.
SOURCES = (
    Source("topics", 1, HELP_TOPICS),
    Source("dvc", 1, "dvc dvc_data dvc_objects dvclive scmrepo"),
    Source("pydantic", 1, "pydantic pydantic_settings"),
    Source("storage", 1, "diskcache fsspec gcsfs h5py"),
    Source("git", 2, "dulwich git pygit2"),
    Source(
        "network", 4, "aiohttp asyncssh celery cryptography grpc kombu oauthlib requests urllib3"
    ),
    Source(
        "tools",
        4,
        "absl attr click dateutil filelock hydra omegaconf packaging pathspec "
        "prompt_toolkit psutil pygments pyparsing rich setuptools tqdm wcwidth "
        "wrapt",
    ),
    Source("keras", 4, "keras opt_einsum optree"),
    Source("networkx", 4, "networkx"),
    Source("numpy", 4, "numpy"),
    Source("stdlib", 5, STANDARD_LIBRARY),
    Source("pandas", 4, "pandas"),
    Source("tensorflow", 6, "tensorflow"),
)

# Tests, tables, copies of other packages (tensorflow/python/keras is an old keras), and parts of
# the standard library that some distributions leave out: all builds of a Python version should give
# the same text.
_SKIPPED_FOLDERS = re.compile(
    r"__pycache__|_api|_vendor|dist-packages|distutils|encodings|ensurepip|idlelib|keras|lib2to3|"
    r"pydoc_data|site-packages|tests?|tkinter|turtledemo|vendored"
)
_SKIPPED_FILES = re.compile(r"(_sysconfigdata.*|turtle|test_.*|.*_test|conftest|__config__)\.py")

# A document needs a few paragraphs for next sentence prediction.
_MIN_PARAGRAPHS = 3
# A document gets at most a quarter of the bytes of its source, so that a small corpus stays mixed.
_MAX_DOCUMENT_DIVISOR = 4

# --- From packages to documents

Document = tuple[str, Callable[[], Iterable[str]]]  # its name, and a function that reads docstrings


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Docstrings of a module and of all that it defines outside of functions, in order."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield docstring
    if isinstance(node, ast.Module | ast.ClassDef | ast.If | ast.Try):
        for child in [*node.body, *getattr(node, "orelse", [])]:
            yield from _docstrings(child)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value  # numpy: add_newdoc(module, name, docstring or (method, docstring))
        if isinstance(call.func, ast.Name) and call.func.id == "add_newdoc":
            for constant in ast.walk(call.args[-1]):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    yield constant.value


def _read_module(path: Path) -> list[str]:
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        return list(_docstrings(ast.parse(source)))
    except (SyntaxError, ValueError):  # a template, or code for another version of Python
        return []


def _modules(package: str) -> Iterator[Document]:
    """Modules of a package, found without importing it."""
    if package == STANDARD_LIBRARY:
        root, prefix = Path(sysconfig.get_paths()["stdlib"]), ""
    else:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"{package}: not installed, but the demo corpus is made from it; "
                "install the packages of requirements.lock"
            )
        root, prefix = Path(spec.submodule_search_locations[0]), f"{package}."
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not _SKIPPED_FOLDERS.fullmatch(name)]
        for file in files:
            path = Path(folder, file)
            if path.suffix == ".py" and not _SKIPPED_FILES.fullmatch(file):
                name = ".".join(path.relative_to(root).with_suffix("").parts)
                yield prefix + name, partial(_read_module, path)


def _topics() -> Iterator[Document]:
    """Python's help topics: the literal dict in the source of `pydoc_data.topics`."""
    path = Path(sysconfig.get_paths()["stdlib"], "pydoc_data", "topics.py")
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign):
            topics: dict[str, str] = ast.literal_eval(node.value)
            for name, text in topics.items():
                yield name, partial(list, [text])


def _documents(source: Source) -> list[Document]:
    """All documents of a source, ordered by hashes of their names.

    So the order is always the same, and the first part of a package is a fair sample of it.
    """
    documents = [
        document
        for package in source.packages.split()
        for document in (_topics() if package == HELP_TOPICS else _modules(package))
    ]
    return sorted(
        documents,
        key=lambda document: (hashlib.blake2b(document[0].encode()).digest(), document[0]),
    )


# --- From documents to files


def _key(paragraph: str) -> bytes:
    """Key that duplicate paragraphs share: a hash of their words without case and punctuation."""
    words = re.sub(r"\W+", " ", paragraph).strip().casefold()
    return hashlib.blake2b(words.encode(), digest_size=16).digest()


def _fill(
    documents: Iterable[Document], quota: int, counts: Counter[str], seen: set[bytes]
) -> Iterator[bytes]:
    """As many documents as fit into `quota` bytes, encoded as they are written.

    Args:
        counts: gets the number of documents, paragraphs and bytes, and of paragraphs dropped by
            reason.
        seen: keys of all paragraphs in the corpus; gets those of the documents that are yielded.
    """
    left = quota
    for _, read in documents:
        is_last = left <= quota // _MAX_DOCUMENT_DIVISOR
        room = (left if is_last else quota // _MAX_DOCUMENT_DIVISOR) - 1  # for the blank line
        chosen: dict[bytes, bytes] = {}
        for paragraph, explains in (found for text in read() for found in paragraphs_of(text)):
            if reason := reason_to_drop(paragraph, explains):
                counts[f"dropped_{reason}"] += 1
                continue
            key = _key(paragraph)
            if key in seen or key in chosen:
                counts["dropped_duplicate"] += 1
                continue
            line = paragraph.encode() + b"\n"
            room -= len(line)
            if room < 0:
                break
            chosen[key] = line
        if len(chosen) >= _MIN_PARAGRAPHS:
            document = b"".join(chosen.values()) + b"\n"
            counts.update(documents=1, paragraphs=len(chosen), bytes=len(document))
            seen.update(chosen)
            left -= len(document)
            yield document
        if is_last and room < 0:  # The rest is smaller than a paragraph.
            return


def write_demo(
    directory: Path,
    max_bytes: int,
    sources: tuple[Source, ...] = SOURCES,
) -> dict[str, int]:
    """Writes the demo corpus, at most `max_bytes` of UTF-8 text, as `<source>.txt` files.

    Returns:
        Number of sources, documents, paragraphs and bytes written, and of paragraphs dropped by
        reason in the modules that were read.
    """
    counts = Counter(sources=0, documents=0, paragraphs=0, bytes=0)
    seen: set[bytes] = set()
    weights = sum(source.weight for source in sources)
    directory.mkdir(parents=True, exist_ok=True)
    # About escape sequences in other packages.
    with warnings.catch_warnings(action="ignore"):
        for source in sources:
            quota = (max_bytes - counts["bytes"]) * source.weight // weights
            weights -= source.weight
            text = b"".join(_fill(_documents(source), quota, counts, seen))
            target = directory / f"{source.name}.txt"
            if text:
                counts["sources"] += 1
                with new_file(target) as temporary:
                    temporary.write_bytes(text)
            else:  # Remove the file of an earlier, larger corpus.
                remove(target)
    return dict(sorted(counts.items()))
