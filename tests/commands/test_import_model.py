"""Models come from the hub pinned, whole and checked. The hub here is a server on this machine."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from lib.checkpoints.hub import plain_errors
from lib.commands import import_model
from lib.commands.import_model import commit_of, fetch
from lib.run.errors import UserError
from tests.helpers.project import Project

NAME, FULL_NAME = "tiny-bert", "some-one/tiny-bert"
COMMIT, OTHER_COMMIT = "0123456789abcdef" * 2 + "01234567", "f" * 40
WEIGHTS = bytes(range(256)) * 12_000  # 3 MB
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle",
    "tf_model.h5": b"another format",
    "vocab.txt": b"[PAD]\nword\n",
    "tokenizer_config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "LICENSE": b"",
    "onnx/model.onnx": b"a folder's",
    ".gitattributes": b"*.bin filter=lfs",
}
KEPT = {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "README.md"}


class Hub(ThreadingHTTPServer):
    """The routes of the hub that a download asks for: facts of a model, bytes of a file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = dict(FILES)
        self.listed: dict[str, bytes] = {}  # Where the list tells something else than comes.
        self.error: tuple[str, int, str] | None = None  # Part of a path, status, the hub's code.
        self.cut: int | None = None  # The next so large file breaks off after so many bytes...
        self.hang = False  # ...or nothing more comes.
        self.ranges = True
        self.asked: list[tuple[str, int]] = []  # Paths, and first bytes.
        self.tokens: dict[str, str | None] = {}  # By path.

    def facts(self) -> dict:
        siblings = []
        for name, content in {**self.files, **self.listed}.items():
            facts = {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            }
            if name.endswith((".safetensors", ".bin", ".h5")):
                digest = hashlib.sha256(content).hexdigest()
                facts["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
            siblings.append(facts)
        return {"id": FULL_NAME, "sha": COMMIT, "siblings": siblings}


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def give(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        cut = self.server.cut
        if cut is None or len(content) <= cut:
            self.wfile.write(content)
            return
        self.wfile.write(content[:cut])
        self.wfile.flush()
        if self.server.hang:
            time.sleep(60)
        self.server.cut, self.close_connection = None, True

    def refuse(self, status: int, code: str) -> None:
        self.give(b"{}", status, **({"X_Error_Code": code} if code else {}))

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        first = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        hub.asked.append((path, first))
        hub.tokens[path] = self.headers.get("Authorization")
        if hub.error and hub.error[0] in path:
            self.refuse(*hub.error[1:])
        elif path.startswith(f"/api/models/{NAME}/"):  # It was given an owner later.
            self.give(b"", 307, Location=self.path.replace(NAME, FULL_NAME))
        elif found := re.fullmatch(f"/api/models/{FULL_NAME}/revision/(.+)", path):
            if found[1] in ("main", "v1.0", COMMIT):
                self.give(json.dumps(hub.facts()).encode())
            else:
                self.refuse(404, "RevisionNotFound")
        elif path.startswith(start := f"/{FULL_NAME}/resolve/{COMMIT}/"):
            name = path.removeprefix(start)
            if name == "model.safetensors":  # Large files are elsewhere.
                self.give(b"", 302, Location=f"http://localhost:{hub.server_port}/cdn/{name}")
            else:
                self.give(hub.files[name][first:], 206)
        elif path.startswith("/cdn/"):
            content = hub.files[path.removeprefix("/cdn/")]
            if hub.ranges:
                self.give(content[first:], 206)
            else:
                self.give(content)
        else:
            self.refuse(404, "RepoNotFound")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


TARGET = Path("models/base/tiny-bert")


def get(hub: Hub, target: Path = TARGET, revision: str = COMMIT) -> dict[str, bytes]:
    """Fetches the model; what is in its folder then."""
    fetch(HfApi(hub.url), NAME, revision, target)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def left_over() -> list[Path]:
    """Files outside the target."""
    return [path for path in Path().rglob("*") if path.is_file() and TARGET not in path.parents]


def test_what_a_bert_needs_is_there_and_nothing_else(hub):
    found = get(hub)
    source = json.loads(found.pop("source.json"))
    assert found == {name: FILES[name] for name in {*KEPT, "LICENSE"}}
    assert source == {
        "model": FULL_NAME,
        "revision": COMMIT,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in found.items()},
    }
    assert left_over() == []
    files = [path for path, _ in hub.asked if "/api/" not in path]
    assert files[0].endswith("config.json")  # What it is, before its weights.


def test_a_token_is_for_the_hub_alone(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(hub)
    for path, token in hub.tokens.items():
        assert token == (None if path.startswith("/cdn/") else "Bearer hf_secret"), path


def test_the_folder_depends_on_the_model_alone(hub):
    assert get(hub) == get(hub, Path("elsewhere/another"))


def test_what_is_there_is_not_fetched_again(hub):
    get(hub)
    asked = len(hub.asked)
    get(hub)
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["pytorch_model.bin", "tf_model.h5"], ["pytorch_model.bin"]),
        (
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "pytorch_model.bin",
            ],
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
        ),
        (
            ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin", "other.bin"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
    ],
    ids=["safetensors", "bin", "shards", "shards of bin"],
)
def test_which_weights_are_taken(hub, present, taken):
    hub.files = {"config.json": b"{}", **{name: name.encode() for name in present}}
    assert sorted(get(hub)) == sorted(["config.json", "source.json", *taken])


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(hub, ranges):
    hub.cut, hub.ranges = 1_000_000, ranges
    assert get(hub)["model.safetensors"] == WEIGHTS
    firsts = [first for path, first in hub.asked if path == "/cdn/model.safetensors"]
    assert firsts == [0, 1_000_000]


