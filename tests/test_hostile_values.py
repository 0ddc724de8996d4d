"""Hostile and awkward values in params.yaml: no command runs, and the right folder is read.

Every value is either accepted, and then taken literally, or refused with one line. Whether a
command ran shows by a file called `canary`, whether a folder outside the project was touched by a
listing of it, and whether the right folder was read by a word that only its text has.
"""

import copy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lib.params import parse_params
from lib.run import fingerprint
from lib.run.errors import UserError
from tests.conftest import ROOT
from tests.helpers.project import PERSON, Project, environment, write_text

CANARY = "canary"
# Names of folders that a shell, DVC or YAML would read as something else.
AWKWARD_NAMES = [
    'l\'eau [1] $(touch canary) & "x"; #',
    "my raw",
    "l'eau",
    'say "hello"',
    "R&D (2020)",
    "raw[1]",
    "raw$x",
    "$(touch canary)",
    "`touch canary`",
    "x; touch canary",
    "x | touch canary",
    "x && touch canary",
    "<in >canary",
    "raw*",
    "raw?",
    "{a,b}",
    "#raw",
    "100%",
    "%(name)s",
    "wow!",
    "-rf",
    "--help",
    "back\\slash",
    "a:b",
    "me@home",
    "a=b",
    "trailing ",
    " leading",
    "été 語料",
    "\u200fعربي",
    "😀",
    "2024",
    "null",
    "true",
    "raw~",
    "x" * 200,
    "text.dvc",
]
OTHER_PATHS = [
    "../outside",
    "../../../outside",
    "/outside/of/the/project",
    "data/raw/",
    "./data//raw",
    "data/corpus/../raw",
]
REFUSED_PATHS = [
    "",
    " ",
    "tab\tin it",
    "line\nbreak",
    "nul\0",
    "\u2028",
    "\ud800",
    "${vocab.size}",
    "~",
    "~root/raw",
    "gs://bucket/raw",
    "https://example.org/raw",
    "file:///etc",
    "remote://store/raw",
    "ds://raw",
    "x" * 300,
    None,
    True,
    17,
    2.5,
    ["data/raw"],
    {"folder": "data/raw"},
]
OUTPUTS = [
    ".",
    "..",
    "/",
    "data",
    "data/code",
    "data/phases/main.json",
    "data/corpus",
    "data/records/main",
    "results/",
    "models/saved/main",
    "models/state/main",
]
PATH_VALUES = [*AWKWARD_NAMES, *OTHER_PATHS, *REFUSED_PATHS, *OUTPUTS]

NAMES_OF_PHASES = ["second", "records", "int", "train", "a-b_c", "2nd", "x" * 100]
REFUSED_NAMES = [
    *AWKWARD_NAMES[:30],
    *(value for value in REFUSED_PATHS if not isinstance(value, list | dict)),
    ".",
    "..",
    "../raw",
    "../../../outside",
    "/outside",
    "a/b",
    "a.b",
    "été",
    "saved",
    "Base",
    "MAIN",
    "x" * 101,
]

TASK = {
    "kind": "classification",
    "data": "data/labelled",
    "text_field": "text",
    "label_field": "label",
    "model": "models/main",
    "baseline": "data/vocab",
    "epochs": 1,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "max_seq_length": 16,
    "seeds": 1,
}


def valid() -> dict:
    return {
        "preprocess": {"input": "data/raw"},
        "vocab": {"source": "extend", "base": "models/base/x"},
        "records": {"source": "data/examples"},
        "phases": {"main": {"max_seq_length": 32, "init": "models/base/x"}},
        "pretrain": {"checkpoint_dir": None, "tpu": {}},
        "evaluate": {"phase": "main"},
        "probe": {"tasks": {"mood": dict(TASK)}},
        "cluster": {},
    }


def changed(key: str, value: object) -> dict:
    values = valid()
    *sections, last = key.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[last] = value
    return values


