"""Speed of training steps: ours against Hugging Face's BERT and ModernBERT in PyTorch.

Same shapes, masked positions, dropout, AdamW and gradient clipping. Every run is its own process,
the systems alternate, and the first two steps and all steps up to the last compilation do not
count. A system may have several modes (with or without XLA; eager, eager with sdpa attention, or
compiled): the fastest counts, and one that is far behind in the first round is not run again.
Useful tokens are tokens without padding; useful FLOPs are those of the encoder on them and of the
MLM head at masked positions.

- base, mini: sequences of 128 random tokens.
- tweets: BERT-base on tweets, one per example: the peer's batches are padded to their longest
  example, ours are packed into sequences of 128, with the same number of tweets per step.
- modernbert-base (22 layers of 768), modernbert-mini (4 of 256), modernbert-tweets (22 of 768): the
  same with ModernBERT, without dropout. "Gathered" is its own option sparse_prediction.
- packing: ours on sentence pairs of tweets at 96 tokens, packed against unpacked.
- packed-learning: loss of a small model on these two after the same number of examples.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import cli, inputs
from bench.common.project import Project
from bench.common.report import machine, table, write_json
from bench.common.rounds import Variant, first_steps, run_rounds, run_variant, summarise
from bench.training.cases import CASES, Case, sizes
from lib.records.manifest import read_manifest

OURS, PEER = "bench.training.our_steps", "bench.peers.hugging_face_steps"
PACKED = "bench.training.packed_learning"
PACKAGES = ("numpy", "tensorflow", "torch", "transformers")
MAX_PACKED_LOSS = 1.01  # packed over unpacked
_COLUMNS = {
    "name": "case",
    "ours": "ours, tokens/s",
    "ours_mode": "",
    "peer": "theirs, tokens/s",
    "peer_mode": "",
    "ratio": "ratio",
    "lowest": "lowest",
    "highest": "highest",
    "cpu_ratio": "of CPU time",
    "threshold": "threshold",
    "passed": "passed",
    "gathered_ratio": "to gathered",
    "gathered_mode": "",
    "ours_peak_fraction": "ours of peak",
    "peer_peak_fraction": "theirs of peak",
    "ours_gflops": "ours GFLOP/s",
    "ours_mib": "ours MiB",
    "peer_mib": "theirs MiB",
}
_FIRST_STEP = {
    "name": "first step",
    "mode": "mode",
    "seconds": "s",
    "since_start": "s since start",
    "threshold": "threshold",
    "passed": "passed",
}
_PACKED_LEARNING = {
    "name": "by examples seen",
    "examples": "examples",
    "unpacked": "unpacked: MLM loss",
    "packed": "packed",
    "ratio": "ratio",
    "unpacked_nsp": "unpacked: NSP loss",
    "packed_nsp": "packed",
    "threshold": "threshold",
    "passed": "passed",
}


PRECISIONS = {"": "float32", "-bf16": "bfloat16"}
NAMES = [
    *(case.name + suffix for case in CASES if case.data != "pairs" for suffix in PRECISIONS),
    "packing",
    "packed-learning",
]


# Number of tweets per step, maximum sequence length and size of the vocabulary of packed-learning.
_EXAMPLES, _LENGTH, _VOCAB_SIZE = 64, 96, 8000


class Bench:
    """Prepares and runs the selected cases."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.absolute()
        self._projects: dict[bool, Project] = {}

    def project(self, own_vocabulary: bool) -> Project:
        """The tweets, one per document, in shards; with our vocabulary or the one in --vocab."""
        if own_vocabulary not in self._projects:
            self._projects[own_vocabulary] = project = Project(
                self.work / ("project-own-vocabulary" if own_vocabulary else "project"),
                {
                    "preprocess": {"input": "data/raw", "document": "blank_line"},
                    "vocab": {"size": _VOCAB_SIZE},
                    "records": {"dupe_factor": 1, "short_seq_prob": 0.0},
                },
            )
            tweets = project.path("data/raw/tweets.txt")
            inputs.write_documents("tweets", self.options.tweets, tweets)
            project.stages("preprocess", "split")
            if own_vocabulary:
                project.stages("sample5M", "vocab")
            else:
                project.use_vocabulary(self.options.vocab)
        return self._projects[own_vocabulary]

    def records(self, length: int, pairs: bool, packing: bool, own_vocabulary: bool) -> Path:
        """The same examples of tweets, packed or not; made once."""
        project = self.project(own_vocabulary)
        kind = f"{'pairs' if pairs else 'single'}-{length}-{'packed' if packing else 'unpacked'}"
        folder = project.folder / "data/records" / kind
        if not folder.exists():
            project.set(
                {
                    "records": {"next_sentence": pairs, "packing": packing},
                    "phases": {kind: {"max_seq_length": length, "init": "data/vocab"}},
                }
            )
            project.records(kind)
        return folder

    def case(self, case: Case, precision: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Speed of one case, and the first steps if the case reports them."""
        job: dict[str, Any] = {
            "model": case.model,
            "vocab_size": len(inputs.read_vocabulary(self.options.vocab)),
            "next_sentence": case.next_sentence,
            "steps": self.options.steps or case.steps,
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
                self.with_records(job, case.length, case.data == "pairs", packing, False)
                for packing in (True, False)
            )
        sides = {"ours": _ours(packed, case.xla)}
        if case.data == "pairs":
            sides["peer"] = _ours(unpacked, case.xla)
        else:
            for side, gathered in (("peer", False), ("gathered", True)):
                sides[side] = [
                    Variant(mode, PEER, unpacked | {"mode": mode, "gathered": gathered})
                    for mode in case.peer_modes
                ]
        name = case.name + (", bfloat16" if precision == "bfloat16" else "")
        print(f"training: {name}", file=sys.stderr)
        results = run_rounds(sides, self.options.repeats, self.work)
        first = []
        if case.name == "base" and precision == "float32":
            first = first_steps(results)
        threshold = case.threshold if precision == "float32" else None
        return summarise(name, results, threshold), first

    def with_records(
        self, job: dict[str, Any], length: int, pairs: bool, packing: bool, own_vocabulary: bool
    ) -> dict[str, Any]:
        """The job with records of tweets, and the number of sequences that hold its examples."""
        records = self.records(length, pairs, packing, own_vocabulary)
        split = read_manifest(records).splits["train"]
        sequences = max(1, round(job["settings"]["batch_size"] * split.sequences / split.examples))
        return job | {
            "records": str(records),
            "vocabulary": str(self.project(own_vocabulary).folder / "data/vocab"),
            "settings": job["settings"] | {"batch_size": sequences},
        }

    def packed_learning(self) -> dict[str, Any]:
        """Losses of packed and unpacked training after the same number of examples."""
        results: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for seed in self.options.seeds:
            for packing in (False, True):
                result = run_variant(
                    Variant("", PACKED, self._packed_job(packing, seed)), self.work
                )
                results[packing].append(result)
                print(
                    f"training: {'packed' if packing else 'unpacked'}, seed {seed}: MLM loss "
                    f"{result['mlm_loss']:.4f} after {result['examples']:,.0f} examples",
                    file=sys.stderr,
                )
        row: dict[str, Any] = {"name": f"tweets at {_LENGTH}", "threshold": MAX_PACKED_LOSS}
        for name, packing in (("unpacked", False), ("packed", True)):
            for key, metric in ((name, "mlm_loss"), (f"{name}_nsp", "nsp_loss")):
                row[key] = statistics.mean(result[metric] for result in results[packing])
        row["examples"] = statistics.mean(result["examples"] for result in results[True])
        row["ratio"] = f"{row['packed'] / row['unpacked']:.4f}"
        row["passed"] = row["packed"] <= MAX_PACKED_LOSS * row["unpacked"]
        row["runs"] = {"unpacked": results[False], "packed": results[True]}
        return row

    def _packed_job(self, packing: bool, seed: int) -> dict[str, Any]:
        job = self.with_records(
            {"settings": {"batch_size": _EXAMPLES}}, _LENGTH, True, packing, True
        )
        split = read_manifest(Path(job["records"])).splits["train"]
        sequences = job["settings"]["batch_size"]
        steps = round(self.options.examples / (sequences * split.examples / split.sequences))
        return job | {
            "model": sizes(2, 128, dropout=0.0),
            "vocab_size": len(inputs.read_vocabulary(Path(job["vocabulary"]) / "vocab.txt")),
            "next_sentence": True,
            "heldout_records": str(self.records(_LENGTH, True, False, True)),
            "settings": {
                "batch_size": sequences,
                "steps": steps,
                "warmup_steps": round(0.06 * steps),
                "learning_rate": 1e-3,
                "seed": seed,
            },
        }


def _ours(job: dict[str, Any], xla: Sequence[bool]) -> list[Variant]:
    return [
        Variant("XLA" if on else "plain", OURS, job | {"settings": job["settings"] | {"xla": on}})
        for on in xla
    ]


def main() -> None:
    parser = cli.make_parser("training.speed", __doc__)
    cli.add_inputs(parser, "tweets", "vocab", required=("vocab",))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="cases to run")
    cli.add_repeats(parser)
    parser.add_argument("--steps", type=int, help="steps to time, instead of the case's number")
    parser.add_argument(
        "--examples", type=int, default=60_000, help="packed-learning: examples (default 60,000)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="packed-learning: seeds"
    )
    cli.add_outputs(parser, "training")
    options = parser.parse_args()
    cli.check_files(options, "tweets", "vocab")
    speed: list[dict[str, Any]] = []
    first_step: list[dict[str, Any]] = []
    packed_learning: list[dict[str, Any]] = []
    conditions = machine(PACKAGES)

    def save() -> None:
        # After each case, because all of them take an hour.
        if options.out:
            results = {"speed": speed, "first_step": first_step, "packed_learning": packed_learning}
            write_json(options.out, {"machine": conditions, **results})

    bench = Bench(options)
    for case in CASES:
        for suffix, precision in PRECISIONS.items():
            if case.name + suffix not in options.only:
                continue
            if case.data != "full" and options.tweets is None:
                print(f"skipped: {case.name + suffix} (give --tweets)", flush=True)
                continue
            row, first = bench.case(case, precision)
            speed.append(row)
            first_step += first
            save()
    if "packed-learning" in options.only:
        if options.tweets is None:
            print("skipped: packed-learning (give --tweets)", flush=True)
        else:
            packed_learning.append(bench.packed_learning())
            save()
    tables = ((speed, _COLUMNS), (first_step, _FIRST_STEP), (packed_learning, _PACKED_LEARNING))
    for rows, columns in tables:
        if rows:
            print(table(rows, columns))
    print(f"load average before: {conditions['load_average']:.1f}")
    cli.exit_if_failed(speed + first_step + packed_learning)


if __name__ == "__main__":
    cli.run_main(main)
