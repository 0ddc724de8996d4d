"""Vocabularies of the same size from the same text: ours beside Hugging Face's and SentencePiece's.

Quality: every text is cut into training and held-out lines (each twentieth); all vocabularies are
measured by the same tokenizer. Cost: the whole stage, report included, beside SentencePiece's own
training on the same sentences.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.common.processes import Measured, alternate, measure
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from lib.run.errors import UserError
from lib.samples.languages import LANGUAGES, made_text

PEERS = Path(__file__).parents[1] / "peers"
# Tokens a word in held-out text, ours over Hugging Face's; seconds and MiB, ours over
# SentencePiece's.
FERTILITY_BAR, COST_BAR = 1.01, 2.0
_EACH = 20
_CASED = ("turkish", "arabic", "chinese")
_QUALITY = {
    "text": "text",
    "maker": "vocabulary",
    "size": "rows",
    "train": "tokens a word, training",
    "heldout": "held out",
    "ratio": "held out / HF's",
    "whole": "whole words, held out",
    "unknown_train": "unknown, training",
    "unknown_heldout": "unknown, held out",
    "seconds": "s",
    "mib": "MiB",
}
_COST = {
    "name": "algorithm",
    "ours_seconds": "ours s",
    "peer_seconds": "SentencePiece s",
    "seconds_ratio": "ratio",
    "ours_mib": "ours MiB",
    "peer_mib": "SentencePiece MiB",
    "mib_ratio": "ratio",
    "passed": "passed",
}


def _use_sample(project: Project, lines: Sequence[str]) -> Path:
    sample = project.path("data/sample/train.txt").parent
    sample.mkdir(parents=True, exist_ok=True)
    (sample / "train.txt").write_text(
        "".join(line for number, line in enumerate(lines) if number % _EACH), encoding="utf-8"
    )
    (sample / "heldout.txt").write_text("".join(lines[::_EACH]), encoding="utf-8")
    return sample


def _stage(project: Project, base: Path | str, **settings: object) -> Measured:
    project.set({"vocab": {**settings, "base": str(base)}})
    return project.stage("vocab", "data/sample", str(base), "data/vocab")


def _row(project: Project, text: str, maker: str, run: Measured) -> dict[str, Any]:
    path = project.path("results/vocab/metrics.json")
    metrics = json.loads(path.read_text(encoding="utf-8"))
    train, heldout = metrics["train"], metrics["heldout"]
    return {
        "text": text,
        "maker": maker,
        "size": metrics["size"],
        "train": f"{train['tokens_per_word']:.4f}",
        "heldout": f"{heldout['tokens_per_word']:.4f}",
        "whole": f"{heldout['whole_word_fraction']:.1%}",
        "unknown_train": f"{train['unknown_word_fraction']:.3%}",
        "unknown_heldout": f"{heldout['unknown_word_fraction']:.3%}",
        "seconds": run.wall_seconds,
        "mib": run.peak_mib,
        "metrics": metrics,
    }


def quality(project: Project, text: str, lines: Sequence[str], size: int) -> list[dict[str, Any]]:
    """One row for each vocabulary; the last of them is Hugging Face's."""
    sample = _use_sample(project, lines)
    cased = text in _CASED
    switches = {"lowercase": not cased, "strip_accents": not cased}
    rows = []
    for algorithm in ("bpe", "unigram"):
        run = _stage(
            project,
            "data/sample",
            source="sentencepiece",
            algorithm=algorithm,
            size=size,
            **switches,
        )
        rows.append(_row(project, text, f"ours, {algorithm}", run))
    theirs = project.path("hugging-face/vocab.txt")
    script = PEERS / "hugging_face_wordpiece.py"
    case = "cased" if cased else "uncased"
    peer = measure(
        [sys.executable, script, sample / "train.txt", str(size), case, theirs], project.folder
    )
    _stage(project, theirs, source="file", **switches)
    rows.append(_row(project, text, "Hugging Face", peer))
    reference = rows[-1]["metrics"]["heldout"]["tokens_per_word"]
    for row in rows:
        ratio = row["metrics"]["heldout"]["tokens_per_word"] / reference
        row["ratio"] = f"{ratio:.4f}"
        row["passed"] = row["maker"] != "ours, bpe" or (
            ratio <= FERTILITY_BAR and row["metrics"]["train"]["unknown_word_fraction"] == 0
        )
    return rows


def cost(
    project: Project, lines: Sequence[str], size: int, algorithm: str, repeats: int
) -> dict[str, Any]:
    """The whole stage beside SentencePiece's training."""
    sample = _use_sample(project, lines)
    settings = {"source": "sentencepiece", "algorithm": algorithm, "size": size}
    project.set({"cluster": {"workers": "auto"}})
    script = PEERS / "sentencepiece_plain.py"
    target = project.path("plain/model")
    target.parent.mkdir(exist_ok=True)
    ours, theirs = alternate(
        partial(_stage, project, "data/sample", **settings),
        partial(
            measure,
            [sys.executable, script, sample / "train.txt", str(size), algorithm, target],
            project.folder,
        ),
        repeats,
    )
    row: dict[str, Any] = {"name": algorithm}
    for side, runs in (("ours", ours), ("peer", theirs)):
        row[f"{side}_seconds"] = statistics.median(run.wall_seconds for run in runs)
        row[f"{side}_mib"] = statistics.median(run.peak_mib for run in runs)
    for unit in ("seconds", "mib"):
        row[f"{unit}_ratio"] = row[f"ours_{unit}"] / row[f"peer_{unit}"]
    row["passed"] = max(row["seconds_ratio"], row["mib_ratio"]) <= COST_BAR
    return row


def _lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        return [line for line in stream if line.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.vocab.vocabulary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("texts", type=Path, nargs="*", help="English text, a sentence a line")
    parser.add_argument("--size", type=int, default=30_000, help="rows (default 30,000)")
    parser.add_argument("--made-size", type=int, default=1500, help="rows for the made texts")
    parser.add_argument("--sentences", type=Path, help="text to measure the cost on")
    parser.add_argument("--cost-size", type=int, default=32_000, help="rows for that")
    parser.add_argument("--repeats", type=int, default=3, help="runs for that (default 3)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/vocabulary", help="scratch")
    options = parser.parse_args()
    rows, costs = [], []
    try:
        project = Project(options.work / "project", {})
        before = machine(["sentencepiece", "tokenizers"])
        for language in LANGUAGES:
            lines = made_text(language, 20_000, 1).splitlines(keepends=True)
            rows += quality(project, language, lines, options.made_size)
        for path in options.texts:
            rows += quality(project, path.stem, _lines(path), options.size)
        if options.sentences:
            lines = _lines(options.sentences)
            for algorithm in ("bpe", "unigram"):
                costs.append(cost(project, lines, options.cost_size, algorithm, options.repeats))
    except (UserError, OSError) as error:
        sys.exit(f"vocabulary: error: {error}")
    shutil.rmtree(options.work)
    print(table(rows, _QUALITY))
    if costs:
        print(table(costs, _COST))
    if options.out:
        write_json(options.out, {"machine": before, "quality": rows, "cost": costs})
    if not all(row["passed"] for row in rows + costs):
        sys.exit("vocabulary: a bar is missed")


if __name__ == "__main__":
    main()
