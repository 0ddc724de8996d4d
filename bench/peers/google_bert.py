"""Runs create_pretraining_data.py of google-research/bert, unmodified, on TensorFlow 2.

python bench/peers/google_bert.py CHECKOUT --input_file=... (the script's own flags)

The script was written for TensorFlow 1. Everything that it uses still exists in
tensorflow.compat.v1 and only has to be importable under the old name.
"""

import runpy
import sys
from pathlib import Path


def install(checkout: Path) -> None:
    """Makes `import tensorflow` mean version 1, and the checkout's modules importable."""
    import tensorflow

    sys.modules["tensorflow"] = tensorflow.compat.v1
    sys.path.insert(0, str(checkout))


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    install(folder)
    runpy.run_path(str(folder / "create_pretraining_data.py"), run_name="__main__")
