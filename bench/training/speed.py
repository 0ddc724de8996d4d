"""Optimizer steps by the clock: ours beside Hugging Face's BertForPreTraining in PyTorch.

Same shapes, same masked positions, dropout, AdamW, clipping. Each figure is from a process of its
own, the systems in turn; the first two steps, and those before the last compilation, do not count.
A system may come in several modes (XLA or not, eager or compiled): the fastest of each counts, and
one that is far behind in the first round is not run again. Useful tokens are those that are no
padding; useful FLOPs are those of the encoder on them and of the MLM head at masked positions.

- base, mini: full rows of 128 random tokens.
- tweets: BERT-base on tweets, each an example: the peer's batches padded to their longest example,
  ours packed into rows of 128, with as many tweets a step.
- packing: ours on sentence pairs of tweets at 96, packed beside unpacked.
- packed-learning: a small model on these two, the same number of examples seen.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import inputs
from bench.common.contest import Variant, contest, figures, first_steps, run
from bench.common.project import ROOT, Project
from bench.common.report import machine, table, write_json
from bench.training.cases import CASES, Case, sizes
from lib.records.manifest import read_manifest
from lib.run.errors import UserError

OURS, PEER = "bench.training.our_steps", "bench.peers.hugging_face_steps"
PACKAGES = ("numpy", "tensorflow", "torch", "transformers")
PACKED_LOSS_BAR = 1.01  # packed over unpacked
_COLUMNS = {
    "name": "case",
    "ours": "ours, tokens/s",
    "ours_mode": "",
    "peer": "theirs, tokens/s",
    "peer_mode": "",
    "ratio": "ratio",
    "lowest": "lowest",
    "highest": "highest",
    "bar": "bar",
    "passed": "passed",
    "gathered_ratio": "to gathered",
    "ours_fraction": "ours of peak",
    "peer_fraction": "theirs of peak",
    "ours_gflops": "ours GFLOP/s",
    "ours_mib": "ours MiB",
    "peer_mib": "theirs MiB",
}
_FIRST = {
    "name": "first step",
    "mode": "mode",
    "seconds": "s",
    "since_start": "s since start",
    "bar": "bar",
    "passed": "passed",
}
_LEARNT = {
    "name": "by examples seen",
    "examples": "examples",
    "unpacked": "unpacked: MLM loss",
    "packed": "packed",
    "ratio": "ratio",
    "unpacked_nsp": "unpacked: NSP loss",
    "packed_nsp": "packed",
    "bar": "bar",
    "passed": "passed",
}


PRECISIONS = {"": "float32", "-bf16": "bfloat16"}
NAMES = [
    *(case.name + suffix for case in CASES if case.data != "pairs" for suffix in PRECISIONS),
    "packing",
    "packed-learning",
]


class Bench:
    """Runs the cases that are asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.absolute()
        self._project: Project | None = None
        pieces = options.vocab.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        self._vocab_size = len(pieces)

    def project(self) -> Project:
        """The tweets, each a document, by the real stages."""
        if self._project is None:
            self._project = project = Project(
                self.work / "project",
                {
                    "preprocess": {"input": "data/raw", "document": "blank_line"},
                    "vocab": {"size": 8000},
                    "records": {"dupe_factor": 1, "short_seq_prob": 0.0},
                },
            )
            project.use_vocabulary(self.options.vocab)
            inputs.documents("tweets", self.options.tweets, project.path("data/raw/tweets.txt"))
            project.preprocess()
            project.stage("split", "data/corpus", "data/shards")
        return self._project

    def records(self, length: int, pairs: bool, packing: bool, vocabulary: str) -> Path:
        """Made once: the same examples, packed or not."""
        project = self.project()
        kind = f"{'pairs' if pairs else 'single'}-{length}-{'packed' if packing else 'alone'}"
        name = f"data/records/{kind}-{Path(vocabulary).name}"
        if not (project.folder / name).exists():
            if not (project.folder / vocabulary).exists():
                project.stage("sample5M", "data/corpus", "data/sample")
                project.stage("vocab", "data/sample", "data/sample", vocabulary)
            project.set(
                {
                    "records": {"next_sentence": pairs, "packing": packing},
                    "phases": {"main": {"max_seq_length": length}},
                }
            )
            project.stage("records", "main", "data/shards", vocabulary, name)
        return project.folder / name

    def case(self, case: Case, precision: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A row of figures, and the rows of first steps."""
        steps = self.options.steps or case.steps
        job: dict[str, Any] = {
            "model": case.model,
            "vocab_size": self._vocab_size,
            "next_sentence": case.data != "tweets",
            "steps": steps,
            "length": case.length,
            "predictions": case.predictions,
            "records": None,
            "vocabulary": None,
            "gathered": False,
            "mode": "",
            "settings": {"batch_size": case.examples, "precision": precision},
        }
        packed = unpacked = job
        if case.data != "full":
            packed, unpacked = (
                self.on_records(job, case.length, case.data == "pairs", packing, "data/vocab")
                for packing in (True, False)
            )
        sides = {"ours": _ours(packed, case.xla)}
        if case.data == "pairs":
            sides["peer"] = _ours(unpacked, case.xla)
        else:
            for side, gathered in (("peer", False), ("gathered", True)):
                sides[side] = [
                    Variant(mode, PEER, unpacked | {"mode": mode, "gathered": gathered})
                    for mode in ("eager", "compiled")
                ]
        name = case.name + (", bfloat16" if precision == "bfloat16" else "")
        print(f"training: {name}", file=sys.stderr)
        results = contest(sides, self.options.repeats, self.work)
        first = []
        if case.name == "base" and precision == "float32":
            first = first_steps(results)
        bar = case.bar if precision == "float32" else None
        return figures(name, results, bar), first

    def on_records(
        self, job: dict[str, Any], length: int, pairs: bool, packing: bool, vocabulary: str
    ) -> dict[str, Any]:
        """The job with records of tweets, and as many rows as have its batch's examples."""
        records = self.records(length, pairs, packing, vocabulary)
        split = read_manifest(records).splits["train"]
        rows = max(1, round(job["settings"]["batch_size"] * split.sequences / split.examples))
        return job | {
            "records": str(records),
            "vocabulary": str(self.project().folder / vocabulary),
            "settings": job["settings"] | {"batch_size": rows},
        }

    def packed_learning(self) -> dict[str, Any]:
        """Losses after the same number of examples, packed and not."""
        examples, length, vocabulary = 64, 96, "data/small-vocab"
        losses: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for seed in self.options.seeds:
            for packing in (False, True):
                job = self.on_records(
                    {"settings": {"batch_size": examples}}, length, True, packing, vocabulary
                )
                split = read_manifest(Path(job["records"])).splits["train"]
                rows = job["settings"]["batch_size"]
                steps = round(self.options.examples / (rows * split.examples / split.sequences))
                pieces = (Path(job["vocabulary"]) / "vocab.txt").read_text(encoding="utf-8")
                job |= {
                    "model": sizes(2, 128, dropout=0.0),
                    "vocab_size": pieces.count("\n"),
                    "next_sentence": True,
                    "heldout_records": str(self.records(length, True, False, vocabulary)),
                    "settings": {
                        "batch_size": rows,
                        "steps": steps,
                        "warmup_steps": round(0.06 * steps),
                        "learning_rate": 1e-3,
                        "seed": seed,
                    },
                }
                result = run(Variant("", "bench.training.packed_learning", job), self.work)
                losses[packing].append(result)
                print(
                    f"training: {'packed' if packing else 'unpacked'}, seed {seed}: MLM loss "
                    f"{result['mlm_loss']:.4f} after {result['examples']:,.0f} examples",
                    file=sys.stderr,
                )
        row: dict[str, Any] = {"name": "tweets at 96", "bar": PACKED_LOSS_BAR}
        for name, packing in (("unpacked", False), ("packed", True)):
            for key, metric in ((name, "mlm_loss"), (f"{name}_nsp", "nsp_loss")):
                row[key] = statistics.mean(result[metric] for result in losses[packing])
        row["examples"] = statistics.mean(result["examples"] for result in losses[True])
        row["ratio"] = f"{row['packed'] / row['unpacked']:.4f}"
        row["passed"] = row["packed"] <= PACKED_LOSS_BAR * row["unpacked"]
        row["runs"] = {"unpacked": losses[False], "packed": losses[True]}
        return row


def _ours(job: dict[str, Any], xla: Sequence[bool]) -> list[Variant]:
    return [
        Variant("XLA" if on else "plain", OURS, job | {"settings": job["settings"] | {"xla": on}})
        for on in xla
    ]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.training.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tweets", type=Path, help="text file, a tweet a line")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="some of the cases")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each (default 3)")
    parser.add_argument("--steps", type=int, help="steps that count, if not those of the case")
    parser.add_argument(
        "--examples", type=int, default=60_000, help="of packed-learning (default 60,000)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="likewise")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, default=ROOT / ".scratch/training", help="scratch")
    return parser


def main() -> None:
    options = arguments().parse_args()
    rows: list[dict[str, Any]] = []
    first: list[dict[str, Any]] = []
    learnt: list[dict[str, Any]] = []
    before = machine(PACKAGES)

    def keep() -> None:
        # After each case: together they take an hour.
        if options.out:
            found = {"speed": rows, "first_step": first, "packed_learning": learnt}
            write_json(options.out, {"machine": before, **found})

    try:
        for name in ("tweets", "vocab"):
            path = getattr(options, name)
            if path and not path.is_file():
                raise UserError(f"--{name} {path}: no such file")
        bench = Bench(options)
        for case in CASES:
            for suffix, precision in PRECISIONS.items():
                if case.name + suffix not in options.only:
                    continue
                if case.data != "full" and options.tweets is None:
                    print(f"skipped: {case.name + suffix} (give --tweets)", flush=True)
                    continue
                row, firsts = bench.case(case, precision)
                rows.append(row)
                first += firsts
                keep()
        if "packed-learning" in options.only:
            if options.tweets is None:
                print("skipped: packed-learning (give --tweets)", flush=True)
            else:
                learnt.append(bench.training.packed_learning())
                keep()
    except UserError as error:
        sys.exit(f"speed: error: {error}")
    for found, columns in ((rows, _COLUMNS), (first, _FIRST), (learnt, _LEARNT)):
        if found:
            print(table(found, columns))
    print(f"load average {before['load_average']:.1f} before")
    if not all(row["passed"] in (True, None) for row in rows + first + learnt):
        sys.exit("training: a bar is missed")


if __name__ == "__main__":
    main()
