"""Training steps of a small ModernBERT on longer and longer sequences: time and memory.

Four layers of 256, one random sequence without padding per step, with AdamW; three models: all
layers local, all layers global, and the usual mix (the first layer of three is global). The
embeddings, the MLM head and the optimizer are part of every step. Each run is its own process, and
the models alternate. Local attention is computed in bands: time and memory of the step should be
linear in the length.
"""

import argparse
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from bench.common import cli
from bench.common.report import Row
from bench.common.rounds import Variant, run_variant
from bench.training.cases import modernbert_sizes
from lib.run.errors import UserError

# Model -> keys of its sizes, and of its job.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "local": ({}, {"local": True}),
    "global": ({"global_attn_every_n_layers": 1}, {}),
    "mix": ({}, {}),
}
# Of time and memory, over the growth of the length; with all layers local.
MAXIMUM_GROWTH = 1.15
_VOCAB_SIZE = 30_522

Runs = dict[tuple[int, str], list[Row]]
"""Length and model -> its results."""


def make_job(length: int, kind: str, steps: int) -> dict[str, Any]:
    sizes, keys = KINDS[kind]
    return {
        "model": modernbert_sizes(4, 256) | sizes,
        "vocab_size": _VOCAB_SIZE,
        "next_sentence": False,
        "steps": steps,
        "length": length,
        "predictions": round(0.15 * length),
        "records": None,
        "vocabulary": None,
        "settings": {"batch_size": 1, "precision": "float32", "xla": False},
        **keys,
    }


def measure_all(options: argparse.Namespace) -> Runs:
    results: Runs = {}
    for _, length, kind in itertools.product(range(options.repeats), options.lengths, KINDS):
        job = make_job(length, kind, options.steps)
        result = run_variant(Variant(kind, "bench.training.our_steps", job), options.work)
        results.setdefault((length, kind), []).append(result)
        seconds = statistics.median(result["step_seconds"])
        cli.progress(f"{length:,}, {kind}: {seconds:.3f} s, {result['peak_mib']:,.0f} MiB")
    return results


def summarise(results: Runs) -> list[Row]:
    """A row per length: medians over the rounds of each round's median step, and peaks."""
    rows: dict[int, Row] = {}
    for (length, kind), runs in results.items():
        row = rows.setdefault(length, {"name": "ModernBERT", "length": length, "runs": {}})
        row["runs"][kind] = runs
        for key, name in (("seconds", "step_seconds"), ("cpu_seconds", "step_cpu_seconds")):
            row[f"{kind}_{key}"] = statistics.median(statistics.median(run[name]) for run in runs)
        row[f"{kind}_mib"] = statistics.median(run["peak_mib"] for run in runs)
    return list(rows.values())


def growth(rows: Sequence[Row]) -> list[Row]:
    """How much more than the length time and memory grow: 1 is linear.

    Time from the shortest length to the longest. Memory has a part that does not depend on the
    length, so what the last step in length adds is compared with what the step before adds.
    """
    shortest, longest = rows[0], rows[-1]
    sizes = [row["length"] for row in rows[-3:]]
    found = []
    for kind in KINDS:
        time = longest[f"{kind}_seconds"] / shortest[f"{kind}_seconds"]
        time /= longest["length"] / shortest["length"]
        peaks = [row[f"{kind}_mib"] for row in rows[-3:]]
        memory = (peaks[2] - peaks[1]) / max(peaks[1] - peaks[0], 1e-9)
        memory /= (sizes[2] - sizes[1]) / (sizes[1] - sizes[0])
        row: Row = {"name": f"growth, {kind}", "time": time, "memory": memory}
        if kind == "local":
            row |= {"threshold": MAXIMUM_GROWTH, "passed": max(time, memory) <= MAXIMUM_GROWTH}
        found.append(row)
    return found


def main() -> None:
    parser = cli.make_parser("training.lengths", __doc__)
    cli.add(parser, "--lengths", [512, 1024, 2048, 4096, 8192], "tokens of a sequence")
    cli.add(parser, "--steps", 10, "steps to time")
    cli.add_repeats(parser)
    options = cli.parse(parser)
    options.lengths = sorted(set(options.lengths))
    if len(options.lengths) < 3:
        raise UserError("--lengths: give at least three")
    rows = summarise(measure_all(options))
    cli.finish(options, rows=rows, growth=growth(rows))


if __name__ == "__main__":
    cli.run_main(main)
