"""split: data/corpus -> data/shards/{train,dev,test}/NNNNN.txt, shuffled by document."""

import shutil
from dataclasses import asdict
from pathlib import Path

from lib.params import load_params
from lib.run.atomic import new_directory
from lib.run.contracts import check_metrics
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import CORPUS, SHARDS
from lib.run.pool import choose_workers
from lib.run.stage import run_stage
from lib.text.dedup.overlap import measure_overlap
from lib.text.layout import SPLITS, by_input, corpus_files
from lib.text.shards import sum_counts, write_shards
from lib.text.splits import SplitRule


def main(corpus: Path = CORPUS, shards: Path = SHARDS) -> None:
    """Divides the corpus into train, dev and test, shuffles the documents and writes shards.

    CORPUS is the folder that preprocess wrote, SHARDS the folder to write.
    """
    params = load_params()
    check_metrics("preprocess")
    settings = params.split
    workers = choose_workers(params.cluster.workers, params.cluster.scheduler)
    files = corpus_files(corpus)
    rule = SplitRule(files, corpus, settings.dev_fraction, settings.test_fraction)
    with new_directory(shards) as temporary:
        work = temporary / ".work"
        inputs = {}
        for name, own_files in by_input(files, corpus).items():
            (work / name).mkdir(parents=True, exist_ok=True)
            inputs[name] = write_shards(
                own_files,
                rule,
                temporary,
                work / name,
                settings.lines_per_shard,
                settings.bytes_per_shard,
                settings.seed,
                workers,
                name,
            )
        counts = {split: sum_counts(each[split] for each in inputs.values()) for split in SPLITS}
        for split in SPLITS:
            if not counts[split].documents:
                raise UserError(
                    f"{corpus}: no {split} documents among "
                    f"{sum(each.documents for each in counts.values()):,}; give more documents "
                    "(or smaller ones: preprocess.document: 5 sentences), "
                    f"a {split} folder, or another split.dev_fraction and split.test_fraction"
                )
        # Near duplicates in the training text make held-out numbers look better than they are.
        overlap = measure_overlap(temporary, ("dev", "test"), settings.seed, work, workers)
        shutil.rmtree(work)
    metrics = {split: asdict(counts[split]) for split in SPLITS}
    named = {
        name: {split: asdict(sizes) for split, sizes in own.items()}
        for name, own in inputs.items()
        if name
    }
    write_metrics(
        Path("results/split/metrics.json"),
        {**metrics, "overlap": overlap, **({"inputs": named} if named else {})},
    )
    print(
        "split: "
        + ", ".join(
            f"{counts[split].documents:,} {split} documents in {counts[split].shards} shards"
            for split in SPLITS
        )
        + f"; {overlap['test']['fraction']:.1%} of test documents have a near duplicate in train"
    )


if __name__ == "__main__":
    # Here, because the processes of the worker pool import this module and do not need it.
    from lib.train.base_models import check_base_models

    run_stage(main, before=check_base_models)
