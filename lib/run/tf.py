"""TensorFlow, imported at first use and without its log lines: `from lib.run import tf`.

Every module of this project imports TensorFlow from here. Each attribute is TensorFlow's own object
(PEP 562). There are three differences:

- It is quiet. During its import TensorFlow prints lines about CPU features and missing CUDA before
  its log level takes effect, and later it warns about functions that are traced again. A user
  should not have to find a one-line error among them. TF_CPP_MIN_LOG_LEVEL=0 shows everything.
- It is imported late, so that code that needs only names or arithmetic (reading params.yaml,
  planning a run) starts in tenths of a second. Modules that name TensorFlow's types in annotations
  have `from __future__ import annotations`.
- It comes without Keras, which it would import for its optimizers and which imports matplotlib:
  together 1.2 of 4.1 seconds of processor time and 110 MB. Nothing here uses it.
"""

import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_LEVEL, _QUIET = "TF_CPP_MIN_LOG_LEVEL", "3"


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # Python and its tools look these up in any module.
        raise AttributeError(name)
    value = getattr(load(), name)
    globals()[name] = value  # The next access does not call this function.
    return value


def load() -> ModuleType:
    """Imports TensorFlow now; needed before an import from one of its submodules."""
    quiet = os.environ.setdefault(_LEVEL, _QUIET) == _QUIET
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        with _without_keras():
            tensorflow = _import_silently() if quiet else importlib.import_module("tensorflow")
    if quiet:
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return tensorflow


@contextmanager
def _without_keras() -> Iterator[None]:
    """Has an import of Keras fail, as if it were not installed; TensorFlow allows for that."""
    if "keras" in sys.modules:
        yield
        return
    sys.modules["keras"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["keras"]


def _import_silently() -> ModuleType:
    """Imports TensorFlow with standard error captured; it is printed if the import fails."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            return importlib.import_module("tensorflow")
        except BaseException:
            os.dup2(original, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
