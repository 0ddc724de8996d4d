"""The polite end, and the impolite one: signals as shells, dvc and SLURM send them."""

import os
import signal
import time

import pytest

from lib.train import preemption
from lib.train.preemption import stop_on_signal


@pytest.fixture
def default_handler():
    """SIGTERM as an exception, so that its default can be seen without dying of it."""

    def ended(number, frame):
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, ended)
    yield
    signal.signal(signal.SIGTERM, before)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python calls handlers between two of its instructions.


def test_a_signal_is_noted_and_dvcs_death_is_no_second_one(default_handler):
    for first in (signal.SIGTERM, signal.SIGINT):
        with stop_on_signal() as stop:
            assert stop.signal is None
            send(first)
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            assert stop.signal is first


def test_ctrl_c_again_ends_at_once(default_handler):
    for first in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(KeyboardInterrupt), stop_on_signal():
            send(first)
            send(signal.SIGINT)


def test_sigterm_again_after_a_while_ends_at_once(default_handler, monkeypatch):
    monkeypatch.setattr(preemption, "_ECHO_SECONDS", 0.0)
    with pytest.raises(SystemExit), stop_on_signal():
        send(signal.SIGTERM)
        send(signal.SIGTERM)


def test_afterwards_signals_are_as_before(default_handler):
    with stop_on_signal():
        send(signal.SIGTERM)
    with pytest.raises(SystemExit):
        send(signal.SIGTERM)
