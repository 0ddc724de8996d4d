"""Progress lines: one live line on a terminal, a plain line every 20 seconds in a log."""

import sys
import time
from types import TracebackType

_TERMINAL_INTERVAL_SECONDS = 0.2
_LOG_INTERVAL_SECONDS = 20.0


def duration(seconds: float) -> str:
    """A duration as text: 42 s, 3:07, 2:03:07."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts finished `unit`s, and shows count, rate and time left on standard error."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._skipped = 0
        self._live = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()
        self._drawn = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._show(end="\n")

    def skip(self, count: int) -> None:
        """Counts work of an earlier run, which is left out of the rate."""
        self.done += count
        self._skipped += count

    def advance(self, count: int = 1, note: str = "") -> None:
        """Counts `count` more; `note` (a loss, a file) is shown after the figures."""
        self.done += count
        now = time.monotonic()
        interval = _TERMINAL_INTERVAL_SECONDS if self._live else _LOG_INTERVAL_SECONDS
        if now - self._shown >= interval:
            self._shown = now
            self._drawn = self._live
            self._show(note, end="" if self._live else "\n")

    def _show(self, note: str = "", end: str = "") -> None:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = (self.done - self._skipped) / elapsed
        left = duration((self.total - self.done) / rate) if rate > 0 else "?"
        text = (
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit}, "
            f"{rate:,.1f} {self.unit}/s, {left} left{', ' + note if note else ''}"
        )
        print(("\r\x1b[2K" if self._live else "") + text, end=end, file=sys.stderr, flush=True)