@pytest.mark.parametrize("here", [0, 1, len(WEIGHTS) - 1, len(WEIGHTS)])
def test_only_what_is_missing_is_asked_for(hub, here):
    folder = Path(".scratch/downloads", COMMIT)
    folder.mkdir(parents=True)
    (folder / "model.safetensors.part").write_bytes(WEIGHTS[:here])
    assert get(hub)["model.safetensors"] == WEIGHTS
    firsts = [first for path, first in hub.asked if path == "/cdn/model.safetensors"]
    assert firsts == ([] if here == len(WEIGHTS) else [here])


def command(hub: Hub, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "lib.commands.import_model", *words],
        env={
            "PATH": "/usr/bin:/bin",
            "HF_ENDPOINT": hub.url,
            "HOME": str(Path.cwd()),
            "PYTHONPATH": str(Path(import_model.__file__).parents[2]),
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_killed_fetch_leaves_nothing_and_is_gone_on_from(hub):
    hub.cut, hub.hang = 2_000_000, True
    process = command(hub, NAME, COMMIT)
    part = Path(".scratch/downloads", COMMIT, "model.safetensors.part")
    while not part.exists() or part.stat().st_size < 1_000_000:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Path("models").exists()
    hub.cut, size = None, part.stat().st_size
    hub.asked.clear()
    assert get(hub)["model.safetensors"] == WEIGHTS
    weights = "model.safetensors"
    again = [(f"/{FULL_NAME}/resolve/{COMMIT}/{weights}", size), (f"/cdn/{weights}", size)]
    assert [(path, first) for path, first in hub.asked if "/api/" not in path] == again
    assert left_over() == []


def test_only_one_model_at_a_time(hub):
    hub.cut, hub.hang = 2_000_000, True
    process = command(hub, NAME, COMMIT)
    part = Path(".scratch/downloads", COMMIT, "model.safetensors.part")
    while not part.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    with pytest.raises(UserError, match="another model is being fetched; wait for it"):
        get(hub)
    process.kill()
    process.communicate()


def test_bytes_that_the_hub_does_not_list_are_not_taken(hub):
    hub.listed = {"model.safetensors": WEIGHTS[::-1]}
    with pytest.raises(UserError, match=r"model\.safetensors: what came is not what the hub lists"):
        get(hub)
    assert not Path("models").exists()
    hub.listed = {}
    assert get(hub)["model.safetensors"] == WEIGHTS


def test_a_part_that_was_damaged_is_found_and_fetched_anew(hub):
    folder = Path(".scratch/downloads", COMMIT)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_bytes(b"not the one")
    (folder / "model.safetensors.part").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match="run the same command again"):
        get(hub)
    assert get(hub)["vocab.txt"] == FILES["vocab.txt"]


@pytest.mark.parametrize("given", ["main", "v1.0"])
def test_a_branch_is_answered_with_its_commit(hub, given):
    assert commit_of(HfApi(hub.url), NAME, given) == COMMIT


@pytest.mark.parametrize("words", [[NAME], [NAME, ""], [NAME, "v1.0"]])
def test_without_a_full_hash_nothing_is_fetched(hub, words):
    process = command(hub, *words)
    output, errors = process.communicate()
    branch = words[1] if words[1:] and words[1] else "main"
    assert (process.returncode, output, errors.count("\n")) == (1, "", 1)
    assert f"{branch} of tiny-bert is now at {COMMIT}: make import MODEL=tiny-bert" in errors
    assert not any("resolve" in path for path, _ in hub.asked)


