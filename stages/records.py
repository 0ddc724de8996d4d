"""records: data/shards and data/vocab -> data/records/<phase>, TFRecords to train on."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lib.params import load_params
from lib.records.documents import read_tokens
from lib.records.masking import VocabularyFacts
from lib.records.shard import RecordSettings, RecordStatistics, write_shard
from lib.run import random
from lib.run.atomic import new_directory
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.pool import shard_map, worker_count
from lib.run.stage import run_stage
from lib.vocab.tokenizer import WordPieceTokenizer

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class ShardTask:
    """One text shard to turn into one record shard."""

    source: Path
    target: Path
    vocab: Path
    settings: RecordSettings
    seed: int
    number: int

    def __str__(self) -> str:
        return str(self.source)


def make_records(task: ShardTask) -> RecordStatistics:
    """Tokenises, pairs, masks and encodes one shard."""
    tokenizer = WordPieceTokenizer.load(task.vocab)
    facts = VocabularyFacts(
        tokenizer.cls_id,
        tokenizer.sep_id,
        tokenizer.mask_id,
        len(tokenizer.vocabulary),
        tokenizer.continuation,
    )
    tokens = read_tokens(task.source, tokenizer.encode_lines)
    return write_shard(task.target, tokens, task.settings, facts, task.seed, task.number)


def main(phase: str, shards: Path, vocab: Path, records: Path) -> None:
    """Makes the examples of one phase in Google's TFRecord format.

    PHASE is its name in params.yaml, SHARDS the folder that split wrote, VOCAB the vocabulary,
    RECORDS the folder to write.
    """
    params = load_params()
    length = params.phases[phase].max_seq_length
    knobs = params.records
    settings = RecordSettings(
        max_seq_length=length,
        max_predictions_per_seq=knobs.predictions(length),
        masked_lm_prob=knobs.masked_lm_prob,
        short_seq_prob=knobs.short_seq_prob,
        dupe_factor=knobs.dupe_factor,
        whole_word_mask=knobs.whole_word_mask,
        next_sentence=knobs.next_sentence,
        random_next_prob=knobs.random_next_prob,
    )
    # dev and test are masked once, so that their numbers can be compared from run to run.
    once = replace(settings, dupe_factor=1)
    with new_directory(records) as temporary:
        tasks = []
        for split in SPLITS:
            (temporary / split).mkdir()
            for source in sorted((shards / split).glob("*.txt")):
                tasks.append(
                    ShardTask(
                        source,
                        temporary / split / f"{source.stem}.tfrecord",
                        vocab,
                        settings if split == "train" else once,
                        random.key(knobs.seed, split),
                        int(source.stem),
                    )
                )
        results = shard_map(
            make_records, tasks, worker_count(params.cluster.workers), f"records {phase}"
        )
        totals = {split: RecordStatistics() for split in SPLITS}
        for task, statistics in zip(tasks, results, strict=True):
            totals[task.target.parent.name] += statistics
        for split in SPLITS:
            if not totals[split].examples:
                raise UserError(
                    f"{shards / split}: its text makes no examples; give more text, or "
                    "raise split.dev_share and split.test_share"
                )
        facts = {split: _facts(totals[split]) for split in SPLITS}
        manifest = {"settings": asdict(settings), "splits": facts}
        (temporary / "manifest.json").write_text(
            json.dumps(manifest, indent=2) + "\n", encoding="utf-8"
        )
    write_metrics(Path("results/records") / phase / "metrics.json", facts)
    train = facts["train"]
    print(
        f"records: {phase}: {train['examples']:,} training examples of {length} tokens, "
        f"{train['fill']:.0%} full"
    )


def _facts(statistics: RecordStatistics) -> dict[str, float]:
    """The shares that tell whether the examples are what one wanted."""
    cells = statistics.tokens + statistics.padded_cells
    return {
        "examples": statistics.examples,
        "tokens": statistics.tokens,
        "fill": statistics.tokens / max(cells, 1),
        "predictions": statistics.predictions,
        "prediction_share": statistics.predictions / max(statistics.tokens, 1),
        "random_next_share": statistics.random_next / max(statistics.examples, 1),
        "dropped_segments": statistics.dropped_segments,
    }


if __name__ == "__main__":
    run_stage(main)
