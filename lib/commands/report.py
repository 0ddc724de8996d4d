"""Writes the report of a run, results/report.html: `python -m lib.commands.report`."""

import sys

from lib.report.page import write_page
from lib.run.errors import UserError

if __name__ == "__main__":
    try:
        write_page()
    except UserError as error:
        sys.exit(f"report: error: {error}")
