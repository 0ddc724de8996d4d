"""Graceful shutdown: SIGTERM or Ctrl-C lets training finish its step and write a checkpoint."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# When a machine shuts down, or SLURM ends a job, all processes get the signal at once. dvc exits
# on it, and its exit sends this process one more SIGTERM (`lib.run.stage.exit_with_dvc`), which is
# the same request.
_ECHO_SECONDS = 10.0


class StopRequest:
    """The signal that stops the training; None if there was none yet."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Records the first signal; a second one has the effect that it had before.

    A SIGTERM within some seconds of the first signal does not count as a second one. A signal that
    the process ignores stays ignored, as shells have SIGINT ignored by background jobs of scripts.
    """
    request = StopRequest()
    received = 0.0

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        del frame
        if request.signal is None:
            request.signal, received = signal.Signals(number), time.monotonic()
        elif number != signal.SIGTERM or time.monotonic() - received > _ECHO_SECONDS:
            restore()
            os.kill(os.getpid(), number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    for each in before:
        signal.signal(each, handle)
    try:
        yield request
    finally:
        restore()