def refusal(values: dict) -> str:
    """The error about params.yaml, which is one line of printable text; empty if it is accepted."""
    try:
        parse_params(values)
    except UserError as failure:
        line = str(failure)
        assert line.startswith("params.yaml: ") and line.isprintable(), line
        return line
    return ""


PATHS = [
    "preprocess.input",
    "vocab.base",
    "records.source",
    "phases.main.init",
    "probe.tasks.mood.data",
    "probe.tasks.mood.model",
    "probe.tasks.mood.baseline",
]


@pytest.mark.parametrize("key", PATHS)
def test_a_path_is_taken_literally_or_refused_with_one_line(key):
    for value in (*AWKWARD_NAMES, *OTHER_PATHS):
        assert refusal(changed(key, value)) == "", value
    for value in REFUSED_PATHS:
        line = refusal(changed(key, value))
        assert line.startswith(f"params.yaml: {key}: should be "), value
        assert "Received: " in line or isinstance(value, dict), value


def test_a_path_keeps_every_character():
    for name in AWKWARD_NAMES:
        assert parse_params(changed("preprocess.input", name)).preprocess.input == name


@pytest.mark.parametrize(
    "key", ["preprocess.input", "vocab.base", "records.source", "phases.main.init"]
)
def test_an_input_inside_or_around_an_output_is_refused(key):
    for path in OUTPUTS:
        for value in (path, f"{Path.cwd()}/{path}", f"docs/../{path}" if path != "/" else path):
            line = refusal(changed(key, value))
            assert line.startswith(f"params.yaml: {key}: should be separate from "), value


def test_a_phase_may_start_from_the_models_of_another():
    for init in ("models/first", "models/saved/first/step-10", "models/other", "models/base/x"):
        values = changed("phases.main.init", init)
        values["phases"]["first"] = {"max_seq_length": 32, "init": "models/base/x"}
        assert refusal(values) == ""


@pytest.mark.parametrize("section", ["phases", "probe.tasks"])
def test_names_have_letters_digits_dashes_and_underscores(section):
    def named(name: object) -> dict:
        values = valid()
        items = values["phases"] if section == "phases" else values["probe"]["tasks"]
        items["main"] = items.get("main") or dict(TASK)
        items[name] = dict(items["main"])
        if name in ("train", "saved", "Base"):
            values["records"] = {}  # Any examples of the project's own.
        return values

    for name in NAMES_OF_PHASES:
        assert refusal(named(name)) == "", name
    for name in REFUSED_NAMES:
        if section == "phases" or name not in ("saved", "Base"):
            assert refusal(named(name)).startswith(f"params.yaml: {section}"), name


def test_a_name_like_a_type_is_named_in_the_error():
    for name in ("int", "str", "main"):
        values = valid()
        values["phases"][name] = {"max_seq_length": 32, "init": "data/vocab", "stepz": 3}
        assert f"phases.{name}.stepz: unknown key; did you mean `steps`?" in refusal(values)


def test_a_phase_called_like_a_split_would_read_that_of_external_examples():
    for name in ("train", "Dev", "validation"):
        values = valid()
        values["phases"][name] = dict(values["phases"]["main"])
        assert f"no phase may be called {name} with external examples" in refusal(values)


OTHERS = {
    "pretrain.checkpoint_dir": ["/mnt/my ck", "/mnt/$(touch canary)", "gs://b/l'eau", "s3://b/x"],
    "pretrain.tpu.name": ["local", "bert-1", "grpc://10.0.0.2:8470"],
    "pretrain.tpu.zone": ["europe-west4-a"],
    "pretrain.tpu.project": ["my-project", "example.com:my-project"],
    "cluster.scheduler": ["tcp://host:8786", "tls://10.0.0.2:1", "tcp://[::1]:8786"],
    "evaluate.phase": ["main"],
    "evaluate.language": ["en", "pt-BR"],
    "evaluate.license": ["apache-2.0", "l'eau; $(touch canary) | #", "😀"],
}
# Not each of them, but accepted by none.
REFUSED_EVERYWHERE = [
    "", "line\nbreak", "nul\0", "\ud800", "tab\t", True, 17, {"a": 1}, [["x"]], [None, {}],
]  # fmt: skip


