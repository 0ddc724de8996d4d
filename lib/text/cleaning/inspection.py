"""The page that shows what preprocessing did: samples before and after, and what was rejected."""

import heapq
from dataclasses import dataclass, field
from pathlib import Path

from lib.text.cleaning.chunks import MapFacts
from lib.text.reading.rejections import REASONS

_SAMPLES = 20
_REJECTED = 30


@dataclass
class Inspection:
    """Gathers samples over all maps; which are taken does not depend on their order.

    Attributes:
        samples: (hash, source, before, after) of the documents with the smallest hashes.
        rejected: (source, reason, beginning of it) of the first that were.
    """

    samples: list[tuple[str, str, str, str]] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)

    def see(self, source: Path, facts: MapFacts) -> None:
        """Takes in what one map has."""
        mine = [
            (sample["hash"], source.as_posix(), sample["before"], sample["after"])
            for sample in facts.samples
        ]
        self.samples = heapq.nsmallest(_SAMPLES, {*self.samples, *mine})
        for example in facts.rejected_examples:
            self.reject(source, example["reason"], example["text"])

    def reject(self, source: Path, reason: str, text: str) -> None:
        """Takes in one rejection."""
        if len(self.rejected) < _REJECTED:
            self.rejected.append((source.as_posix(), reason, text))

    def page(self) -> str:
        """The samples as text to read."""
        lines = ["Documents that cleaning and sentence splitting changed, drawn at random", ""]
        for _, source, before, after in self.samples:
            lines.append(f"== {source}")
            lines += [f"- {line}" for line in before.split("\n")]
            lines += [f"+ {line}" for line in after.split("\n")]
            lines.append("")
        lines += ["", f"Rejected input (the first {_REJECTED})", ""]
        for source, reason, text in self.rejected:
            lines += [f"== {source}: {reason}: {REASONS[reason]}", f"- {text}", ""]
        if not self.rejected:
            lines += ["none", ""]
        return "\n".join(lines)
