"""Names of phases and tasks as files, with which DVC itself refuses a name that is a path.

DVC deletes the outputs of a stage before it runs the stage, and `dvc exp run` and `dvc checkout -f`
delete what dvc.lock does not know. So the check of params.yaml comes too late for a phase called
`../../../outside`, whose output data/records/../../../outside is a folder outside the project. But
DVC refuses to load a stage with an output that .dvcignore names. Therefore each stage with a name
has one more output, a small file in a folder so deep that ten `..` stay inside the project:

    main              data/names/_/_/_/_/_/_/_/_/main/name-without-slash.records
    ../../../outside  data/names/_/_/_/_/_/outside/name-without-slash.records

.dvcignore names all files called `name-without-slash.*` but those at the depth of the first.
"""

from pathlib import Path

from lib.run.atomic import write_text

NAMES = Path("data/names/_/_/_/_/_/_/_/_")


def write_name(stage: str, name: str) -> None:
    """Writes the file of a phase or task for one of its stages."""
    write_text(NAMES / name / f"name-without-slash.{stage}", f"{name}\n")
