"""Graceful shutdown on SIGTERM or Ctrl-C, with a checkpoint wherever something would be lost.

A machine that is taken away gives its processes some seconds: 30 on a spot VM. While the initial
model is read, the first step is compiled, or the finished model is written, all that was trained is
in a checkpoint, and a signal ends the process at once. Between, the signal is deferred: training
finishes its step and writes a checkpoint.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# When a machine shuts down, or SLURM ends a job, all processes get the signal at once. dvc exits
# on it, and its exit sends this process one more SIGTERM (`lib.run.stage.exit_with_dvc`), which is
# the same request.
_ECHO_SECONDS = 10.0
# Python's handlers wait for the end of a call in C++, such as a compilation by XLA of minutes.
_BLOCKED_SECONDS = 5.0


class StopRequest:
    """The signal that stops the training.

    Attributes:
        signal: None if there was none yet.
        last_step: the step that is in the last checkpoint, for the line that is printed; None as
            long as it is not known.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.last_step: int | None = None
        self._deferred = self._printed = False

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int) -> None:
        """Records a signal; ends the process if nothing would be lost (SystemExit)."""
        self.signal = signal.Signals(number)
        if not self._deferred:
            self.exit()

    @contextmanager
    def deferred(self, defer: bool = True) -> Iterator[None]:
        """A section in which a signal is only recorded; without `defer`, it ends the process."""
        before = self._deferred
        self._switch(defer)
        try:
            yield
        finally:
            self._deferred = before
        self._switch(before)

    def _switch(self, defer: bool) -> None:
        self._deferred = defer
        if self.signal and not defer:
            self.exit()

    def ignore(self) -> None:
        """From now on signals change nothing: the process is about to end by itself."""
        self._deferred = True

    def exit(self) -> NoReturn:
        """Ends the process, with the code that shells use for a signal, and a line.

        Raises:
            SystemExit: always.
        """
        self._print(self.signal)
        sys.exit(128 + (self.signal or signal.SIGTERM))

    def _print(self, number: signal.Signals | None) -> None:
        if self._printed:
            return
        self._printed = True
        by = number.name if number else "another worker"
        where = "while it started"
        if self.last_step is not None:
            where = f"after step {self.last_step:,}" if self.last_step else "before the first step"
        line = f"pretrain: stopped by {by} {where}; run the same command again to resume\n"
        # Not `print`, which the signal may have interrupted.
        with suppress(OSError):
            os.write(2, line.encode())

    def end_if_blocked(self, number: signal.Signals) -> None:
        """Ends the process without any cleaning up, if `exit` has been due for a while."""
        deadline = time.monotonic() + _BLOCKED_SECONDS
        while time.monotonic() < deadline:
            if self._deferred:
                return
            time.sleep(0.1)
        self._print(number)
        os._exit(128 + number)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Handles the first signal; a second one has the effect that it had before.

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
            received = time.monotonic()
            request.receive(number)
        elif number != signal.SIGTERM or time.monotonic() - received > _ECHO_SECONDS:
            restore()
            os.kill(os.getpid(), number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    # Python writes the number of each signal here at once, also while its handler has to wait.
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    threading.Thread(target=_watch, args=(receiver, request), daemon=True, name="signals").start()
    before_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    for each in before:
        signal.signal(each, handle)
    try:
        yield request
    finally:
        request.ignore()  # The main thread got here, so it is not blocked.
        restore()
        signal.set_wakeup_fd(before_fd)
        sender.close()


@contextmanager
def quick_exit(enabled: bool = True) -> Iterator[None]:
    """Ends the process as soon as a SystemExit arrives here: TensorFlow's own end takes seconds."""
    try:
        yield
    except SystemExit as ended:
        if not enabled:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _watch(receiver: socket.socket, request: StopRequest) -> None:
    """Ends the process if its main thread does not get to handle a signal."""
    with receiver:
        while number := receiver.recv(1):
            if number[0] in _SIGNALS:
                request.end_if_blocked(signal.Signals(number[0]))
