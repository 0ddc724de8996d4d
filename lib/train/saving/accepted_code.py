"""Versions of the training code that `make accept` declared equal, in `accepted_code.json`."""

import json
from pathlib import Path

from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.run.stage import scratch


def _accepted_file() -> Path:
    return scratch() / "accepted_code.json"


def accept(old: str, new: str) -> None:
    """Declares two versions of the training code equal: runs of the old one may be resumed."""
    pairs = _accepted_pairs()
    if (old, new) not in pairs:
        text = json.dumps(sorted({*pairs, (old, new)}), indent=1) + "\n"
        write_text(_accepted_file(), text)


def is_accepted(old: str, new: str) -> bool:
    """Whether runs of the code `old` may be resumed by the code `new`."""
    known = {new}
    pairs = _accepted_pairs()
    while more := {before for before, after in pairs if after in known} - known:
        known |= more
    return old in known


def _accepted_pairs() -> set[tuple[str, str]]:
    try:
        pairs = json.loads(_accepted_file().read_bytes())
        return {(str(old), str(new)) for old, new in pairs}
    except FileNotFoundError:
        return set()
    except (ValueError, TypeError):
        raise UserError(
            f"{_accepted_file()}: not readable; delete it, and run `make accept` again"
        ) from None
