"""sample5M: data/corpus -> data/sample, a uniform sample of sentences for the vocabulary."""

import shutil
from pathlib import Path

from lib.params import load_params
from lib.run.atomic import new_directory
from lib.run.contracts import check_metrics
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import CORPUS, SAMPLE
from lib.run.pool import worker_count
from lib.run.stage import run_stage
from lib.text.layout import corpus_files
from lib.text.sampling import Sample, write_samples
from lib.text.splits import SplitRule


def main(corpus: Path = CORPUS, sample: Path = SAMPLE) -> None:
    """Draws training sentences for the vocabulary and dev sentences for its report.

    CORPUS is the folder that preprocess wrote, SAMPLE the folder to write.
    """
    params = load_params()
    check_metrics("preprocess")
    settings = params.sample5M
    files = corpus_files(corpus)
    rule = SplitRule(files, corpus, params.split.dev_fraction, params.split.test_fraction)
    with new_directory(sample) as temporary:
        work = temporary / ".work"
        work.mkdir()
        samples = [
            Sample("train", settings.sentences, temporary / "train.txt"),
            Sample("dev", settings.heldout_sentences, temporary / "heldout.txt"),
        ]
        workers = worker_count(params.cluster.workers)
        train, heldout = write_samples(files, rule, samples, settings.seed, work, workers)
        shutil.rmtree(work)
        if not train[0]:
            raise UserError(
                f"{corpus}: no training documents; lower split.dev_fraction and "
                "split.test_fraction, or give more text"
            )
    write_metrics(
        Path("results/sample5M/metrics.json"),
        {
            "train_sentences": train[0],
            "train_sampled": train[1],
            "heldout_sentences": heldout[0],
            "heldout_sampled": heldout[1],
        },
    )
    print(f"sample5M: {train[1]:,} of {train[0]:,} training sentences")


if __name__ == "__main__":
    # Here, because the processes of the worker pool import this module and do not need it.
    from lib.train.base_models import check_base_models

    run_stage(main, before=check_base_models)
