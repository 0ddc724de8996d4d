"""Command line of the programs other than stages: their parser, and one-line errors."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lib.run.errors import UserError, describe


def new_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Parser of `python -m MODULE`; the description is shown as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """Ends the process with `NAME: error: …` on stderr and exit code 1 after an expected error."""
    try:
        yield
    except (UserError, OSError) as error:
        sys.exit(f"{name}: error: {describe(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