@pytest.mark.parametrize("key", OTHERS)
def test_other_values_that_reach_a_path_an_address_or_a_file(key):
    for value in OTHERS[key]:
        assert refusal(changed(key, value)) == "", value
    for value in REFUSED_EVERYWHERE:
        assert refusal(changed(key, value)).startswith(f"params.yaml: {key}"), value
    for value in (
        *PATH_VALUES,
        "/mnt/ck[1]",
        "/mnt/*",
        "gs://b/a?",
        "tcp://$(id):1",
        "tcp://a b:1",
    ):
        refusal(changed(key, value))  # Whether accepted or not: no other error.
    if key in ("pretrain.tpu.name", "pretrain.tpu.zone", "pretrain.tpu.project", "evaluate.phase"):
        for value in (*AWKWARD_NAMES[:23], "../x", "~"):
            assert refusal(changed(key, value)).startswith(f"params.yaml: {key}"), value


def test_checkpoints_are_not_looked_for_by_a_pattern():
    for value in ("/", "//", "runs", "~/runs", "/mnt/ck[1]", "/mnt/*", "gs://b/a?", "/a\\b"):
        assert "pretrain.checkpoint_dir: should " in refusal(
            changed("pretrain.checkpoint_dir", value)
        )


def write_makefile(folder: Path) -> None:
    """The project's Makefile, with a python that prints its arguments."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace(": setup ##", ": ##")
    (folder / "Makefile").write_text(makefile, encoding="utf-8")
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n', encoding="utf-8")
    python.chmod(0o755)


# What make is given, and what the command gets: the value as it is.
@pytest.mark.parametrize("value", [*AWKWARD_NAMES, "$(shell touch canary)", "${HOME}", "$$x"])
def test_make_hands_values_to_commands_as_they_are(tmp_path, value):
    write_makefile(tmp_path)

    def make(target: str, *names: str) -> list[str]:
        values = [f"{name}={value}" for name in names]
        command = ["make", "-s", "--no-print-directory", target, *values]
        output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert not output.stderr  # make drops leading spaces.
        return output.stdout.split("\0")[2:-1]

    value = value.lstrip()
    assert make("import", "MODEL", "REVISION", "TO") == [value, value, f"--to={value}"]
    if len(value) < 20:
        assert make("recipe", "NAME", "SCALE") == [value, f"--scale={value}"]
        assert make("recipe-text", "NAME") == [value]
        assert make("remote", "BUCKET") == [value]
        assert make("compare", "A", "B") == [value, value]
        assert make("repeat", "SEEDS", "NAME") == [value, f"--name={value}"]
        assert make("bucket", "PORT") == [f"--port={value}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".venv", "Makefile"]


def test_flags_are_words_for_no_shell(tmp_path):
    write_makefile(tmp_path)
    flags = "--md --keep 'a|b c' ; touch canary $(touch canary) `touch canary`"
    for target, own in (("experiments", []), ("repeat", ["3"])):
        command = ["make", "-s", target, f"FLAGS={flags}"]
        words = subprocess.check_output(command, cwd=tmp_path, text=True).split("\0")[2:-1]
        assert words[: len(own) + 4] == [*own, "--md", "--keep", "a|b c", ";"]
        assert words[-1] == "canary`"
    assert not (tmp_path / CANARY).exists()


class Guarded:
    """A project whose surroundings are watched: a folder outside it, and the canary."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder / "outside"
        self.project = Project(folder / "a/project")
        self.folder = self.project.folder
        write_text(self.folder / "data/raw", 20)
        write_text(self.outside, 20)
        self.values = yaml.safe_load((self.folder / "params.yaml").read_text(encoding="utf-8"))
        self._before = self._surroundings()

    def _surroundings(self) -> str:
        return fingerprint.of_path(self.outside) + fingerprint.of_path(self.folder / "data/raw")

    def run(self, values: dict, *command: str) -> tuple[int, list[str]]:
        """Exit code and lines of output of a command, after a check of the surroundings."""
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=False)
        (self.folder / "params.yaml").write_text(text, encoding="utf-8")
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, timeout=120
        )
        assert self._surroundings() == self._before
        for folder in (self.folder, self.folder / "data", self.folder / "probe", self.outside):
            assert not (folder / CANARY).exists()
        output = (done.stdout + done.stderr).decode(errors="replace")
        assert "Traceback" not in output
        return done.returncode, output.splitlines()

    def refused(self, values: dict, *command: str) -> list[str]:
        """The errors of a command that must fail."""
        code, lines = self.run(values, *command)
        assert code, lines
        return [line for line in lines if "error" in line.lower()]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Guarded:
    return Guarded(tmp_path_factory.mktemp("guarded"))


