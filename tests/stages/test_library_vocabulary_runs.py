"""Whole runs with a tokenizer that the library runs: kills, and equal bytes from any workers."""

import random
import signal
import sys
import time
from dataclasses import replace

import pytest

from lib.checkpoints.huggingface import write_model
from lib.model.initialization import initial_values
from lib.run import fingerprint
from tests.helpers.library_tokenizers import write_library_tokenizer
from tests.helpers.project import Project, write_text
from tests.helpers.tiny_bert import TINY_MODERN

BASE = "models/base/tiny"


def command(model: str) -> tuple[str, ...]:
    folders = ("data/records/main", BASE, "data/vocab", model)
    return (sys.executable, "-m", "stages.pretrain", "main", *folders)


@pytest.fixture
def project(tmp_path):
    """Text, and a ModernBERT with byte-level BPE to continue, with words added."""
    project = Project(tmp_path / "project")
    write_text(project.folder / "data/raw", 200)
    base = write_library_tokenizer("modernbert", project.folder / BASE)
    config = replace(TINY_MODERN, vocab_size=768)
    write_model(base, config, initial_values(config, 1), config.special_ids(0, 1, 2))
    vocab = {"source": "extend", "base": BASE, "size": 900, "min_frequency": 2}
    project.set(
        {
            "vocab": {**vocab, "lowercase": False, "strip_accents": False},
            "records": {"next_sentence": False, "packing": True, "masking": "dynamic"},
            "phases": {"main": {"init": BASE}},
        }
    )
    return project


@pytest.mark.slow
def test_killed_runs_end_with_the_same_weights(project):
    project.stage("preprocess", "data/raw", "data/corpus")
    project.stage("sample5M", "data/corpus", "data/sample")
    project.stage("vocab", "data/sample", BASE, "data/vocab")
    project.stage("split", "data/corpus", "data/shards")
    project.stage("records", "main", "data/shards", "data/vocab", "data/records/main")
    started = time.monotonic()
    project.run(*command("models/whole"))
    seconds = time.monotonic() - started
    draw = random.Random(3)
    killed = 0
    for _ in range(5):
        process = project.start(*command("models/killed"))
        time.sleep(draw.uniform(0.3, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed
    project.run(*command("models/killed"))
    files = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
    for name in files:
        one, other = (project.folder / "models" / model / name for model in ("whole", "killed"))
        assert fingerprint.of_file(one) == fingerprint.of_file(other), name


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_workers(project):
    project.set({"split": {"lines_per_shard": 300}})
    found = []
    for workers in (1, 2):
        project.set({"cluster": {"workers": workers}})
        project.stage("preprocess", "data/raw", "data/corpus")
        project.stage("sample5M", "data/corpus", "data/sample")
        project.stage("vocab", "data/sample", BASE, "data/vocab")
        project.stage("split", "data/corpus", "data/shards")
        project.stage("records", "main", "data/shards", "data/vocab", "data/records/main")
        folders = ("data/vocab", "data/records/main")
        found.append([fingerprint.of_path(project.folder / folder) for folder in folders])
    assert found[0] == found[1]
