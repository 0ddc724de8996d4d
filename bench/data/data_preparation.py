"""The data stages against other tools: wall time and peak memory of whole processes.

Ours and the peer's run in turn on the same text with the same vocabulary and settings, one
process each; the figures are medians. A peer runs from a checkout of its repository; what is not
given is skipped. With --profile the time of our own process is divided into its parts.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import inputs
from bench.common.processes import Measured, alternate, measure
from bench.common.project import ROOT, Project
from bench.common.report import compare, machine, revision, table, write_json
from lib.run.errors import UserError
from lib.run.metrics import read_metrics

PEERS = Path(__file__).parents[1] / "peers"
PACKAGES = ("numpy", "tensorflow", "transformers", "tokenizers", "emoji")
# Of params.yaml, section preprocess: the steps that CT-BERT's script has switched on by default.
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
_MARKERS = {
    "google": "create_pretraining_data.py",
    "ctbert": "preprocess/prepare_pretrain_data.py",
    "lddl": "lddl/dask/bert/pretrain.py",
}
_COLUMNS = {
    "name": "against",
    "ours_seconds": "ours s",
    "peer_seconds": "theirs s",
    "wall_ratio": "ratio",
    "lowest": "lowest",
    "highest": "highest",
    "cpu_ratio": "of CPU time",
    "bar": "bar",
    "passed": "passed",
    "ours_mib": "ours MiB",
    "peer_mib": "theirs MiB",
    "memory_ratio": "of memory",
}


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        text: `wikitext` or `tweets`.
        peer: `google`, `lddl` or `ctbert`.
        bar: how many times as fast we should be.
    """

    name: str
    text: str
    peer: str
    bar: float
    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    whole_word_mask: bool = False
    dupe_factor: int = 5

    def params(self) -> dict[str, Any]:
        """Our params.yaml with the same settings."""
        return {
            "preprocess": {"input": "data/raw", "document": "blank_line"},
            "records": {
                "dupe_factor": self.dupe_factor,
                "max_predictions_per_seq": self.max_predictions_per_seq,
                "whole_word_mask": self.whole_word_mask,
            },
            "phases": {"main": {"max_seq_length": self.max_seq_length}},
        }


CASES = (
    Case("Google, WikiText, plain", "wikitext", "google", bar=20),
    Case("Google, WikiText, whole word", "wikitext", "google", bar=16, whole_word_mask=True),
    Case(
        "Google, tweets at 96",
        "tweets",
        "google",
        bar=14,
        max_seq_length=96,
        max_predictions_per_seq=14,
    ),
    Case("LDDL's functions, WikiText", "wikitext", "lddl", bar=6),
    Case("CT-BERT's cleaning, tweets", "tweets", "ctbert", bar=10),
)


