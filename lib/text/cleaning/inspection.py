"""The page results/preprocess/samples.txt: documents before and after cleaning, rejected input."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.text.cleaning.chunks import ChunkFacts
from lib.text.reading.rejected_files import shown_name
from lib.text.reading.rejections import REASONS

_SAMPLES = 20
_REJECTED = 30


@dataclass
class Inspection:
    """Samples and rejections of all cleaned chunks; the order of chunks does not affect samples.

    Attributes:
        samples: (hash, file, before, after) of the documents with the smallest hashes.
        rejected: (file and position, reason, beginning of the input) of the first rejections.
        examined: line ends and characters that were examined, and those of hard-wrapped text.
        wrapped: characters of hard-wrapped text that were examined, by file.
    """

    samples: list[tuple[str, str, str, str]] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)
    examined: Counter[str] = field(default_factory=Counter)
    wrapped: Counter[str] = field(default_factory=Counter)

    def add_chunk(self, files: Sequence[str], facts: ChunkFacts) -> None:
        """Adds the samples of one cleaned chunk, which is of these files."""
        added = [
            (
                sample["hash"],
                shown_name(Path(files[sample["file"]])),
                sample["before"],
                sample["after"],
            )
            for sample in facts.samples
        ]
        self.samples = heapq.nsmallest(_SAMPLES, {*self.samples, *added})
        self.examined.update(facts.examined)
        for file, characters in zip(files, facts.wrapped, strict=True):
            if characters:
                self.wrapped[shown_name(file)] += characters

    def add_rejection(self, file: Path, position: str, reason: str, text: str) -> None:
        """Adds one rejection."""
        if len(self.rejected) < _REJECTED:
            source = f"{shown_name(file)} {position}" if position else shown_name(file)
            self.rejected.append((source, reason, text))

    def page(self) -> str:
        """The samples and rejections as text."""
        lines = ["Documents that cleaning and sentence splitting changed, drawn at random", ""]
        for _, file, before, after in self.samples:
            lines.append(f"== {file}")
            lines += [f"- {line}" for line in before.split("\n")]
            lines += [f"+ {line}" for line in after.split("\n")]
            lines.append("")
        lines += ["", f"Rejected input (the first {_REJECTED})", ""]
        for file, reason, text in self.rejected:
            lines += [f"== {file}: {reason}: {REASONS[reason]}", f"- {text}", ""]
        if not self.rejected:
            lines += ["none", ""]
        return "\n".join(lines)
