"""The files with rejected input, over the whole folder of raw text: what each of them lost."""

import csv
import io
import os
from pathlib import Path

from lib.run.atomic import write_text
from lib.text.reading.rejections import Fault, Lost, percentage

_NAMED = 5
_COLUMNS = ("file", "reason", "rejected", "characters", "bytes")


class RejectedFiles:
    """What was rejected, by file and reason.

    Attributes:
        total: losses of all files.
        faults: where bad input is not to be skipped, the first fault of each file.
    """

    def __init__(self) -> None:
        self.total = Lost()
        self.faults: list[Fault] = []
        self._files: dict[Path, Lost] = {}
        self._whole: set[Path] = set()

    def add(self, file: Path, lost: Lost, whole: bool) -> None:
        """Adds losses of one file, or of a part of it.

        Args:
            file: its path relative to the folder of raw text.
            whole: whether nothing of it could be read.
        """
        if lost.counts:
            self.total.update(lost)
            self._files.setdefault(file, Lost()).update(lost)
            if whole:
                self._whole.add(file)

    def summary(self, characters_read: int, listing: Path) -> str:
        """One line: the fraction of the text that was lost, and the files with most of it.

        Args:
            characters_read: characters that were not rejected.
            listing: the file that `write` wrote.
        """
        count = len(self._files)
        return (
            f"rejected {percentage(self.total.fraction(characters_read))} of the text, in "
            f"{count:,} file{'s' if count > 1 else ''}: {self.named()}; see {listing}"
        )

    def named(self) -> str:
        """The files with the largest losses, and whether all of them is lost."""
        files = sorted(self._files, key=lambda file: (-self._files[file].amount(), file.as_posix()))
        named = [
            f"{shown_name(file)} ({'whole' if file in self._whole else self._places(file)})"
            for file in files[:_NAMED]
        ]
        more = f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else ""
        return f"{', '.join(named)}{more}"

    def _places(self, file: Path) -> str:
        count = self._files[file].counts.total()
        return f"{count:,} place{'s' if count > 1 else ''}"

    def write(self, target: Path) -> None:
        """Writes a table of all files: a line per file and reason, or per fault."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for file in sorted(self._files):
            lost = self._files[file]
            for reason, count in sorted(lost.counts.items()):
                amounts = (lost.characters[reason], lost.bytes[reason])
                writer.writerow((shown_name(file), reason, count, *amounts))
        for fault in self.faults:
            writer.writerow((str(fault), fault.reason, 1, "", ""))
        write_text(target, stream.getvalue())


def shown_name(file: Path | str) -> str:
    """The name of a file in one line: line ends and the like, and what is not UTF-8, escaped."""
    name = os.fsencode(file).decode("utf-8", "backslashreplace")
    return name if name.isprintable() else "".join(map(_printable, name))


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
