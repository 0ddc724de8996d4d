"""A polite end: on SIGTERM or Ctrl-C the step is finished, a checkpoint written, and no more."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """What asked to stop, if anything did."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Notes the first signal; a second one ends the process at once, as if nobody listened."""
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        stop.signal = signal.Signals(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each in _SIGNALS:
        signal.signal(each, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
