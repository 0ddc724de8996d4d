"""records: data/shards and data/vocab -> data/records/<phase>, TFRecords to train on."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lib.params import load_params
from lib.records.documents import read_tokens
from lib.records.manifest import WrittenShard, manifest_json, split_facts, total
from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.shard import FILE_SUFFIXES, write_shard
from lib.records.statistics import histogram_csv
from lib.run import fingerprint, random
from lib.run.atomic import new_directory, write_text
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.pool import shard_map, worker_count
from lib.run.stage import run_stage
from lib.text.splits import SPLITS
from lib.vocab.directory import CONFIG, VOCABULARY
from lib.vocab.tokenizer import WordPieceTokenizer


@dataclass(frozen=True)
class ShardTask:
    """One text shard to turn into one record shard."""

    source: Path
    target: Path
    vocab: Path
    settings: RecordSettings
    seed: int

    def __str__(self) -> str:
        return str(self.source)


# Once a process: what it has seen in one shard it need not work out in the next.
_tokenizer = cache(WordPieceTokenizer.load)


def make_records(task: ShardTask) -> WrittenShard:
    """Tokenises, pairs, masks, packs and encodes one shard."""
    tokenizer = _tokenizer(task.vocab)
    tokens = read_tokens(task.source, tokenizer.encode_lines)
    statistics = write_shard(
        task.target,
        tokens,
        task.settings,
        VocabularyFacts.of(tokenizer),
        task.seed,
        int(task.source.stem),
    )
    return WrittenShard(
        "/".join(task.target.parts[-2:]),
        "/".join(task.source.parts[-2:]),
        fingerprint.of_file(task.source),
        statistics,
    )


def main(phase: str, shards: Path, vocab: Path, records: Path) -> None:
    """Makes the examples of one phase, by default in Google's TFRecord format.

    PHASE is its name in params.yaml, SHARDS the folder that split wrote, VOCAB the vocabulary,
    RECORDS the folder to write.
    """
    params = load_params()
    knobs = params.records
    settings = RecordSettings.from_params(knobs, params.phases[phase].max_seq_length)
    of_split = {split: settings if split == "train" else settings.once() for split in SPLITS}
    suffix = FILE_SUFFIXES[settings.compression]
    with new_directory(records) as temporary:
        tasks = []
        for split in SPLITS:
            (temporary / split).mkdir()
            for source in sorted((shards / split).glob("*.txt")):
                target = temporary / split / f"{source.stem}{suffix}"
                seed = random.key(knobs.seed, split)
                tasks.append(ShardTask(source, target, vocab, of_split[split], seed))
        workers = worker_count(params.cluster.workers)
        written = shard_map(make_records, tasks, workers, f"records {phase}")
        by_split = {
            split: [shard for shard in written if shard.file.startswith(f"{split}/")]
            for split in SPLITS
        }
        facts = {split: split_facts(by_split[split], of_split[split]) for split in SPLITS}
        for split in SPLITS:
            if not facts[split]["examples"]:
                raise UserError(
                    f"{shards / split}: its text makes no examples; give more text, or "
                    "raise split.dev_share and split.test_share"
                )
        manifest = manifest_json(
            {split: (of_split[split], by_split[split]) for split in SPLITS},
            knobs.seed,
            {name: fingerprint.of_file(vocab / name) for name in (VOCABULARY, CONFIG)},
        )
        write_text(temporary / "manifest.json", manifest)
    results = Path("results/records") / phase
    write_metrics(results / "metrics.json", facts)
    histograms = total(by_split["train"])
    write_text(results / "lengths.csv", histogram_csv(histograms.example_lengths, "examples"))
    write_text(results / "rows.csv", histogram_csv(histograms.row_lengths, "rows"))
    train = facts["train"]
    print(
        f"records: {phase}: {train['examples']:,} training examples in {train['rows']:,} rows of "
        f"{settings.max_seq_length} tokens, {train['fill']:.1%} full"
    )


if __name__ == "__main__":
    run_stage(main)
