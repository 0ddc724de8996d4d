"""check: params.yaml is valid -> data/code, a listing of each stage's code; data/phases."""

import json
from pathlib import Path

from lib.params import load_params
from lib.run.atomic import new_directory
from lib.run.code_digest import listing, stages
from lib.run.paths import CODE, PHASES
from lib.run.phases import own_values
from lib.run.stage import run_stage
from lib.train.base_models import check_base_models


def main(code: Path = CODE, phases: Path = PHASES) -> None:
    """Validates params.yaml, and lists the code on which each stage depends.

    CODE is the folder to write. PHASES is a folder for the values of the section `records` that a
    phase overrides; its records depend on them. (DVC refuses to depend on a parameter that may be
    missing.)
    """
    params = load_params()
    root = Path.cwd()
    with new_directory(code) as temporary:
        for stage in stages(root):
            (temporary / f"{stage}.txt").write_text(listing(root, stage), encoding="utf-8")
    with new_directory(phases) as temporary:
        for name, phase in params.phases.items():
            text = json.dumps(own_values(params.records, phase), sort_keys=True)
            (temporary / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main, before=check_base_models)