@pytest.mark.parametrize(
    ("part", "status", "code", "message"),
    [
        ("api", 404, "RepoNotFound", "has no such model"),
        ("api", 401, "", "HTTP 401; see its name, or log in"),
        ("api", 404, "RevisionNotFound", f"has no revision {COMMIT}"),
        ("resolve", 403, "GatedRepo", "gated; accept its terms at"),
        ("resolve", 401, "", "HTTP 401; see its name, or log in: hf auth login"),
        ("api", 503, "", "HTTP 503; try later"),
        ("model.safetensors", 500, "", "HTTP 500; try later"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(hub, part, status, code, message):
    hub.error = part, status, code
    with pytest.raises(UserError, match=message) as failure:
        get(hub)
    assert "\n" not in str(failure.value)
    assert not Path("models").exists()


def test_an_unknown_revision_is_told(hub):
    with pytest.raises(UserError, match=f"tiny-bert: has no revision {OTHER_COMMIT}"):
        get(hub, revision=OTHER_COMMIT)


@pytest.mark.parametrize("name", ["", "a/b/c", "https://huggingface.co/bert", "..", "-x"])
def test_a_name_that_no_model_has_is_told(hub, name):
    with pytest.raises(UserError, match="should be a model of the hub, such as"):
        fetch(HfApi(hub.url), name, COMMIT, TARGET)


def test_without_a_network_it_is_told_at_once():
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1: no connection"):
        fetch(HfApi("http://127.0.0.1:1"), NAME, COMMIT, TARGET)


def test_what_is_no_hub_is_told(hub, monkeypatch):
    monkeypatch.setattr(Hub, "facts", lambda self: ["no", "model"])
    with pytest.raises(UserError, match="does not answer as a hub does; see HF_ENDPOINT"):
        get(hub)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": b'{"model_type": "roberta"}', "model.safetensors": b""}, "'roberta'"),
        ({"model.safetensors": b""}, "has no config.json"),
        ({"config.json": b"{}", "tf_model.h5": b""}, "has none of model.safetensors, "),
        ({"config.json": b"not JSON", "model.safetensors": b""}, "not valid JSON"),
    ],
)
def test_what_is_no_bert_is_refused_before_its_weights_are_fetched(hub, files, message):
    hub.files = files
    with pytest.raises(UserError, match=message):
        get(hub)
    assert not any(path.endswith("model.safetensors") for path, _ in hub.asked)
    assert not Path("models").exists()


def test_a_folder_that_is_there_is_never_written_over(hub):
    get(hub)
    with pytest.raises(UserError, match=f"tiny-bert: holds {FULL_NAME} at {COMMIT}; name another"):
        get(hub, revision=OTHER_COMMIT)
    (TARGET / "vocab.txt").write_text("mine")
    with pytest.raises(UserError, match=r"vocab\.txt: is not as it was fetched; remove"):
        get(hub)
    (TARGET / "source.json").unlink()
    with pytest.raises(UserError, match="is there, and was not made by this command"):
        get(hub)
    assert (TARGET / "vocab.txt").read_text() == "mine"
    shutil.rmtree(TARGET)
    TARGET.with_name("tiny-bert.dvc").touch()
    with pytest.raises(UserError, match="dvc pull models/base/tiny-bert"):
        get(hub)


def test_a_disk_that_is_too_small_is_told_beforehand(hub, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000))
    with pytest.raises(UserError, match="3 MB are needed, 1 MB are free; free some space"):
        get(hub)


def test_a_disk_that_is_full_is_told():
    # Every write to this device fails so.
    with (
        pytest.raises(UserError, match="No space left on device; free some space"),
        plain_errors(HfApi(), NAME, COMMIT),
    ):
        Path("/dev/full").write_text("x")


@pytest.mark.parametrize("with_git", [False, True])
def test_make_import_gives_the_model_to_dvc(hub, tmp_path, monkeypatch, with_git):
    monkeypatch.chdir(Path(import_model.__file__).parents[2])
    project = Project(tmp_path / "project")
    project.environment["HF_ENDPOINT"] = hub.url
    if with_git:
        project.run("git", "init", "-q")
        project.run("git", "add", ".")
        project.run("dvc", "config", "--unset", "core.no_scm")
    # The environment is there: it is this one.
    words = ("make", "-o", "setup", "import", f"MODEL={NAME}", f"REVISION={COMMIT}")
    output = project.run(*words)
    assert f"{FULL_NAME} at {COMMIT}: 6 files, 3.1 MB" in output
    base = project.folder / "models/base"
    assert (base / "tiny-bert/model.safetensors").read_bytes() == WEIGHTS
    assert "tiny-bert" in (base / "tiny-bert.dvc").read_text()
    if with_git:
        assert "holds tiny-bert" in project.run(*words)
        untracked = project.run("git", "ls-files", "--others", "--exclude-standard")
        assert untracked.split() == ["models/base/tiny-bert.dvc"]
        # Each `dvc exp run` begins by removing what DVC once linked and no longer finds the use of.
        project.run("dvc", "checkout", "--allow-missing")
        assert (base / "tiny-bert/model.safetensors").read_bytes() == WEIGHTS
