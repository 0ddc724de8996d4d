"""demo: documentation of the installed packages -> data/demo, a corpus for trying the pipeline."""

import gc
from pathlib import Path

from lib.params import load_params
from lib.run.paths import DEMO
from lib.run.stage import run_stage
from lib.samples.demo import write_demo


def main(demo: Path = DEMO) -> None:
    """Writes English prose about Python, taken from docstrings, as text files.

    DEMO is the folder to write.
    """
    # Syntax trees have no cycles, yet the search for cycles in them would take half the time.
    gc.disable()
    counts = write_demo(demo, round(load_params().demo.megabytes * 1_000_000))
    print(
        f"demo: {counts['documents']:,} documents, {counts['paragraphs']:,} paragraphs, "
        f"{counts['bytes'] / 1e6:.1f} MB from {counts['sources']} sources"
    )


if __name__ == "__main__":
    run_stage(main)
