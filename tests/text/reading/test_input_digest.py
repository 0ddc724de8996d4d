"""The digest of the raw text is the one that DVC records for the folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from lib.run import fingerprint
from lib.text.reading.input_digest import input_md5
from lib.text.reading.raw_files import list_files, relative_name


def digest(folder: Path, workers: int = 2) -> str:
    files = {relative_name(file, folder): file for file in list_files(folder)}
    first = next(iter(files))
    known = {first: fingerprint.of_file(files[first])}
    assert input_md5(files, workers, known) == input_md5(files, workers)
    return input_md5(files, workers, known)


def test_the_digest_is_the_one_of_dvc(tmp_path):
    raw = tmp_path / "raw"
    # Sorted by whole paths, not folder by folder: "b!" comes before "b/".
    for name in ("b/two.txt", "b/one.txt", "b!.txt", "z.txt", "ünlü adı.txt", "a/c/three.txt"):
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}\r\n", newline="")
    (raw / "empty.txt").touch()
    for words in (["init", "-q", "--no-scm"], ["add", "-q", "raw"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=tmp_path, check=True)
    recorded = yaml.safe_load((tmp_path / "raw.dvc").read_text())["outs"][0]["md5"]
    assert digest(raw) == recorded
    moved = shutil.copytree(raw, tmp_path / "elsewhere")
    assert digest(moved, workers=1) == recorded
    (moved / "z.txt").write_text("another text")
    assert digest(moved) != recorded
