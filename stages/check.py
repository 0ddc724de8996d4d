"""check: params.yaml is valid -> data/code, a listing of each stage's code with digests."""

from pathlib import Path

from lib.params import load_params
from lib.run.atomic import new_directory
from lib.run.code_digest import listing, stages
from lib.run.paths import CODE
from lib.run.stage import run_stage
from lib.train.base_models import check_base_models


def main(code: Path = CODE) -> None:
    """Validates params.yaml, and lists the code on which each stage depends.

    CODE is the folder to write.
    """
    load_params()
    root = Path.cwd()
    with new_directory(code) as temporary:
        for stage in stages(root):
            (temporary / f"{stage}.txt").write_text(listing(root, stage), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main, before=check_base_models)
