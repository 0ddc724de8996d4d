"""The facts of all cleaned chunks together, and the page results/preprocess/samples.txt."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lib.text.cleaning.chunks import ChunkFacts, Counts
from lib.text.names import shown_name
from lib.text.reading.rejections import REASONS, Fault

_SAMPLES = 20


@dataclass
class Inspection(Counts):
    """Facts of all cleaned chunks; the order of chunks does not affect samples.

    Attributes:
        samples: (hash, file, before, after) of the documents with the smallest hashes.
        wrapped: characters of hard-wrapped text that were examined, by file.
    """

    samples: list[tuple[str, str, str, str]] = field(default_factory=list)
    wrapped: Counter[str] = field(default_factory=Counter)

    def add_chunk(self, files: Sequence[str], facts: ChunkFacts) -> None:
        """Adds the facts of one cleaned chunk, which is of these files."""
        self.update(facts)
        added = [
            (digest, shown_name(files[file]), before, after)
            for digest, file, before, after in facts.samples
        ]
        self.samples = heapq.nsmallest(_SAMPLES, {*self.samples, *added})
        for file, characters in zip(files, facts.wrapped, strict=True):
            if characters:
                self.wrapped[shown_name(file)] += characters

    def add(self, other: "Inspection") -> None:
        """Adds the facts of other chunks."""
        self.update(other)
        self.samples = heapq.nsmallest(_SAMPLES, {*self.samples, *other.samples})
        self.wrapped.update(other.wrapped)

    def page(self, rejected: Sequence[tuple[Fault, str]]) -> str:
        """Documents before and after cleaning, and the first rejected input, as text."""
        lines = ["Documents that cleaning and sentence splitting changed, drawn at random", ""]
        for _, file, before, after in self.samples:
            lines.append(f"== {file}")
            lines += [f"- {line}" for line in before.split("\n")]
            lines += [f"+ {line}" for line in after.split("\n")]
            lines.append("")
        lines += ["", "Rejected input (the first 30)", ""]
        for fault, text in rejected:
            lines += [f"== {fault}: {fault.reason}: {REASONS[fault.reason]}", f"- {text}", ""]
        if not rejected:
            lines += ["none", ""]
        return "\n".join(lines)