def with_input(guarded: Guarded, path: object) -> dict:
    values = copy.deepcopy(guarded.values)
    values["preprocess"]["input"] = path
    return values


MARKER = "zanzibar"
SLOW = pytest.mark.slow


@SLOW
@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_dvc_reads_the_folder_of_that_name(guarded, name):
    folder = guarded.folder / "data" / name
    decoys = [guarded.folder / "data" / decoy for decoy in ("raw1", "raw", "raw2", "a")]
    write_text(folder, 20)
    (folder / "marker.txt").write_text(f"They sailed to {MARKER}.\n", encoding="utf-8")
    try:
        values = with_input(guarded, f"data/{name}")
        code, lines = guarded.run(values, "dvc", "repro", "preprocess")
        assert code == 0, lines
        corpus = "".join(
            path.read_text(encoding="utf-8")
            for path in (guarded.folder / "data/corpus").rglob("*.txt")
        )
        assert MARKER in corpus
        # DVC follows changes of the same folder.
        with (folder / "marker.txt").open("a", encoding="utf-8") as file:
            file.write("\nAnd back.\n")
        _, lines = guarded.run(values, "dvc", "status", "preprocess")
        assert any("modified" in line and name.strip()[:20] in line for line in lines), lines
    finally:
        shutil.rmtree(folder)
    assert decoys[1].is_dir()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, marks=[] if value == "gs://bucket/raw" else SLOW)
        for value in [*REFUSED_PATHS, *OUTPUTS]
    ],
)
def test_dvc_refuses_an_input_with_one_line(guarded, value):
    errors = guarded.refused(with_input(guarded, value), "dvc", "repro", "preprocess")
    # That of the check and DVC's closing line, or DVC's own before any stage runs.
    assert 1 <= len(errors) <= 2, errors
    assert "unexpected error" not in "".join(errors)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("../../../outside", "$(touch canary)") else SLOW)
        for name in REFUSED_NAMES
    ],
)
def test_dvc_refuses_a_phase_and_keeps_what_it_would_replace(guarded, name):
    values = copy.deepcopy(guarded.values)
    values["phases"][name] = dict(values["phases"]["main"])
    errors = guarded.refused(values, "dvc", "repro")
    assert 1 <= len(errors) <= 2, errors


def test_dvc_refuses_a_task_and_keeps_what_it_would_replace(guarded):
    values = copy.deepcopy(guarded.values)
    values["probe"] = {"tasks": {"../../../outside": dict(TASK)}}
    errors = guarded.refused(values, "dvc", "repro", "probe/dvc.yaml")
    assert 1 <= len(errors) <= 2, errors


