"""The commands of README and docs, run as written by a simulated reader."""

import re
import time
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest
import yaml

from lib.commands.recipe import copy_project, merge
from tests.conftest import ROOT
from tests.helpers.bucket import Bucket
from tests.helpers.pages import Terminal, commands, name_of, pages
from tests.helpers.project import TINY, write_text

# Page, command, and why it is not run here: first what other tests run, then what is unavailable.
SKIPPED = [
    ("*", r"make (test|interop|lint|check-slow)$", "runs this test"),
    ("*", r"make (finish|continue) ", "needs a run that was stopped, as in test_continuing"),
    ("docs/remote.md", r"make bucket$", "the test's bucket is started by the same module"),
    ("docs/experiments.md", r"dvc exp run --queue -S", "test_experiments queues a grid"),
    ("docs/experiments.md", r"dvc exp run --temp", "ends with kill -9 on the page"),
    ("docs/experiments.md", r"make recipe.* dvc exp run", "test_recipe_runs compares recipes"),
    (
        "docs/training.md",
        r"dvc repro|dvc exp run",
        "test_prolonging_runs prolongs and decays a phase",
    ),
    ("docs/recipes/*", r"dvc repro|.*dvc exp run", "test_recipe_runs runs each at tiny scale"),
    ("docs/cluster.md", r"", "test_dask_pool runs a scheduler, workers and stages"),
    ("docs/gpu.md", r"export TF_CONFIG|dvc repro|python -m stages", "test_layouts has two workers"),
    ("docs/continuing.md", r"", "those of docs/recipes/ettin-17m-continue.md, which are run"),
    ("docs/probe.md", r"", "test_probe_stage runs the probe on labelled text"),
    ("docs/from-google-bert.md", r"", "commands of Google's code"),
    ("docs/vocabulary.md", r"pip install pythainlp|python segment", "a package from the network"),
    ("*", r"make import|dvc import-url|unzip", "no network; test_import_model has a local hub"),
    ("*", r"nvidia-smi|make setup (gpu|tpu)|(sudo )?apt-get", "needs another kind of machine"),
    (
        "*",
        r"python -c .import tensorflow as tf; print\(tf.config.list_",
        "needs another kind of machine",
    ),
    ("docs/gpu.md", r"#!/bin/bash", "no SLURM"),
    ("*", r"gcloud|export ZONE|dvc remote modify --local store credentialpath", "no account"),
]
# Replacements: placeholders for the reader to fill in, and sizes too large for the small test text.
SUBSTITUTIONS = {
    r"\bURL\b": "$URL",
    r"gs://BUCKET/": f"gs://{Bucket.name}/",
    r"http://127\.0\.0\.1:9023": "$BUCKET",
    r"/content/": "$FOLDER/content/",
    r"vocab\.size=4000": "vocab.size=250",
    r"steps=3000": "steps=60",
    r"uncased_L-12_H-768_A-12": "exported",
}
OTHER_RECORDS = (
    "git pull -q --rebase && sed -i 's/short_seq_prob: .*/short_seq_prob: {}/' params.yaml"
)
# What the text of a page has the reader do before a command ("": at the start of the page).
BEFORE = {
    ("README.md", "dvc add data/raw"): "cp $FOLDER/text/* data/raw",
    ("README.md", "dvc repro"): "cp $FOLDER/params.yaml .",
    ("README.md", "dvc exp run -S records.dupe_factor=2"): "git add -A && git commit -qm first",
    ("docs/experiments.md", ""): "git checkout -q params.yaml",
    ("docs/experiments.md", "dvc exp push origin shared"): (
        "git push -q && git clone -q $URL ../other-clone"
        " && dvc exp run -n shared -S pretrain.seed=3"
        " && for clone in . ../other-clone;"
        " do (cd $clone; dvc remote add --local -d place $FOLDER/place); done"
    ),
    ("docs/experiments.md", "dvc exp remove slower"): "cd $CLONE",
    # The page says that it is for a BERT.
    ("docs/interop.md", "python -m lib.commands.convert model models/main exported --to google"): (
        "sed -i 's/architecture: modernbert/architecture: bert/' params.yaml && dvc repro"
    ),
    # In a copy, as the pages after this one expect the records and the model to fit together.
    ("docs/interop.md", "dvc repro records@main"): (
        "cp -r . ../unpacked && cd ../unpacked && sed -i"
        " 's/^  masking: .*/  masking: static/; s/^  packing: .*/  packing: false/' params.yaml"
    ),
    ("docs/remote.md", ""): "rm -f .dvc/config.local",
    ("docs/remote.md", "make remote BUCKET=gs://BUCKET/domain-bert"): (
        "dvc remote remove --local emulator && dvc remote add store gs://another/place"
    ),
    ("docs/remote.md", "git clone URL && cd domain-bert"): (
        "git add -A && git diff --cached --quiet || git commit -qm all; git push -q; dvc push"
        " && mkdir $FOLDER/second && cd $FOLDER/second"
    ),
    ("docs/remote.md", "dvc repro records@main"): "cd $CLONE && " + OTHER_RECORDS.format(0.2),
    (
        "docs/remote.md",
        "dvc pull check records@main vocab",
    ): ("git clone -q $URL ../trains && cd ../trains"),
    # Only commits whose outputs were pushed: the page says what gc does otherwise.
    ("docs/remote.md", "dvc gc --workspace"): (
        "git clone -q --depth 2 file://$URL ../two-commits && cd ../two-commits\ndvc pull -q"
    ),
    ("docs/tpu.md", "dvc repro records@main"): "cd $CLONE && " + OTHER_RECORDS.format(0.3),
    ("docs/tpu.md", "git clone URL domain-bert && cd domain-bert"): "mkdir ../tpu && cd ../tpu",
    ("docs/colab.md", "dvc pull --allow-missing --run-cache"): "dvc remote remove --local drive",
    ("docs/colab.md", "dvc repro records"): OTHER_RECORDS.format(0.4),
    ("docs/recipes/README.md", ""): (
        "git clone -q $URL $FOLDER/recipes && cd $FOLDER/recipes && rm data/raw.dvc"
    ),
}
TESTED_PAGES = [
    "README.md",
    "docs/experiments.md",
    "docs/interop.md",
    "docs/planning.md",
    "docs/remote.md",
    "docs/tpu.md",
    "docs/gpu.md",
    "docs/colab.md",
    "docs/recipes/README.md",
    *sorted(name_of(page) for page in (ROOT / "docs/recipes").glob("[!R]*.md")),
]


