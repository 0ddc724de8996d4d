"""JSON files that people bring: configs of models and of tokenizers."""

import json
from pathlib import Path
from typing import Any

from lib.run.errors import UserError


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is the path right?") from None
    except (ValueError, IsADirectoryError) as failure:
        raise UserError(f"{path}: not valid JSON ({failure}); fetch or write it anew") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: should be a JSON object; fetch or write it anew")
    return values