NAMES_OF_PATHS = ["../../../outside", "../../outside", "../raw", "..", ".", "a/b", "../" * 9 + "x"]


def with_name(guarded: Guarded, section: str, name: str) -> tuple[dict, str]:
    """Values with a phase or task of this name, and the target of one of its stages."""
    values = copy.deepcopy(guarded.values)
    if section == "phases":
        values["phases"][name] = dict(values["phases"]["main"])
        return values, f"records@{name}"
    if section == "probe":
        values["probe"] = {"tasks": {name: dict(TASK)}}
        return values, f"probe/dvc.yaml:probe@{name}"
    values["evaluate"]["phase"] = name
    return values, "evaluate"


@pytest.mark.parametrize("section", ["phases", "probe", "evaluate"])
def test_dvc_runs_no_single_stage_with_the_name_of_a_path(guarded, section):
    # Without its dependencies, so also without the check.
    values, target = with_name(guarded, section, "../../../outside")
    (error,) = guarded.refused(values, "dvc", "repro", "--single-item", target)
    assert "name-without-slash" in error


@pytest.mark.slow
@pytest.mark.parametrize("section", ["phases", "probe", "evaluate"])
@pytest.mark.parametrize("name", NAMES_OF_PATHS)
def test_every_command_of_dvc_refuses_the_name_of_a_path(guarded, section, name):
    values, _ = with_name(guarded, section, name)
    file = "probe/dvc.yaml" if section == "probe" else "dvc.yaml"
    for command in (
        ["repro", file],
        ["repro", "--ignore-errors", file],
        ["repro", "--single-item", file],
        ["checkout", "--force"],
        ["commit", "--force"],
    ):
        guarded.run(values, "dvc", *command)
    (error,) = guarded.refused(values, "dvc", "repro", file)
    assert "name-without-slash" in error


@pytest.mark.slow
@pytest.mark.parametrize("key", ["vocab.base", "records.source", "phases.main.init"])
def test_dvc_takes_other_paths_literally(guarded, key):
    for value in [*AWKWARD_NAMES[:3], *REFUSED_PATHS[::3]]:
        values = copy.deepcopy(guarded.values)
        if key != "records.source":
            values["vocab"].update(source="extend", base="models/base/x")
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value
        expected = refusal(values)
        code, lines = guarded.run(values, "dvc", "repro", "check")
        if key == "records.source" or expected:
            assert bool(code) == bool(expected), (value, lines)
        else:
            # There is no model of this name.
            (error,) = (line for line in lines if line.startswith("check: error: "))
            assert "no such folder" in error or "does not exist" in error


@pytest.mark.slow
def test_values_of_an_experiment_run_nothing_and_delete_nothing(tmp_path):
    guarded = Guarded(tmp_path)
    with (guarded.folder / ".gitignore").open("a", encoding="utf-8") as file:
        file.write("/data/raw\n")  # Not in DVC either: nobody could bring it back.
    guarded.project.environment |= PERSON
    for command in (
        "dvc config core.no_scm false",
        "git init -q",
        "git add -A",
        "git commit -qm x",
    ):
        guarded.project.run(*command.split())
    for change in (
        "preprocess.input=data/$(touch canary)",
        "preprocess.input='data/`touch canary`'",
        "evaluate.phase=../../outside",
        "evaluate.phase=../data/raw",
        "phases.main.init='../x; touch canary'",
        "+phases.x={max_seq_length: 32, init: ../../../outside}",
        "+phases.../../../outside={max_seq_length: 32, init: data/vocab}",
        "pretrain.checkpoint_dir='$(touch canary)'",
    ):
        guarded.refused(guarded.values, "dvc", "exp", "run", "-S", change)
    for section in ("phases", "evaluate", "probe"):
        for name in ("../../../outside", "../raw", "../data/raw", ".."):
            values, _ = with_name(guarded, section, name)
            guarded.refused(values, "dvc", "exp", "run")
