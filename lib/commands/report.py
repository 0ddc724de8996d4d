"""Writes the report of a run, results/report.html: `python -m lib.commands.report`."""

from lib.report.page import write_page
from lib.run.command import new_parser, one_line_errors

if __name__ == "__main__":
    new_parser("lib.commands.report", __doc__).parse_args()
    with one_line_errors("report"):
        write_page()
