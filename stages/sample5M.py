"""sample5M: data/corpus -> data/sample, a uniform sample of sentences for the vocabulary."""

from pathlib import Path

from lib.params import load_params
from lib.run.atomic import new_directory
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.stage import run_stage
from lib.text.sampling import count_sentences, write_sample
from lib.text.splits import SplitRule, corpus_files


def main(corpus: Path, sample: Path) -> None:
    """Draws training sentences for the vocabulary and dev sentences for its report.

    CORPUS is the folder that preprocess wrote, SAMPLE the folder to write.
    """
    params = load_params()
    settings = params.sample5M
    files = corpus_files(corpus)
    rule = SplitRule(files, corpus, params.split.dev_share, params.split.test_share)
    totals = count_sentences(files, rule)
    if not totals["train"]:
        raise UserError(
            f"{corpus}: no training documents; lower split.dev_share and "
            "split.test_share, or give more text"
        )
    wanted = {"train": settings.sentences, "dev": settings.heldout_sentences}
    written = {}
    with new_directory(sample) as temporary:
        for split, name in (("train", "train.txt"), ("dev", "heldout.txt")):
            with (temporary / name).open("wb") as target:
                written[split] = write_sample(
                    files, rule, split, totals[split], wanted[split], settings.seed, target
                )
    write_metrics(
        Path("results/sample5M/metrics.json"),
        {
            "train_sentences": totals["train"],
            "train_sampled": written["train"],
            "heldout_sentences": totals["dev"],
            "heldout_sampled": written["dev"],
        },
    )
    print(f"sample5M: {written['train']:,} of {totals['train']:,} training sentences")


if __name__ == "__main__":
    run_stage(main)
