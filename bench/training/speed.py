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
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import cli, inputs
from bench.common.project import Project
from bench.common.report import Row
from bench.common.rounds import Variant, first_steps, run_rounds, run_variant, summarise
from bench.training.cases import CASES, Case, sizes
from lib.records.manifest import read_manifest

OURS, PEER = "bench.training.our_steps", "bench.peers.hugging_face_steps"
PACKED = "bench.training.packed_learning"
MAX_PACKED_LOSS = 1.01  # packed over unpacked
# Name -> case and precision; pairs are measured in float32 only.
RUNS = {
    case.name + suffix: (case, precision)
    for case in CASES
    for suffix, precision in (("", "float32"), ("-bf16", "bfloat16"))
    if not (suffix and case.data == "pairs")
}
NAMES = [*RUNS, "packed-learning"]
# Number of tweets per step, maximum sequence length and size of the vocabulary of packed-learning.
_EXAMPLES, _LENGTH, _VOCAB_SIZE = 64, 96, 8000


class Bench:
    """Prepares and runs the selected cases."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self._projects: dict[bool, Project] = {}

    def project(self, own_vocabulary: bool) -> Project:
        """The tweets, one per document, in shards; with our vocabulary or the one in --vocab."""
        if own_vocabulary not in self._projects:
            self._projects[own_vocabulary] = project = Project(
                self.options.work / ("project-own-vocabulary" if own_vocabulary else "project"),
                {
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

    def case(self, case: Case, precision: str) -> tuple[Row, list[Row]]:
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
        cli.progress(name)
        results = run_rounds(sides, self.options.repeats, self.options.work)
        single = precision == "float32"
        first = first_steps(results) if case.name == "base" and single else []
        return summarise(name, results, case.threshold if single else None), first

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

    def packed_learning(self) -> Row:
        """Losses of packed and unpacked training after the same number of examples."""
        results: dict[str, list[Row]] = {"unpacked": [], "packed": []}
        for seed, (kind, found) in itertools.product(self.options.seeds, results.items()):
            job = self._packed_job(kind == "packed", seed)
            found.append(run_variant(Variant("", PACKED, job), self.options.work))
            cli.progress(f"{kind}, seed {seed}: MLM loss {found[-1]['mlm_loss']:.4f}")
        means = {
            f"{kind}_{key}": statistics.mean(result[key] for result in found)
            for kind, found in results.items()
            for key in ("mlm_loss", "nsp_loss", "examples")
        }
        ratio = means["packed_mlm_loss"] / means["unpacked_mlm_loss"]
        return {
            "name": f"packed learning, tweets at {_LENGTH}",
            **means,
            "ratio": f"{ratio:.4f}",
            "threshold": MAX_PACKED_LOSS,
            "passed": ratio <= MAX_PACKED_LOSS,
            "runs": results,
        }

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
    parser = cli.make_parser("training.speed", __doc__, "tweets", required=["vocab"])
    cli.add(parser, "--only", NAMES, "cases to run", NAMES)
    cli.add_repeats(parser)
    parser.add_argument("--steps", type=int, help="steps to time (default: by case)")
    cli.add(parser, "--examples", 60_000, "examples of packed-learning")
    cli.add(parser, "--seeds", [1, 2, 3], "seeds of packed-learning")
    options = cli.parse(parser)
    results: dict[str, list[Row]] = {"speed": [], "first_step": [], "packed_learning": []}
    bench = Bench(options)
    for name in NAMES:
        if name not in options.only:
            continue
        case, precision = RUNS.get(name, (None, ""))
        if options.tweets is None and not (case and case.data == "full"):
            print(f"skipped: {name} (give --tweets)", flush=True)
            continue
        if case:
            row, first = bench.case(case, precision)
            results["speed"].append(row)
            results["first_step"] += first
        else:
            results["packed_learning"].append(bench.packed_learning())
        # After each case, because all of them take an hour.
        cli.save(options, **results)
    cli.finish(options, **results)


if __name__ == "__main__":
    cli.run_main(main)
