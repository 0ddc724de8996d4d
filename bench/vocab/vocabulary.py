"""Vocabularies of the same size from the same text: ours, Hugging Face's and SentencePiece's.

Quality: each text is split into training lines and held-out lines (every twentieth); all
vocabularies are measured with the same tokenizer. Cost: our whole stage, including its report,
against SentencePiece's own training on the same sentences.
"""

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import PEERS
from bench.common import cli
from bench.common.processes import Measured, alternate, measure
from bench.common.project import Project
from bench.common.report import Row, compare
from lib.samples.languages import LANGUAGES, synthetic_text

# Largest accepted tokens per word in held-out text, ours over Hugging Face's; largest accepted
# seconds and MiB, ours over SentencePiece's.
MAX_FERTILITY, MAX_COST = 1.01, 2.0
_HELDOUT_EVERY = 20
_CASED = ("turkish", "arabic", "chinese")


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


def _result(project: Project, text: str, name: str, run: Measured) -> Row:
    metrics = project.metrics("vocab")
    train, heldout = metrics["train"], metrics["heldout"]
    return {
        "name": f"{text}: {name}",
        "size": metrics["size"],
        "tokens_per_word": f"{train['tokens_per_word']:.4f}",
        "held_out": f"{heldout['tokens_per_word']:.4f}",
        "whole_words": f"{heldout['whole_word_fraction']:.1%}",
        "unknown": f"{train['unknown_word_fraction']:.3%}",
        "unknown_held_out": f"{heldout['unknown_word_fraction']:.3%}",
        "seconds": run.wall_seconds,
        "mib": run.peak_mib,
        "metrics": metrics,
    }


def quality(project: Project, text: str, lines: Sequence[str], size: int) -> list[Row]:
    """Measures each vocabulary of a text; the last one is Hugging Face's."""
    sample = _write_sample(project, lines)
    cased = text in _CASED
    settings = {"lowercase": not cased, "strip_accents": not cased}
    rows = []
    for algorithm in ("bpe", "unigram"):
        ours = {"source": "sentencepiece", "algorithm": algorithm, "size": size}
        run = _run_stage(project, "data/sample", **ours, **settings)
        rows.append(_result(project, text, f"ours, {algorithm}", run))
    theirs = "hugging-face/vocab.txt"
    script = PEERS / "hugging_face_wordpiece.py"
    case = "cased" if cased else "uncased"
    command = [sys.executable, script, sample / "train.txt", size, case, project.path(theirs)]
    peer = measure(command, project.folder)
    _run_stage(project, theirs, source="file", **settings)
    rows.append(_result(project, text, "Hugging Face", peer))
    reference = rows[-1]["metrics"]["heldout"]["tokens_per_word"]
    for row in rows:
        ratio = row["metrics"]["heldout"]["tokens_per_word"] / reference
        row["ratio"] = f"{ratio:.4f}"
        row["passed"] = not row["name"].endswith("ours, bpe") or (
            ratio <= MAX_FERTILITY and row["metrics"]["train"]["unknown_word_fraction"] == 0
        )
    return rows


def cost(project: Project, lines: Sequence[str], size: int, algorithm: str, repeats: int) -> Row:
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
    row = compare(algorithm, ours, theirs, 1 / MAX_COST)
    return row | {"passed": row["passed"] and row["memory_ratio"] >= 1 / MAX_COST}


def _read_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        return [line for line in stream if line.strip()]


def main() -> None:
    parser = cli.make_parser("vocab.vocabulary", __doc__)
    parser.add_argument("texts", type=Path, nargs="*", help="English text, a sentence per line")
    parser.add_argument("--sentences", type=Path, help="text for the comparison of cost")
    cli.add(parser, "--size", 30_000, "vocabulary size")
    cli.add(parser, "--synthetic-size", 1500, "vocabulary size for synthetic texts")
    cli.add(parser, "--cost-size", 32_000, "vocabulary size for the comparison of cost")
    cli.add_repeats(parser)
    options = cli.parse(parser)
    rows, costs = [], []
    project = Project(options.work / "project", {})
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
    cli.finish(options, quality=rows, cost=costs)


if __name__ == "__main__":
    cli.run_main(main)
