"""Set-up for GPUs and TPUs: make targets, dependency groups and lock file are consistent."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest

from tests.conftest import ROOT

DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS = DECLARED["dependency-groups"]


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def package(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0]


@pytest.mark.parametrize("target", ["smoke", "demo"])
def test_a_downloaded_zip_is_told_what_it_lacks(tmp_path, target):
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    # Wherever temporary files are: not in a repository of the developer's.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "LC_ALL": "C"}
    environment.pop("GIT_DIR", None)
    done = subprocess.run(
        ["make", target], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    first = done.stderr.splitlines()[0]
    assert done.returncode and first.startswith(
        "make: error: not a git repository, which DVC needs"
    )
    assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize("target", ["gpu", "tpu"])
def test_help_names_the_target_and_its_page(target):
    (line,) = [line for line in make("help").splitlines() if line.startswith(f"{target} ")]
    assert (ROOT / re.search(r"docs/\w+\.md", line)[0]).exists()


@pytest.mark.parametrize("target", ["gpu", "tpu"])
def test_the_target_installs_its_group_after_the_lock(target):
    commands = make("--dry-run", "--always-make", target)
    lock = commands.index("-r requirements.lock")
    # Python 3.11 comes with an older pip.
    assert lock < commands.index("pip>=25.1") < commands.index(f"--group {target}")
    assert target in GROUPS


def test_the_tpu_target_uninstalls_the_other_tensorflow_first():
    commands = make("--dry-run", "--always-make", "tpu")
    removed = re.search(r"uninstall --quiet --yes (.*)", commands)[1].split()
    assert commands.index("uninstall") < commands.index("--group tpu")
    names = [*map(package, DECLARED["project"]["dependencies"]), *map(package, GROUPS["tpu"])]
    assert sorted(removed) == sorted(name for name in names if name.startswith("tensorflow"))


def test_the_groups_accept_the_locked_tensorflow():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    major, minor = map(int, re.search(r"^tensorflow==(\d+)\.(\d+)", lock, re.MULTILINE).groups())
    (declared,) = [
        each for each in DECLARED["project"]["dependencies"] if package(each) == "tensorflow"
    ]
    low, high = re.search(r">=2\.(\d+),<2\.(\d+)$", declared).groups()
    assert major == 2 and int(low) <= minor < int(high)
    for group in ("gpu", "tpu"):
        (requirement,) = [each for each in GROUPS[group] if each.startswith("tensorflow")]
        assert requirement.endswith(f">=2.{low},<2.{high}")
