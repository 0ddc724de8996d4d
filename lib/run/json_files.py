"""Reader of JSON files that the user provides, such as configs of models and tokenizers."""

import json
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.lfs import refuse_lfs_pointer

# A tokenizer.json of 500,000 tokens has 20 MB.
_MAX_BYTES = 1 << 28


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: the file is missing, is not JSON, is not an object, or is larger than 256 MiB.
    """
    try:
        refuse_lfs_pointer(path)
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(
                f"{path}: larger than {_MAX_BYTES >> 20} MiB, so not the file of this name that "
                "belongs to a model; download or write it again"
            )
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (ValueError, RecursionError, IsADirectoryError) as failure:
        problem = " ".join(str(failure).split())
        raise UserError(f"{path}: not valid JSON ({problem}); download or write it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: should be a JSON object; download or write it again")
    return values
