"""Copying of byte ranges between files."""

import errno
import os

import pytest

from lib.run import copying


@pytest.mark.parametrize("by_kernel", [True, False])
def test_copy_range_appends_a_range(tmp_path, monkeypatch, by_kernel):
    if not by_kernel:  # As between some file systems.

        def refuse(*_: object) -> int:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    monkeypatch.setattr(copying, "_COPY_BYTES", 7)
    data = bytes(range(256))
    (tmp_path / "source").write_bytes(data)
    with (
        (tmp_path / "source").open("rb", buffering=0) as source,
        (tmp_path / "target").open("wb", buffering=0) as target,
    ):
        target.write(b"before")
        copying.copy_range(source, 10, 100, target)
        copying.copy_range(source, 200, 256, target)
        with pytest.raises(OSError, match="ended at byte 256"):
            copying.copy_range(source, 250, 300, target)
    expected = b"before" + data[10:100] + data[200:] + data[250:]
    assert (tmp_path / "target").read_bytes() == expected