def is_tested(page: str, command: str) -> bool:
    return not any(fnmatch(page, on) and re.match(what, command) for on, what, _ in SKIPPED)


def commands_to_run(page: str) -> Iterator[str]:
    return (command for command in commands(ROOT / page) if is_tested(page, command))


def test_every_page_with_commands_is_tested():
    assert {name_of(page) for page in pages() if any(commands_to_run(name_of(page)))} == set(
        TESTED_PAGES
    )


def test_skipped_and_prepared_commands_are_on_the_pages():
    shown = {name_of(page): commands(page) for page in pages()}
    for on, what, _ in SKIPPED:
        assert any(
            fnmatch(page, on) and any(re.match(what, command) for command in found)
            for page, found in shown.items()
        ), f"{on}: no command {what}"
    for page, command in BEFORE:
        assert not command or command in shown[page], f"{page}: no command {command}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Iterator[Terminal]:
    """A terminal in a new clone of a tiny project, with text, a git server and a bucket."""
    folder = tmp_path_factory.mktemp("reader")
    bucket = Bucket(folder / "bucket").start()
    project = folder / "project"
    copy_project(project)
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    # First for the demo corpus, then for the reader's own text.
    demo = {key: value for key, value in TINY.items() if key not in ("preprocess", "split")}
    for path, settings in ((project / "params.yaml", demo), (folder / "params.yaml", TINY)):
        merge(params, settings)
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    write_text(folder / "text")
    terminal = Terminal(folder, bucket.address)
    terminal.run(f"export BUCKET={bucket.address} FOLDER={folder}")
    terminal.run("export URL=$FOLDER/server/domain-bert.git CLONE=$FOLDER/domain-bert")
    terminal.run("cd project && dvc config --unset core.no_scm")
    terminal.run("git init -q -b main && git add -A && git commit -qm project")
    terminal.run("git clone -q --bare . $URL && git clone -q $URL $CLONE && cd $CLONE")
    yield terminal
    bucket.stop()


def wait_for_queue(reader: Terminal) -> None:
    deadline = time.monotonic() + 900
    while re.search("Queued|Running", status := reader.run("dvc queue status")):
        assert time.monotonic() < deadline, status
        time.sleep(5)
    assert "Failed" not in status, status


@pytest.mark.slow
@pytest.mark.parametrize("page", TESTED_PAGES)
def test_the_commands_of(page, reader):
    """In the order of TESTED_PAGES: each page continues where the previous one ended."""
    if preparation := BEFORE.get((page, "")):
        reader.run(preparation)
    for command in commands_to_run(page):
        for line in BEFORE.get((page, command), "").splitlines():
            reader.run(line)
        typed = command
        for pattern, replacement in SUBSTITUTIONS.items():
            typed = re.sub(pattern, lambda _, text=replacement: text, typed)
        output = reader.run(typed)
        if "queue start" in typed:
            wait_for_queue(reader)
        if (page, command) == ("docs/remote.md", "dvc repro"):
            # The demo corpus is not in the remote; it is made again in seconds.
            assert not re.search("Running stage '(?!demo)", output), output
