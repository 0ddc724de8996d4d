"""Graceful shutdown, and a second signal that ends at once: as shells, dvc and SLURM send them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lib.train import preemption
from lib.train.preemption import quick_exit, stop_on_signal
from tests.conftest import ROOT


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
            stop.ignore()
            assert stop.signal is None and not stop
            send(first)
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            assert stop.signal is first


def test_a_second_ctrl_c_ends_at_once():
    for first in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(KeyboardInterrupt), stop_on_signal() as stop, stop.deferred():
            send(first)
            send(signal.SIGINT)


def test_a_second_sigterm_after_a_while_ends_at_once(monkeypatch):
    monkeypatch.setattr(preemption, "_ECHO_SECONDS", 0.0)
    with pytest.raises(SystemExit) as ended, stop_on_signal() as stop, stop.deferred():
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert ended.value.code == signal.SIGTERM  # The handler from before.


def test_where_nothing_would_be_lost_a_signal_ends_the_process_with_a_line(capfd):
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(SystemExit) as ended, stop_on_signal() as stop:
            with stop.deferred():
                pass
            stop.last_step = 1200
            send(number)
        assert ended.value.code == 128 + number
        line = f"pretrain: stopped by {number.name} after step 1,200; run the same command again"
        assert line in capfd.readouterr().err


def test_a_deferred_signal_ends_the_process_at_the_end_of_the_section():
    reached = []
    with pytest.raises(SystemExit) as ended, stop_on_signal() as stop:
        with stop.deferred():
            send(signal.SIGTERM)
            reached.append(1)
            with stop.deferred():
                reached.append(2)
            reached.append(3)
        reached.append(4)
    assert reached == [1, 2, 3] and ended.value.code == 128 + signal.SIGTERM


def test_a_section_that_does_not_defer_ends_at_once_within_one_that_does():
    with pytest.raises(SystemExit), stop_on_signal() as stop, stop.deferred():
        with stop.deferred(False):
            send(signal.SIGTERM)
        raise AssertionError


def test_a_process_that_is_blocked_in_a_long_call_ends_all_the_same():
    script = (
        "import ctypes, os, signal, threading\n"
        "from lib.train import preemption\n"
        "preemption._BLOCKED_SECONDS = 0.2\n"
        "with preemption.stop_on_signal():\n"
        "    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        # A call in C that signals do not interrupt: the second lock of a mutex waits for ever.
        "    mutex = ctypes.create_string_buffer(256)\n"
        "    lock = ctypes.CDLL(None).pthread_mutex_lock\n"
        "    lock(mutex); lock(mutex)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=50
    )
    assert ended.returncode == 128 + signal.SIGTERM
    assert b"stopped by SIGTERM while it started" in ended.stderr


def test_a_process_that_stops_does_not_wait_for_what_runs_at_its_end():
    script = (
        "import atexit, sys, time\n"
        "from lib.train.preemption import quick_exit\n"
        "atexit.register(time.sleep, 60)\n"
        "with quick_exit(): print('cleaned up'); sys.exit(143)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=50
    )
    assert ended.returncode == 143 and ended.stdout == b"cleaned up\n"
    with pytest.raises(SystemExit), quick_exit(False):
        sys.exit(1)


def test_afterwards_signals_have_their_handlers_again():
    with stop_on_signal() as stop:
        stop.ignore()
        send(signal.SIGTERM)
    with pytest.raises(SystemExit):
        send(signal.SIGTERM)


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_signal() as stop:
        stop.ignore()
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert stop.signal is None
        send(signal.SIGTERM)
        assert stop.signal is signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
