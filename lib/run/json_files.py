"""Reader of JSON files that the user provides, such as configs of models and tokenizers."""

import json
from pathlib import Path
from typing import Any

from lib.run.errors import UserError


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: the file is missing, is not JSON, or is not an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (ValueError, IsADirectoryError) as failure:
        raise UserError(f"{path}: not valid JSON ({failure}); download or write it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: should be a JSON object; download or write it again")
    return values
