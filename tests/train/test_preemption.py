"""Graceful shutdown, and a second signal that ends at once: as shells, dvc and SLURM send them."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from lib.train import preemption
from lib.train.preemption import stop_on_signal


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """Python's own SIGINT handler, and SIGTERM as an exception that a test survives."""

    def ended(number, frame):
        raise SystemExit(number)

    before = (
        signal.signal(signal.SIGTERM, ended),
        signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    yield
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python calls handlers between two of its instructions.


def test_a_signal_is_recorded_and_the_sigterm_of_dvcs_exit_is_not_a_second_one():
    for first in (signal.SIGTERM, signal.SIGINT):
        with stop_on_signal() as stop:
            assert stop.signal is None
            send(first)
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            assert stop.signal is first


def test_a_second_ctrl_c_ends_at_once():
    for first in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(KeyboardInterrupt), stop_on_signal():
            send(first)
            send(signal.SIGINT)


def test_a_second_sigterm_after_a_while_ends_at_once(monkeypatch):
    monkeypatch.setattr(preemption, "_ECHO_SECONDS", 0.0)
    with pytest.raises(SystemExit), stop_on_signal():
        send(signal.SIGTERM)
        send(signal.SIGTERM)


def test_afterwards_signals_have_their_handlers_again():
    with stop_on_signal():
        send(signal.SIGTERM)
    with pytest.raises(SystemExit):
        send(signal.SIGTERM)


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_signal() as stop:
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert stop.signal is None
        send(signal.SIGTERM)
        assert stop.signal is signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
