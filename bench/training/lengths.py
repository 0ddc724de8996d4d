"""Training steps of a small ModernBERT on longer and longer sequences: time and memory.

Four layers of 256, one random sequence without padding per step, with AdamW; three models: all
layers local, all layers global, and the usual mix (the first layer of three is global). The
embeddings, the MLM head and the optimizer are part of every step. Each run is its own process, and
the models alternate. Local attention is computed in bands: time and memory of the step should be
linear in the length.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import cli
from bench.common.report import machine, table, write_json
from bench.common.rounds import Variant, run_variant
from bench.training.cases import modernbert_sizes

# Model -> keys of its sizes, and of its job.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "local": ({}, {"local": True}),
    "global": ({"global_attn_every_n_layers": 1}, {}),
    "mix": ({}, {}),
}
_TITLES = {"local": "all local", "global": "all global", "mix": "mix"}
# Of time and memory, over the growth of the length; with all layers local.
MAXIMUM_GROWTH = 1.15
_COLUMNS = {
    "name": "tokens",
    **{
        f"{kind}_{key}": f"{title}: {heading}"
        for kind, title in _TITLES.items()
        for key, heading in (("seconds", "s"), ("cpu", "CPU s"), ("mib", "MiB"))
    },
}
_GROWTH = {
    "name": "growth over that of the length",
    "time": "time",
    "memory": "memory",
    "threshold": "threshold",
    "passed": "passed",
}


def make_job(length: int, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    sizes, keys = KINDS[kind]
    return {
        "model": modernbert_sizes(4, 256) | sizes,
        "vocab_size": options.vocabulary_size,
        "next_sentence": False,
        "steps": options.steps,
        "length": length,
        "predictions": round(0.15 * length),
        "records": None,
        "vocabulary": None,
        "settings": {"batch_size": 1, "precision": "float32", "xla": False},
        **keys,
    }


def measure_all(
    lengths: Sequence[int], options: argparse.Namespace
) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Results of all runs, by length and model."""
    results: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for _ in range(options.repeats):
        for length in lengths:
            for kind in KINDS:
                variant = Variant(kind, "bench.training.our_steps", make_job(length, kind, options))
                result = run_variant(variant, options.work.absolute())
                results.setdefault((length, kind), []).append(result)
                print(
                    f"lengths: {length:,} tokens, {_TITLES[kind]}: "
                    f"{statistics.median(result['step_seconds']):.3f} s per step, "
                    f"{result['peak_mib']:,.0f} MiB",
                    file=sys.stderr,
                )
    return results


def summarise(
    lengths: Sequence[int], results: dict[tuple[int, str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """A row per length: medians over the rounds of each round's median step, and peaks."""
    rows = []
    for length in lengths:
        row: dict[str, Any] = {"name": f"{length:,}", "length": length}
        for kind in KINDS:
            runs = results[length, kind]
            for key, name in (("seconds", "step_seconds"), ("cpu", "step_cpu_seconds")):
                medians = [statistics.median(run[name]) for run in runs]
                row[f"{kind}_{key}"] = statistics.median(medians)
            row[f"{kind}_mib"] = statistics.median(run["peak_mib"] for run in runs)
        rows.append(row)
    return rows


def growth(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How much more than the length time and memory grow: 1 is linear.

    Time from the shortest length to the longest. Memory has a part that does not depend on the
    length, so what the last step in length adds is compared with what the step before adds.
    """
    shortest, longest = rows[0], rows[-1]
    sizes = [row["length"] for row in rows[-3:]]
    found = []
    for kind, title in _TITLES.items():
        time = longest[f"{kind}_seconds"] / shortest[f"{kind}_seconds"]
        time /= longest["length"] / shortest["length"]
        peaks = [row[f"{kind}_mib"] for row in rows[-3:]]
        memory = (peaks[2] - peaks[1]) / max(peaks[1] - peaks[0], 1e-9)
        memory /= (sizes[2] - sizes[1]) / (sizes[1] - sizes[0])
        checked = kind == "local"
        found.append(
            {
                "name": title,
                "time": time,
                "memory": memory,
                "threshold": MAXIMUM_GROWTH if checked else None,
                "passed": max(time, memory) <= MAXIMUM_GROWTH if checked else None,
            }
        )
    return found


def main() -> None:
    parser = cli.make_parser("training.lengths", __doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--steps", type=int, default=10, help="steps to time (default 10)")
    parser.add_argument("--vocabulary-size", type=int, default=30522)
    cli.add_repeats(parser)
    cli.add_outputs(parser, "lengths")
    options = parser.parse_args()
    if len(set(options.lengths)) < 3:
        parser.error("--lengths: give at least three")
    lengths = sorted(set(options.lengths))
    Path(options.work).mkdir(parents=True, exist_ok=True)
    conditions = machine(("numpy", "tensorflow"))
    results = measure_all(lengths, options)
    rows = summarise(lengths, results)
    grown = growth(rows)
    print(table(rows, _COLUMNS))
    print(table(grown, _GROWTH))
    print(f"load average before: {conditions['load_average']:.1f}")
    if options.out:
        runs = [
            {"length": length, "model": kind, "runs": found}
            for (length, kind), found in results.items()
        ]
        write_json(
            options.out, {"machine": conditions, "rows": rows, "growth": grown, "runs": runs}
        )
    cli.exit_if_failed(grown)


if __name__ == "__main__":
    cli.run_main(main)
