"""Two workers that run the real stage, each with its own disk, train like one process."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from lib.run.errors import UserError
from lib.train.strategy import make_strategy
from lib.train.workers import Workers
from tests.conftest import ROOT
from tests.helpers.project import Project, training, write_text

STEPS = 90


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> list[Project]:
    """Two machines with the same records; what one process trains is in models/one of the first."""
    machines = [Project(tmp_path_factory.mktemp(f"machine-{number}")) for number in range(2)]
    first = machines[0]
    write_text(first.folder / "data/raw")
    # One file of records: both workers read all of it, so they see the batches of one process.
    first.set({"split": {"lines_per_shard": 100_000}})
    first.make_records()
    for name in ("vocab", "records"):
        shutil.copytree(first.folder / "data" / name, machines[1].folder / "data" / name)
    for machine in machines:
        machine.set({"pretrain": {"microbatch_size": 2, "steps": STEPS}})
    first.run(*training("models/one"))
    for machine in machines:
        machine.set({"pretrain": {"distribution": "multiworker", "checkpoint_every": 1}})
    return machines


def start(machines: list[Project], model: str) -> list[subprocess.Popen]:
    """A worker on each machine."""
    processes = []
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(machines))]
    for index, machine in enumerate(machines):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        machine.environment["TF_CONFIG"] = json.dumps(config)
        processes.append(machine.start(*training(model)))
    return processes


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit code and last line of each; there is no traceback."""
    found = []
    for process in processes:
        output, _ = process.communicate(timeout=180)
        assert "Traceback" not in output and "Exception" not in output, output
        found.append((process.returncode, (output.splitlines() or [""])[-1]))
    return found


def train(machines: list[Project], model: str) -> None:
    for code, line in ends(start(machines, model)):
        assert code == 0, line


def start_training(machines: list[Project], model: str) -> list[subprocess.Popen]:
    """Returns when they have trained a few steps."""
    scratch = machines[0].folder / ".scratch/pretrain"
    before = set(scratch.glob("main/*-*/step-*"))
    processes = start(machines, model)
    deadline = time.monotonic() + 180
    while len(set(scratch.glob("main/*-*/step-*")) - before) < 2:
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return processes


def weights(machine: Project, model: str) -> dict[str, np.ndarray]:
    return load_file(machine.folder / model / "model.safetensors")


@pytest.mark.slow
def test_two_workers_train_like_one_process(machines):
    train(machines, "models/two")
    one, two = (weights(machines[0], f"models/{name}") for name in ("one", "two"))
    for name in one:
        difference = np.linalg.norm(one[name] - two[name])
        if name.endswith("key.bias"):  # Its true gradient is 0.
            assert difference < 1e-5
        else:
            assert difference <= 1e-5 * np.linalg.norm(one[name]), name
    assert not (machines[1].folder / "models").exists()
    for machine in machines:
        assert not list((machine.folder / ".scratch/pretrain").glob("main/*-*/step-*"))


def test_one_process_coordinates_with_nobody():
    workers = Workers(make_strategy("one"))
    assert (workers.index, workers.count) == (0, 1)
    workers.check_same_run("00ff")
    workers.barrier()
    assert workers.broadcast({"a": np.float32(1)}) == {"a": 1}
    with pytest.raises(tf.errors.UnavailableError), workers.reporting_lost_workers():
        raise tf.errors.UnavailableError(None, None, "/job:worker/task:1 is gone")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"multiworker needs the environment variable TF_CONFIG"),
        ("{", r"TF_CONFIG: invalid"),
        ('{"cluster": {"worker": ["a:1"]}}', r"KeyError\('task'\).*should look like"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            r"TF_CONFIG: invalid",
        ),
    ],
)
def test_an_invalid_cluster_is_refused(monkeypatch, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match=message):
        make_strategy("multiworker")


def test_sigterm_ends_a_worker_although_tensorflow_handles_it():
    (port,) = free_ports(1)
    cluster = {"cluster": {"worker": [f"127.0.0.1:{port}"]}, "task": {"type": "worker", "index": 0}}
    script = (
        "import os, signal; from lib.train.strategy import make_strategy; "
        "make_strategy('multiworker'); os.kill(os.getpid(), signal.SIGTERM)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGTERM, ended.stderr


@pytest.mark.slow
def test_a_tpu_that_cannot_be_reached_gives_one_line():
    script = (
        "from lib.run.errors import UserError\n"
        "from lib.train.strategy import make_strategy\n"
        "for name in (None, 'grpc://127.0.0.1:9'):\n"
        "    try: make_strategy('tpu', name)\n"
        "    except UserError as error: print(error)"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=60
    ).stdout.decode()
    lines = output.splitlines()
    assert len(lines) == 2
    for name, line in zip(("local", "grpc://127.0.0.1:9"), lines, strict=True):
        assert line.startswith(f"pretrain.tpu.name: {name} cannot be reached (")


@pytest.mark.slow
def test_workers_killed_and_stopped_end_the_same(machines):
    train(machines, "models/two")
    model = "models/disturbed"
    reached = 0

    def stopped_at(processes: list[subprocess.Popen]) -> int:
        steps = set()
        for code, line in ends(processes):
            assert code == 128 + signal.SIGTERM
            steps.add(int(re.search(r"stopped by .* after step (\d+)", line)[1]))
        (step,) = steps
        scratch = machines[0].folder / ".scratch/pretrain"
        assert max(int(path.name[5:]) for path in scratch.glob("main/*-*/step-*")) == step > reached
        return step

    for victims in ([0, 1], [0], [1]):
        processes = start_training(machines, model)
        killed = time.monotonic()
        for number in victims:
            processes[number].kill()
        for number, (code, line) in enumerate(ends(processes)):
            if number in victims:
                assert code == -signal.SIGKILL
            else:
                assert code == 1
                assert f"error: worker {1 - number} (127.0.0.1:" in line
                assert f"no longer responds to worker {number}" in line
        assert time.monotonic() - killed < 90
    for asked in ([0, 1], [0], [1]):
        processes = start_training(machines, model)
        for number in asked:
            processes[number].terminate()
        reached = stopped_at(processes)
    ((code, line),) = ends(start(machines[:1], model))
    assert code == 1 and "2 workers trained this run so far, now there are 1" in line
    # The second machine has no checkpoint, and needs none.
    assert not list((machines[1].folder / ".scratch/pretrain").glob("main/*-*/step-*"))
    train(machines, model)
    two, disturbed = (weights(machines[0], name) for name in ("models/two", model))
    for name in two:
        assert np.array_equal(two[name], disturbed[name]), name


@pytest.mark.slow
def test_workers_that_would_train_different_things_are_refused(machines):
    params = machines[1].folder / "params.yaml"
    before = params.read_text(encoding="utf-8")
    machines[1].set({"pretrain": {"learning_rate": 1e-4}})
    try:
        for code, line in ends(start(machines, "models/different")):
            assert code == 1
            assert "worker 1 (127.0.0.1:" in line
            assert "is not training the same run as worker 0" in line
    finally:
        params.write_text(before, encoding="utf-8")


@pytest.mark.slow
def test_a_second_set_of_workers_is_refused(machines):
    processes = start_training(machines, "models/first")
    for process, (code, line) in zip(
        processes, ends(start(machines, "models/second")), strict=True
    ):
        assert code == 1 and f"process {process.pid} is training this same run" in line
    for process in processes:
        process.terminate()
    ends(processes)
