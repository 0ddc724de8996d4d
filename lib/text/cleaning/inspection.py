"""The page results/preprocess/samples.txt: documents before and after cleaning, rejected input."""

import heapq
from dataclasses import dataclass, field
from pathlib import Path

from lib.text.cleaning.chunks import ChunkFacts
from lib.text.reading.rejections import REASONS

_SAMPLES = 20
_REJECTED = 30


@dataclass
class Inspection:
    """Samples and rejections of all cleaned chunks; the order of chunks does not affect samples.

    Attributes:
        samples: (hash, file, before, after) of the documents with the smallest hashes.
        rejected: (file and position, reason, beginning of the input) of the first rejections.
    """

    samples: list[tuple[str, str, str, str]] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)

    def add_chunk(self, file: Path, facts: ChunkFacts) -> None:
        """Adds the samples of one cleaned chunk."""
        added = [
            (sample["hash"], file.as_posix(), sample["before"], sample["after"])
            for sample in facts.samples
        ]
        self.samples = heapq.nsmallest(_SAMPLES, {*self.samples, *added})

    def add_rejection(self, file: Path, position: str, reason: str, text: str) -> None:
        """Adds one rejection."""
        if len(self.rejected) < _REJECTED:
            source = f"{file.as_posix()} {position}" if position else file.as_posix()
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
