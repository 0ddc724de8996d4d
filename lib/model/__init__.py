"""BERT in plain TensorFlow.

TensorFlow prints lines about CPU features and missing CUDA while it is imported, before its own
log level counts; a user who reads a one-line error should not have to look for it among them.
"""

import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _import_quietly() -> None:
    """Imports TensorFlow with standard error held back; it is shown if the import fails."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            os.dup2(original, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


if "tensorflow" not in sys.modules:
    _import_quietly()
