"""The files with rejected input, over the whole folder of raw text: what each of them lost."""

import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.text.names import shown_name, some_of
from lib.text.reading.rejections import REASONS, BadInputError, Fault, Lost, after_lines

_EXAMPLES = 30
_COLUMNS = ("file", "reason", "rejected", "characters", "bytes")


class RejectedFiles:
    """What was rejected, by file and reason.

    Args:
        listing: the file to list it in.

    Attributes:
        total: losses of all files.
        examples: the first rejections, each with the beginning of the input.
    """

    def __init__(self, listing: Path) -> None:
        self.total = Lost()
        self.examples: list[tuple[Fault, str]] = []
        self._listing = listing
        self._files: dict[str, Lost] = {}
        self._faults: dict[str, Fault] = {}

    def add(self, file: str, lost: Lost, lines: int = 0) -> None:
        """Adds losses of one file, or of a part of it.

        Args:
            file: its path relative to the folder of raw text.
            lines: the lines of the file before the part.
        """
        if lost.counts:
            self.total.update(lost)
            self._files.setdefault(file, Lost()).update(lost)
        for example in lost.examples[: _EXAMPLES - len(self.examples)]:
            position = after_lines(example["position"], lines)
            self.examples.append((Fault(file, position, example["reason"]), example["text"]))

    def add_fault(self, fault: Fault, lines: int = 0) -> None:
        """Adds what is wrong with a file, or with a part of it; only its first fault counts."""
        position = after_lines(fault.position, lines)
        self._faults.setdefault(fault.source, replace(fault, position=position))

    def refuse_faults(self) -> None:
        """Raises one UserError for the faults of all files, by reason, if there are any."""
        faults = list(self._faults.values())
        if not faults:
            return
        self._write_listing()
        if len(faults) == 1:
            raise BadInputError(faults[0])
        parts = []
        for reason, _ in Counter(fault.reason for fault in faults).most_common():
            these = [str(fault) for fault in faults if fault.reason == reason]
            parts.append(f"{some_of(these)}: {REASONS[reason]}")
        raise UserError(
            f"{len(faults):,} files have bad input, all in {self._listing}: {' | '.join(parts)}; "
            "or leave such input out with preprocess.bad_input: skip"
        )

    def check_limit(self, characters_read: int, limit: float) -> None:
        """Lists what was rejected; raises a UserError if it is more than the limit allows.

        Args:
            characters_read: characters that were not rejected.
            limit: preprocess.bad_input_limit, a fraction of the text.
        """
        self._write_listing()
        fraction = self.total.fraction(characters_read)
        if fraction > limit:
            amounts = Counter(self.total.bytes)
            amounts.update(self.total.characters)
            reasons = "; ".join(
                f"{self.total.counts[reason]:,} {reason} ({REASONS[reason]})"
                for reason, _ in amounts.most_common()
            )
            raise UserError(
                f"{percentage(fraction)} of the text is bad input, more than "
                f"preprocess.bad_input_limit ({percentage(limit)}) allows: {reasons}; in "
                f"{self._named()}; fix it, or raise the limit; see {self._listing}"
            )

    def summary(self, characters_read: int) -> str:
        """One line: the fraction of the text that was lost, and the files with most of it.

        Args:
            characters_read: characters that were not rejected.
        """
        count = len(self._files)
        return (
            f"rejected {percentage(self.total.fraction(characters_read))} of the text, in "
            f"{count:,} file{'s' * (count > 1)}: {self._named()}; see {self._listing}"
        )

    def _named(self) -> str:
        """The files with the largest losses, and whether all of them is lost."""
        ordered = sorted(self._files.items(), key=lambda item: (-item[1].amount(), item[0]))
        named = []
        for file, lost in ordered:
            count = lost.counts.total()
            places = "whole" if lost.whole_file else f"{count:,} place{'s' * (count > 1)}"
            named.append(f"{shown_name(file)} ({places})")
        return some_of(named)

    def _write_listing(self) -> None:
        """Writes a table of all files: a line per file and reason, or per fault."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for file in sorted(self._files, key=lambda name: name.split("/")):
            lost = self._files[file]
            for reason, count in sorted(lost.counts.items()):
                amounts = (lost.characters[reason], lost.bytes[reason])
                writer.writerow((shown_name(file), reason, count, *amounts))
        for fault in self._faults.values():
            writer.writerow((str(fault), fault.reason, 1, "", ""))
        write_text(self._listing, stream.getvalue())


def percentage(fraction: float) -> str:
    """A fraction in percent, to two significant digits: 31 %, 0.25 %; never 0 for some loss."""
    percent = 100 * fraction
    if percent >= 10:
        return f"{percent:.0f} %"
    return f"{percent:.2g} %" if percent >= 0.0001 else ("below 0.0001 %" if percent else "0 %")
