"""A polite end: on SIGTERM or Ctrl-C the step is finished, a checkpoint written, and no more."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A machine that goes, or SLURM, tells all processes at once: dvc, too, which dies of it, and its
# death sends this process one more SIGTERM (`lib.run.stage`). That is the same request.
_ECHO_SECONDS = 10.0


class Stop:
    """What asked to stop, if anything did."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Notes the first signal; another one ends the process at once, as if nobody listened.

    A SIGTERM that follows within some seconds is no other one.
    """
    stop = Stop()
    noted = 0.0

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        del frame
        if stop.signal is None:
            stop.signal, noted = signal.Signals(number), time.monotonic()
        elif number != signal.SIGTERM or time.monotonic() - noted > _ECHO_SECONDS:
            restore()
            os.kill(os.getpid(), number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each in _SIGNALS:
        signal.signal(each, note)
    try:
        yield stop
    finally:
        restore()
