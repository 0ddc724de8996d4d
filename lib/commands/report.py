"""Writes the report of a run, results/report.html: `python -m lib.commands.report`."""

import argparse
import sys

from lib.report.page import write_page
from lib.run.errors import UserError

if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m lib.commands.report", description=__doc__).parse_args()
    try:
        write_page()
    except UserError as error:
        sys.exit(f"report: error: {error}")
