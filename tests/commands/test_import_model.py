"""Model downloads from the hub: pinned, complete, verified. The hub is a local test server."""

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
from huggingface_hub import HfApi, constants

from lib.checkpoints.hub import hub_errors
from lib.commands import import_model
from lib.commands.import_model import download_model
from lib.run.errors import UserError
from lib.run.progress import Progress
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
    "onnx/model.onnx": b"in a folder",
    ".gitattributes": b"*.bin filter=lfs",
}
KEPT = {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "README.md"}


class Hub(ThreadingHTTPServer):
    """Test server with the routes of the hub that a download uses: model info and files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = dict(FILES)
        self.listed: dict[str, bytes] = {}  # Listed instead of what is served.
        self.error: tuple[str, int, str] | None = None  # Part of a path, HTTP status, error code.
        # The next larger file breaks off after this many bytes, or with `hang` stops arriving.
        self.cut: int | None = None
        self.hang = False
        self.ranges = True
        self.requests: list[tuple[str, int]] = []  # Path and first byte of each.
        self.tokens: dict[str, str | None] = {}  # By path.

    def model_info(self) -> dict:
        siblings = []
        for name, content in {**self.files, **self.listed}.items():
            entry = {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            }
            if name.endswith((".safetensors", ".bin", ".h5")):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
            siblings.append(entry)
        return {"id": FULL_NAME, "sha": COMMIT, "siblings": siblings}


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
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

    def send_from(self, content: bytes, first: int) -> None:
        if first:
            span = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.send(content[first:], 206, Content_Range=span)
        else:
            self.send(content)

    def refuse(self, status: int, code: str) -> None:
        self.send(b"{}", status, **({"X_Error_Code": code} if code else {}))

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        first = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        hub.requests.append((path, first))
        hub.tokens[path] = self.headers.get("Authorization")
        if hub.error and hub.error[0] in path:
            self.refuse(*hub.error[1:])
        elif path.startswith(f"/api/models/{NAME}/"):  # The model got an owner later.
            self.send(b"", 307, Location=self.path.replace(NAME, FULL_NAME))
        elif found := re.fullmatch(f"/api/models/{FULL_NAME}/revision/(.+)", path):
            if found[1] in ("main", "v1.0", COMMIT):
                self.send(json.dumps(hub.model_info()).encode())
            else:
                self.refuse(404, "RevisionNotFound")
        elif path.startswith(start := f"/{FULL_NAME}/resolve/{COMMIT}/"):
            name = path.removeprefix(start)
            if name == "model.safetensors":  # Large files are on another host.
                self.send(b"", 302, Location=f"http://localhost:{hub.server_port}/cdn/{name}")
            else:
                self.send_from(hub.files[name], first)
        elif path.startswith("/cdn/"):
            self.send_from(hub.files[path.removeprefix("/cdn/")], first if hub.ranges else 0)
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


def download(
    hub: Hub,
    target: Path = TARGET,
    revision: str = COMMIT,
    max_gb: float = 1.0,
    hours: float = 1.0,
) -> dict[str, bytes]:
    """Downloads the model and returns the content of its folder."""
    download_model(HfApi(hub.url), NAME, revision, target, max_gb, hours)
    return {path.name: path.read_bytes() for path in target.iterdir()}


def leftovers() -> list[Path]:
    """Files outside the target."""
    return [path for path in Path().rglob("*") if path.is_file() and TARGET not in path.parents]


def test_exactly_the_needed_files_are_downloaded(hub):
    found = download(hub)
    source = json.loads(found.pop("source.json"))
    assert found == {name: FILES[name] for name in {*KEPT, "LICENSE"}}
    assert source == {
        "model": FULL_NAME,
        "revision": COMMIT,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in found.items()},
    }
    assert leftovers() == []
    files = [path for path, _ in hub.requests if "/api/" not in path]
    assert files[0].endswith("config.json")  # Before the weights, to check the model type.


def test_a_long_download_shows_its_progress_in_a_log(hub, monkeypatch, capfd):
    def begin(self, label, total, unit):
        original(self, label, total, unit)
        self._interval = 0

    original = Progress.__init__
    monkeypatch.setattr(Progress, "__init__", begin)
    hub.files["model.safetensors"] = bytes(3_500_000)
    download(hub)
    found = re.findall(r"import: model\.safetensors: +\d+% (\d)/3 ", capfd.readouterr().err)
    assert found and found[-1] == "3"


def test_a_modernbert_is_downloaded(hub):
    hub.files = FILES | {"config.json": b'{"model_type": "modernbert"}'}
    assert download(hub)["config.json"] == hub.files["config.json"]


def test_token_is_sent_to_the_hub_only(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(hub)
    for path, token in hub.tokens.items():
        assert token == (None if path.startswith("/cdn/") else "Bearer hf_secret"), path


def test_folder_does_not_depend_on_the_target(hub):
    assert download(hub) == download(hub, Path("elsewhere/another"))


def test_downloaded_model_is_not_downloaded_again(hub):
    download(hub)
    requests = len(hub.requests)
    download(hub)
    assert len(hub.requests) == requests


@pytest.mark.parametrize(
    ("present", "downloaded"),
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
    ids=["safetensors", "bin", "safetensors shards", "bin shards"],
)
def test_choice_of_weight_files(hub, present, downloaded):
    hub.files = {"config.json": b"{}", **{name: name.encode() for name in present}}
    assert sorted(download(hub)) == sorted(["config.json", "source.json", *downloaded])


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connection_is_resumed(hub, ranges):
    hub.cut, hub.ranges = 1_000_000, ranges
    assert download(hub)["model.safetensors"] == WEIGHTS
    firsts = [first for path, first in hub.requests if path == "/cdn/model.safetensors"]
    chunk = constants.DOWNLOAD_CHUNK_SIZE
    assert firsts == [0, 1_000_000 // chunk * chunk]


@pytest.mark.parametrize("size", [0, 1, len(WEIGHTS) - 1, len(WEIGHTS)])
def test_only_missing_bytes_are_requested(hub, size):
    folder = Path(".scratch/downloads", COMMIT)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS[:size])
    assert download(hub)["model.safetensors"] == WEIGHTS
    firsts = [first for path, first in hub.requests if path == "/cdn/model.safetensors"]
    assert firsts == ([] if size == len(WEIGHTS) else [size])


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


def start_hanging(hub: Hub) -> tuple[subprocess.Popen, Path]:
    """A process whose download of the weights hangs after 2 MB, and their file."""
    hub.cut, hub.hang = 2_000_000, True
    process = command(hub, NAME, COMMIT)
    weights = Path(".scratch/downloads", COMMIT, "model.safetensors")
    while not weights.exists() or weights.stat().st_size < 1_000_000:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process, weights


def test_killed_download_leaves_no_model_and_is_resumed(hub):
    process, file = start_hanging(hub)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Path("models").exists()
    hub.cut, size = None, file.stat().st_size
    hub.requests.clear()
    assert download(hub)["model.safetensors"] == WEIGHTS
    weights = "model.safetensors"
    again = [(f"/{FULL_NAME}/resolve/{COMMIT}/{weights}", size), (f"/cdn/{weights}", size)]
    assert [(path, first) for path, first in hub.requests if "/api/" not in path] == again
    assert leftovers() == []


def test_one_download_at_a_time(hub):
    process, _ = start_hanging(hub)
    with pytest.raises(UserError, match="another process is downloading it; wait for it"):
        download(hub)
    process.kill()
    process.communicate()


def test_files_with_another_digest_are_rejected(hub):
    hub.listed = {"model.safetensors": WEIGHTS[::-1]}
    with pytest.raises(
        UserError, match=r"model\.safetensors: the downloaded file's digest is not the one"
    ):
        download(hub)
    assert not Path("models").exists()
    hub.listed = {}
    assert download(hub)["model.safetensors"] == WEIGHTS


def test_damaged_partial_files_are_downloaded_again(hub):
    folder = Path(".scratch/downloads", COMMIT)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_bytes(b"not the one")
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    (folder / "README.md").write_bytes(b"x" * 1000)
    found = download(hub)
    assert {name: found[name] for name in KEPT} == {name: FILES[name] for name in KEPT}


def test_a_model_above_the_limit_is_refused_before_the_download(hub):
    with pytest.raises(
        UserError, match=r"its files have 0\.00307 GB, more than .* 0\.003 GB; raise"
    ):
        download(hub, max_gb=0.003)
    assert all("/api/" in path for path, _ in hub.requests)


def test_a_download_is_given_up_after_the_time_limit_and_resumed(hub):
    hub.cut, hub.hang = 2_000_000, True
    with pytest.raises(
        UserError, match=r"not downloaded within 0\.0003 hours; run the same command"
    ):
        download(hub, hours=0.0003)
    assert not Path("models").exists()
    hub.cut = None
    assert download(hub)["model.safetensors"] == WEIGHTS
    assert leftovers() == []


@pytest.mark.parametrize("words", [[NAME], [NAME, ""], [NAME, "v1.0"]])
def test_without_a_full_hash_nothing_is_downloaded(hub, words):
    process = command(hub, *words)
    output, errors = process.communicate()
    branch = words[1] if words[1:] and words[1] else "main"
    assert (process.returncode, output, errors.count("\n")) == (1, "", 1)
    assert f"{branch} of tiny-bert is now {COMMIT}: make import MODEL=tiny-bert" in errors
    assert not any("resolve" in path for path, _ in hub.requests)


@pytest.mark.parametrize(
    ("part", "status", "code", "message"),
    [
        ("api", 404, "RepoNotFound", "no such model on"),
        ("api", 401, "", "HTTP 401; check its name, or run"),
        ("api", 404, "RevisionNotFound", f"no revision {COMMIT}"),
        ("resolve", 403, "GatedRepo", "gated; accept its terms at"),
        ("resolve", 401, "", "HTTP 401; check its name, or run `hf auth login`"),
        ("api", 503, "", "HTTP 503; try later"),
        ("model.safetensors", 500, "", "HTTP 500; try later"),
    ],
)
def test_refusals_of_the_hub_are_reported_in_one_line(
    hub, monkeypatch, part, status, code, message
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.error = part, status, code
    with pytest.raises(UserError, match=message) as failure:
        download(hub)
    assert "\n" not in str(failure.value) and "hf_secret" not in str(failure.value)
    assert not Path("models").exists()


def test_unknown_revision(hub):
    with pytest.raises(UserError, match=f"tiny-bert: no revision {OTHER_COMMIT}"):
        download(hub, revision=OTHER_COMMIT)


@pytest.mark.parametrize("name", ["", "a/b/c", "https://huggingface.co/bert", "..", "-x"])
def test_invalid_model_name(hub, name):
    with pytest.raises(
        UserError, match="not the name of a model; it should be NAME or OWNER/NAME, such as"
    ):
        download_model(HfApi(hub.url), name, COMMIT, TARGET, 1, 1)


def test_missing_network_is_reported_at_once():
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1: no connection"):
        download_model(HfApi("http://127.0.0.1:1"), NAME, COMMIT, TARGET, 1, 1)


def test_server_that_is_not_a_hub(hub, monkeypatch):
    monkeypatch.setattr(Hub, "model_info", lambda self: ["no", "model"])
    with pytest.raises(UserError, match="not a Hugging Face hub; check HF_ENDPOINT"):
        download(hub)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"config.json": b'{"model_type": "roberta"}', "model.safetensors": b""},
            "config.json: model_type should be bert or modernbert. Received: 'roberta'",
        ),
        ({"model.safetensors": b""}, "no config.json, so not"),
        ({"config.json": b"{}", "tf_model.h5": b""}, "none of model.safetensors, "),
        ({"config.json": b"not JSON", "model.safetensors": b""}, "not valid JSON"),
    ],
)
def test_other_models_are_refused_before_their_weights_are_downloaded(hub, files, message):
    hub.files = files
    with pytest.raises(UserError, match=message):
        download(hub)
    assert not any(path.endswith("model.safetensors") for path, _ in hub.requests)
    assert not Path("models").exists()


def test_existing_folder_is_never_overwritten(hub):
    download(hub)
    with pytest.raises(UserError, match=f"tiny-bert: holds {FULL_NAME} at {COMMIT}; name another"):
        download(hub, revision=OTHER_COMMIT)
    (TARGET / "vocab.txt").write_text("mine")
    with pytest.raises(
        UserError, match=r"vocab\.txt: missing or changed since the download; remove"
    ):
        download(hub)
    (TARGET / "source.json").unlink()
    with pytest.raises(UserError, match="already exists and was not made by this command"):
        download(hub)
    assert (TARGET / "vocab.txt").read_text() == "mine"
    shutil.rmtree(TARGET)
    TARGET.with_name("tiny-bert.dvc").touch()
    with pytest.raises(UserError, match="dvc pull models/base/tiny-bert"):
        download(hub)


def test_too_small_disk_is_reported_before_the_download(hub, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000))
    with pytest.raises(UserError, match="3 MB needed, 1 MB free; free some space"):
        download(hub)


def test_full_disk():
    # Every write to this device fails with this error.
    with (
        pytest.raises(UserError, match="No space left on device; free some space"),
        hub_errors(HfApi(), NAME, COMMIT),
    ):
        Path("/dev/full").write_text("x")


@pytest.mark.slow
@pytest.mark.parametrize("with_git", [False, True])
def test_make_import_adds_the_model_to_dvc(hub, tmp_path, monkeypatch, with_git):
    monkeypatch.chdir(Path(import_model.__file__).parents[2])
    project = Project(tmp_path / "project")
    project.environment["HF_ENDPOINT"] = hub.url
    if with_git:
        project.run("git", "init", "-q")
        project.run("git", "add", ".")
        project.run("dvc", "config", "--unset", "core.no_scm")
    # -o: the virtual environment exists, it is this one.
    words = ("make", "-o", "setup", "import", f"MODEL={NAME}", f"REVISION={COMMIT}")
    output = project.run(*words)
    assert f"{FULL_NAME} at {COMMIT}: 6 files, 3.1 MB" in output
    base = project.folder / "models/base"
    assert (base / "tiny-bert/model.safetensors").read_bytes() == WEIGHTS
    assert "tiny-bert" in (base / "tiny-bert.dvc").read_text()
    if with_git:
        assert "already holds tiny-bert" in project.run(*words)
        untracked = project.run("git", "ls-files", "--others", "--exclude-standard")
        assert untracked.split() == ["models/base/tiny-bert.dvc"]
        # `dvc exp run` begins by removing unused files that DVC once linked.
        project.run("dvc", "checkout", "--allow-missing")
        assert (base / "tiny-bert/model.safetensors").read_bytes() == WEIGHTS
