"""Progress lines by tqdm: one live line on a terminal, a plain line every 20 seconds in a log.

The variable TQDM_DISABLE=1 turns them off.
"""

import sys
import time
from typing import Any


class _LogLines:
    """Standard error for tqdm where it is not a terminal: whole lines, no control characters."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


class Progress:
    """Counts finished `unit`s, and shows count, rate and time left on standard error."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = self._skipped = 0
        self._started = time.time()
        self._live = sys.stderr.isatty()
        self._interval = 0.2 if self._live else 20.0  # seconds
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def skip(self, count: int) -> None:
        """Counts work of an earlier run, which is left out of the rate."""
        self._done += count
        self._skipped += count

    def advance(self, count: int = 1, note: str = "") -> None:
        """Counts `count` more; `note` (a loss, a file) is shown after the figures."""
        self._done += count
        if self._bar is None:
            if time.time() - self._started < self._interval:
                return
            self._bar = self._new_bar()
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(self._done - self._bar.n)

    def _new_bar(self) -> Any:
        # Only now that there is something to show: the import would delay every stage by 15 ms.
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread
        bar = tqdm(
            desc=self._label,
            total=self._total,
            initial=self._skipped,
            unit=f" {self._unit}",
            file=sys.stderr if self._live else _LogLines(),
            mininterval=self._interval,
            miniters=1,
            delay=self._interval,
            # Words and figures only. With a size of its own tqdm does not look for the terminal's,
            # which is 0 in some containers and would hide the line.
            ncols=0,
            nrows=20,
        )
        bar.start_t = bar.last_print_t = self._started
        return bar
