"""The worker's side of a Dask cluster: which workers are compatible with a run."""

import json

import pytest

from lib.run.dask_task import WorkerIncompatibleError, check_compatible, write_handshake


def test_a_worker_needs_the_same_disk_code_and_versions(tmp_path):
    handshake = tmp_path / "handshake.json"
    with pytest.raises(WorkerIncompatibleError, match=r"cannot read .*handshake.json .*a disk"):
        check_compatible(handshake)
    write_handshake(handshake)
    reply = check_compatible(handshake)
    assert reply.parent == tmp_path and reply.exists()
    expected = json.loads(handshake.read_text())
    assert {"lib/run/pool.py", "lib/vocab/characters.json", "stages/records.py"} <= set(
        expected["code"]
    )
    assert {"numpy", "emoji", "sentencepiece", "Python", "zlib"} <= set(expected["versions"])
    expected["versions"]["numpy"] = "1.0"
    handshake.write_text(json.dumps(expected))
    assert check_compatible(handshake) == reply  # Checked once per run.
    check_compatible.cache_clear()
    with pytest.raises(WorkerIncompatibleError, match=r"has numpy [0-9.]+, not 1\.0"):
        check_compatible(handshake)
    expected["code"]["lib/new.py"] = expected["code"]["lib/run/pool.py"] = "0"
    handshake.write_text(json.dumps(expected))
    with pytest.raises(WorkerIncompatibleError, match=r"\(lib/new\.py and 1 more\)"):
        check_compatible(handshake)
