"""TensorFlow, imported at first use and without its log lines: `from lib.run import tf`.

Every module of this project takes TensorFlow from here. Each attribute is TensorFlow's own object
(PEP 562); what this adds:

- It is quiet. While it is imported, TensorFlow prints lines about CPU features and missing CUDA
  before its own log level counts, and later it warns about functions that are traced again. A
  user who reads a one-line error should not have to look for it among them. To see all of it,
  set TF_CPP_MIN_LOG_LEVEL=0.
- It is imported late, so that what needs names or arithmetic only (reading params.yaml, planning
  a run) starts in tenths of a second. Such a module has `from __future__ import annotations`.
"""

import importlib
import logging
import os
import sys
import tempfile
from types import ModuleType
from typing import Any

_LEVEL, _QUIET = "TF_CPP_MIN_LOG_LEVEL", "3"


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # What Python and its tools look for in any module.
        raise AttributeError(name)
    value = getattr(load(), name)
    globals()[name] = value  # The next access does not come here.
    return value


def load() -> ModuleType:
    """Imports TensorFlow now: to be called before an import from one of its submodules."""
    quiet = os.environ.setdefault(_LEVEL, _QUIET) == _QUIET
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        tensorflow = _import_silently() if quiet else importlib.import_module("tensorflow")
    if quiet:
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return tensorflow


def _import_silently() -> ModuleType:
    """Imports TensorFlow with standard error held back; it is shown if the import fails."""
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