class Bench:
    """Prepares and runs the cases that the command line gives all for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.absolute()
        self.work.mkdir(parents=True, exist_ok=True)

    def missing(self, case: Case) -> str | None:
        """The options that the case would need and that are not given."""
        needed = [case.peer, case.text] + (["vocab"] if case.peer != "ctbert" else [])
        absent = [f"--{name}" for name in needed if getattr(self.options, name) is None]
        return " ".join(absent) or None

    def run(self, case: Case) -> dict[str, Any]:
        make = self.cleaning if case.peer == "ctbert" else self.records
        project, ours, peer, stage = make(case)
        result = compare(case.name, *alternate(ours, peer, self.options.repeats), case.bar)
        if self.options.profile:
            result["parts"] = self.parts(project, stage)
        return result

    def text(self, name: str) -> Path:
        """The corpus (Google's input format) of a text, made once by our own preprocess."""
        project_folder = self.work / f"text-{name}"
        corpus = project_folder / "data/corpus/00000.txt"
        if not corpus.exists():
            print(f"bench: {name}: sentences by preprocess", file=sys.stderr, flush=True)
            document = "blank_line" if name == "wikitext" else "line"
            project = Project(
                project_folder, {"preprocess": {"input": "data/raw", "document": document}}
            )
            self.raw(name, project.path("data/raw/text.txt"))
            project.preprocess()
        return corpus

    def raw(self, name: str, target: Path) -> None:
        copy = inputs.wikitext_documents if name == "wikitext" else inputs.first_lines
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(getattr(self.options, name), target, 1 if self.options.quick else None)

    def records(self, case: Case) -> tuple[Project, Callable[[], Measured], Any, list[str]]:
        text = self.text(case.text)
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
            command = [
                sys.executable,
                PEERS / "nvidia_lddl.py",
                self.options.lddl,
                text,
                project.folder / "data/vocab",
                case.max_seq_length,
                case.dupe_factor,
            ]
        words = ["records", "main", "data/shards", "data/vocab", "data/records/main"]
        return project, project.records, lambda: measure(command, theirs), words

    def cleaning(self, case: Case) -> tuple[Project, Callable[[], Measured], Any, list[str]]:
        project = Project(self.work / "ours", {"preprocess": {"input": "data/raw", **CLEANING}})
        self.raw(case.text, project.path("data/raw/tweets.txt"))
        theirs = self.work / "theirs"
        shutil.rmtree(theirs, ignore_errors=True)
        (theirs / "run").mkdir(parents=True)
        self.raw(case.text, theirs / "in/train/tweets.txt")
        command = [
            self.options.ctbert_python or sys.executable,
            PEERS / "ct_bert.py",
            self.options.ctbert,
            "--input_data=../in",
            "--do_not_run_in_parallel",
            "--num_logged_samples=0",
        ]
        words = ["preprocess", "data/raw", "data/corpus"]
        return project, project.preprocess, lambda: measure(command, theirs / "run"), words

    def parts(self, project: Project, words: list[str]) -> dict[str, float]:
        """Seconds of our process by part (see bench.data.where)."""
        shutil.rmtree(project.folder / ".scratch", ignore_errors=True)
        out = project.folder / "parts.json"
        command = [sys.executable, "-m", "bench.data.where", words[0], out, *words[1:]]
        run = measure(command, project.folder, project.environment)
        seconds = {name: float(str(value)) for name, value in read_metrics(out).items()}
        seconds["interpreter"] = run.wall_seconds - sum(seconds.values())
        return dict(sorted(seconds.items(), key=lambda part: -part[1]))


def check(options: argparse.Namespace) -> None:
    """Refuses paths that are not what their options ask for.

    Raises:
        UserError: one line that names the option and what should be there.
    """
    for name, marker in _MARKERS.items():
        folder = getattr(options, name)
        if folder and not (folder / marker).is_file():
            raise UserError(f"--{name} {folder}: no {marker} there; give a checkout of that tool")
        if folder:
            setattr(options, name, folder.absolute())
    for name in ("wikitext", "tweets", "vocab"):
        path = getattr(options, name)
        if path and not path.is_file():
            raise UserError(f"--{name} {path}: no such file")
    if options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: should be at least 1")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.data.data_preparation", description=__doc__
    )
    parser.add_argument("--google", type=Path, help="checkout of google-research/bert")
    parser.add_argument("--ctbert", type=Path, help="checkout of CT-BERT (covid-twitter-bert)")
    parser.add_argument("--ctbert-python", type=Path, help="Python with spacy, emoji<2, unidecode")
    parser.add_argument("--lddl", type=Path, help="checkout of NVIDIA/LDDL")
    parser.add_argument("--wikitext", type=Path, help="train file of WikiText-2")
    parser.add_argument("--tweets", type=Path, help="text file, a tweet a line")
    parser.add_argument("--vocab", type=Path, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--quick", action="store_true", help="1 MB of each text: a first look")
    parser.add_argument("--profile", action="store_true", help="tell where our own time goes")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/bench", help="scratch folder")
    return parser


def main() -> None:
    options = arguments().parse_args()
    try:
        check(options)
        bench = Bench(options)
        shutil.rmtree(bench.work, ignore_errors=True)
        bench.work.mkdir(parents=True)
        before = machine(PACKAGES)
        results = []
        for case in CASES:
            if missing := bench.missing(case):
                print(f"skipped: {case.name} (give {missing})", flush=True)
                continue
            print(f"bench: {case.name}", file=sys.stderr, flush=True)
            results.append(bench.run(case))
            print(table(results[-1:], _COLUMNS), file=sys.stderr, flush=True)
    except UserError as error:
        sys.exit(f"bench: error: {error}")
    print(table(results, _COLUMNS))
    for result in results:
        if "parts" in result:
            parts = ", ".join(f"{name} {value:.2f}" for name, value in result["parts"].items())
            print(f"{result['name']}: ours by part, s: {parts}")
    print(
        f"load average {before['load_average']:.1f} before, {machine(())['load_average']:.1f} now"
    )
    if options.out:
        checkouts = {
            name: revision(folder) for name in _MARKERS if (folder := getattr(options, name))
        }
        facts = {"quick": options.quick, "repeats": options.repeats, "checkouts": checkouts}
        write_json(options.out, {**facts, "machine": before, "results": results})
    if not options.quick and not all(result["passed"] for result in results):
        sys.exit("bench: a bar is missed")


if __name__ == "__main__":
    main()
