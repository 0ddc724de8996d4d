"""Wall time and peak memory of the data stages against other tools, as whole processes.

Ours and the peer's run alternately on the same text with the same vocabulary and settings, one
process each; the results are medians. A peer runs from a checkout of its repository; a case whose
inputs are missing is skipped. The time of our process is also divided into its parts.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import PEERS
from bench.common import cli, inputs
from bench.common.processes import Measured, alternate, measure
from bench.common.project import Project
from bench.common.report import Row, compare, read_json, revision

# Section preprocess of params.yaml: the steps that are on by default in CT-BERT's script.
CLEANING: dict[str, Any] = {
    "document": "line",
    "sentences": "split",
    "clean": {
        "unescape_html": True,
        "users": "replace",
        "urls": "replace",
        "merge_placeholders": True,
        "emoji": "alias",
        "punctuation": "ascii",
        "symbols": "remove",
        "lowercase": True,
    },
}


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        text: `wikitext` or `tweets`.
        peer: `google`, `lddl` or `ctbert`.
        threshold: smallest accepted ratio of the peer's wall time to ours.
    """

    name: str
    text: str
    peer: str
    threshold: float
    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    whole_word_mask: bool = False
    dupe_factor: int = 5

    def params(self) -> dict[str, Any]:
        """Changes to our params.yaml for the same settings."""
        return {
            "records": {
                "dupe_factor": self.dupe_factor,
                "max_predictions_per_seq": self.max_predictions_per_seq,
                "whole_word_mask": self.whole_word_mask,
            },
            "phases": {"main": {"max_seq_length": self.max_seq_length}},
        }


CASES = (
    Case("Google, WikiText, plain", "wikitext", "google", threshold=20),
    Case("Google, WikiText, whole word", "wikitext", "google", threshold=16, whole_word_mask=True),
    Case(
        "Google, tweets at 96",
        "tweets",
        "google",
        threshold=14,
        max_seq_length=96,
        max_predictions_per_seq=14,
    ),
    Case("LDDL's functions, WikiText", "wikitext", "lddl", threshold=6),
    Case("CT-BERT's cleaning, tweets", "tweets", "ctbert", threshold=10),
)


# Our project and the peer's run.
Sides = tuple[Project, Callable[[], Measured]]


class Bench:
    """Prepares and runs the cases whose inputs were given."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)

    def missing(self, case: Case) -> str:
        """The options that the case needs and that were not given; empty if there are none."""
        needed = [case.peer, case.text, *(["vocab"] if case.peer != "ctbert" else [])]
        return " ".join(f"--{name}" for name in needed if getattr(self.options, name) is None)

    def run(self, case: Case) -> Row:
        cleaning = case.peer == "ctbert"
        project, peer = self._cleaning(case) if cleaning else self._records(case)
        ours = project.preprocess if cleaning else project.records
        runs = alternate(ours, peer, self.options.repeats)
        parts = profile(project, *(["preprocess"] if cleaning else ["records", "main"]))
        return compare(case.name, *runs, case.threshold) | {"parts": parts}

    def _corpus(self, name: str) -> Path:
        """A text in Google's input format, split into sentences by our own preprocess."""
        folder = self.work / f"text-{name}"
        corpus = folder / "data/corpus/00000.txt"
        if not corpus.exists():
            document = "blank_line" if name == "wikitext" else "line"
            project = Project(folder, {"preprocess": {"document": document}})
            self._write_raw(name, project.path("data/raw/text.txt"))
            project.preprocess()
        return corpus

    def _write_raw(self, name: str, target: Path) -> None:
        write = inputs.write_wikitext if name == "wikitext" else inputs.write_first_lines
        target.parent.mkdir(parents=True, exist_ok=True)
        write(getattr(self.options, name), target, self.options.megabytes)

    def _records(self, case: Case) -> Sides:
        text = self._corpus(case.text)
        project = Project(self.work / "ours", case.params())
        project.use_vocabulary(self.options.vocab)
        project.use_shard(text)
        theirs = self.work / "theirs"
        theirs.mkdir(exist_ok=True)
        if case.peer == "google":
            command = [
                sys.executable,
                PEERS / "google_bert.py",
                self.options.google,
                f"--input_file={text}",
                f"--output_file={theirs / 'out.tfrecord'}",
                f"--vocab_file={self.options.vocab.absolute()}",
                f"--max_seq_length={case.max_seq_length}",
                f"--max_predictions_per_seq={case.max_predictions_per_seq}",
                f"--dupe_factor={case.dupe_factor}",
                f"--do_whole_word_mask={case.whole_word_mask}",
            ]
        else:
            tokenizer = project.folder / "data/vocab"
            command = [sys.executable, PEERS / "nvidia_lddl.py", self.options.lddl, text]
            command += [tokenizer, case.max_seq_length, case.dupe_factor]
        return project, partial(measure, command, theirs)

    def _cleaning(self, case: Case) -> Sides:
        project = Project(self.work / "ours", {"preprocess": CLEANING})
        self._write_raw(case.text, project.path("data/raw/tweets.txt"))
        theirs = self.work / "theirs"
        shutil.rmtree(theirs, ignore_errors=True)
        (theirs / "run").mkdir(parents=True)
        self._write_raw(case.text, theirs / "in/train/tweets.txt")
        python = self.options.ctbert_python or sys.executable
        command = [python, PEERS / "ct_bert.py", self.options.ctbert, "--input_data=../in"]
        command += ["--do_not_run_in_parallel", "--num_logged_samples=0"]
        return project, partial(measure, command, theirs / "run")


def profile(project: Project, stage: str, *arguments: str) -> dict[str, float]:
    """Seconds of our process by part (see bench.data.where), the largest first."""
    shutil.rmtree(project.folder / ".scratch", ignore_errors=True)
    out = project.folder / "parts.json"
    command = [sys.executable, "-m", "bench.data.where", stage, out, *arguments]
    run = measure(command, project.folder, project.environment)
    seconds = read_json(out)
    seconds["interpreter"] = run.wall_seconds - sum(seconds.values())
    return dict(sorted(seconds.items(), key=lambda part: -part[1]))


def main() -> None:
    inputs_of_cases = ("google", "wikitext", "tweets", "vocab", "ctbert", "lddl")
    parser = cli.make_parser("data.data_preparation", __doc__, *inputs_of_cases)
    parser.add_argument("--ctbert-python", help="Python with spacy, emoji<2, unidecode")
    parser.add_argument("--megabytes", type=float, help="of each text (default: all)")
    cli.add_repeats(parser)
    options = cli.parse(parser)
    bench = Bench(options)
    results = []
    for case in CASES:
        if missing := bench.missing(case):
            print(f"skipped: {case.name} (give {missing})", flush=True)
            continue
        cli.progress(case.name)
        results.append(bench.run(case))
    for result in results:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in result["parts"].items())
        print(f"{result['name']}: ours by part, s: {parts}")
    checkouts = {
        name: revision(folder) for name in cli.CHECKOUTS if (folder := getattr(options, name))
    }
    options.machine["checkouts"] = checkouts
    cli.finish(options, results=results)


if __name__ == "__main__":
    cli.run_main(main)
