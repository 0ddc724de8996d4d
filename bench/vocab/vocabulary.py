"""Vocabularies of the same size from the same text: ours, Hugging Face's and SentencePiece's.

Quality: each text is split into training lines and held-out lines (every twentieth); all
vocabularies are measured with the same tokenizer. Cost: our whole stage, including its report,
against SentencePiece's own training on the same sentences.
"""

import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import PEERS
from bench.common import cli
from bench.common.processes import Measured, alternate, measure
from bench.common.project import Project
from bench.common.report import machine, table, write_json
from lib.run.errors import UserError
from lib.samples.languages import LANGUAGES, synthetic_text

# Largest accepted tokens per word in held-out text, ours over Hugging Face's; largest accepted
# seconds and MiB, ours over SentencePiece's.
MAX_FERTILITY, MAX_COST = 1.01, 2.0
_HELDOUT_EVERY = 20
_CASED = ("turkish", "arabic", "chinese")
_QUALITY = {
    "text": "text",
    "name": "vocabulary",
    "size": "size",
    "train": "tokens per word, training",
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


def _write_sample(project: Project, lines: Sequence[str]) -> Path:
    sample = project.path("data/sample/train.txt").parent
    sample.mkdir(parents=True, exist_ok=True)
    training = "".join(line for number, line in enumerate(lines) if number % _HELDOUT_EVERY)
    (sample / "train.txt").write_text(training, encoding="utf-8")
    (sample / "heldout.txt").write_text("".join(lines[::_HELDOUT_EVERY]), encoding="utf-8")
    return sample


def _run_stage(project: Project, base: str, **settings: object) -> Measured:
    project.set({"vocab": {**settings, "base": base}})
    return project.stage("vocab")


def _result(project: Project, text: str, name: str, run: Measured) -> dict[str, Any]:
    path = project.path("results/vocab/metrics.json")
    metrics = json.loads(path.read_text(encoding="utf-8"))
    train, heldout = metrics["train"], metrics["heldout"]
    return {
        "text": text,
        "name": name,
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
    """Measures each vocabulary of a text; the last one is Hugging Face's."""
    sample = _write_sample(project, lines)
    cased = text in _CASED
    normalization = {"lowercase": not cased, "strip_accents": not cased}
    rows = []
    for algorithm in ("bpe", "unigram"):
        run = _run_stage(
            project,
            "data/sample",
            source="sentencepiece",
            algorithm=algorithm,
            size=size,
            **normalization,
        )
        rows.append(_result(project, text, f"ours, {algorithm}", run))
    theirs = "hugging-face/vocab.txt"
    script = PEERS / "hugging_face_wordpiece.py"
    case = "cased" if cased else "uncased"
    command = [sys.executable, script, sample / "train.txt", size, case, project.path(theirs)]
    peer = measure(command, project.folder)
    _run_stage(project, theirs, source="file", **normalization)
    rows.append(_result(project, text, "Hugging Face", peer))
    reference = rows[-1]["metrics"]["heldout"]["tokens_per_word"]
    for row in rows:
        ratio = row["metrics"]["heldout"]["tokens_per_word"] / reference
        row["ratio"] = f"{ratio:.4f}"
        row["passed"] = row["name"] != "ours, bpe" or (
            ratio <= MAX_FERTILITY and row["metrics"]["train"]["unknown_word_fraction"] == 0
        )
    return rows


def cost(
    project: Project, lines: Sequence[str], size: int, algorithm: str, repeats: int
) -> dict[str, Any]:
    """Compares time and memory of the whole stage with SentencePiece's training."""
    sample = _write_sample(project, lines)
    settings = {"source": "sentencepiece", "algorithm": algorithm, "size": size}
    project.set({"cluster": {"workers": "auto"}})
    script = PEERS / "sentencepiece_plain.py"
    model = project.path("plain/model")
    command = [sys.executable, script, sample / "train.txt", size, algorithm, model]
    ours, theirs = alternate(
        partial(_run_stage, project, "data/sample", **settings),
        partial(measure, command, project.folder),
        repeats,
    )
    row: dict[str, Any] = {"name": algorithm}
    for side, runs in (("ours", ours), ("peer", theirs)):
        row[f"{side}_seconds"] = statistics.median(run.wall_seconds for run in runs)
        row[f"{side}_mib"] = statistics.median(run.peak_mib for run in runs)
    for unit in ("seconds", "mib"):
        row[f"{unit}_ratio"] = row[f"ours_{unit}"] / row[f"peer_{unit}"]
    row["passed"] = max(row["seconds_ratio"], row["mib_ratio"]) <= MAX_COST
    return row


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            return [line for line in stream if line.strip()]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a text file") from None


def main() -> None:
    parser = cli.make_parser("vocab.vocabulary", __doc__)
    parser.add_argument(
        "texts", type=Path, nargs="*", help="English text files with one sentence per line"
    )
    parser.add_argument("--size", type=int, default=30_000, help="vocabulary size (default 30,000)")
    parser.add_argument(
        "--synthetic-size", type=int, default=1500, help="size for synthetic texts (default 1,500)"
    )
    parser.add_argument("--sentences", type=Path, help="text for the comparison of cost")
    parser.add_argument(
        "--cost-size", type=int, default=32_000, help="vocabulary size for it (default 32,000)"
    )
    cli.add_repeats(parser)
    cli.add_outputs(parser, "vocabulary")
    options = parser.parse_args()
    rows, costs = [], []
    project = Project(options.work / "project", {})
    conditions = machine(["sentencepiece", "tokenizers"])
    for language in LANGUAGES:
        lines = synthetic_text(language, 20_000, 1).splitlines(keepends=True)
        rows += quality(project, language, lines, options.synthetic_size)
    for path in options.texts:
        rows += quality(project, path.stem, _read_lines(path), options.size)
    if options.sentences:
        lines = _read_lines(options.sentences)
        for algorithm in ("bpe", "unigram"):
            costs.append(cost(project, lines, options.cost_size, algorithm, options.repeats))
    shutil.rmtree(options.work)
    print(table(rows, _QUALITY))
    if costs:
        print(table(costs, _COST))
    if options.out:
        write_json(options.out, {"machine": conditions, "quality": rows, "cost": costs})
    cli.exit_if_failed(rows + costs)


if __name__ == "__main__":
    cli.run_main(main)
