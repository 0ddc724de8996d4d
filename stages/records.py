"""records: data/shards and data/vocab -> data/records/<phase>, TFRecords to train on."""

import os
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path, PurePosixPath

from lib.params import SHARDS, Params, load_params
from lib.records.importing.examples import find_examples, import_examples, phase_folder
from lib.records.manifest import (
    MANIFEST,
    SplitEntry,
    is_manifest,
    manifest_json,
    read_manifest,
)
from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings, split_settings
from lib.records.shard import FILE_SUFFIXES, write_shard
from lib.records.statistics import WrittenShard, by_input, constant_pairs, histogram_csv, total
from lib.records.tfrecord import new_digest
from lib.records.tokens import read_tokens
from lib.run import fingerprint, random
from lib.run.atomic import new_directory, write_text
from lib.run.contracts import check_metrics
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.names import write_name
from lib.run.paths import RECORDS, VOCAB
from lib.run.pool import choose_workers, shard_map
from lib.run.stage import run_stage
from lib.text.layout import SPLITS, refuse_other_names, shard_files, shard_input
from lib.vocab.counts import TOKEN_COUNTS, read_token_counts
from lib.vocab.directory import read_directory, refuse_disagreement
from lib.vocab.extension import read_extension
from lib.vocab.loading import load_tokenizer
from lib.vocab.names import ADDED, CONFIG, MODEL_CONFIG, SPECIAL, TOKENIZER, VOCABULARY
from lib.vocab.tokenizer import Tokenizer

# Below it, sequences could be fuller if they held more examples.
_LOW_FILL = 0.95


@dataclass(frozen=True)
class ShardTask:
    """One text shard to turn into one record file.

    Attributes:
        name: path of the source in the folder of shards, as train/00000.txt.
        vocab_digest: of the contents of the folder `vocab`.
    """

    name: str
    source: Path
    target: Path
    vocab: Path
    vocab_digest: str
    settings: RecordSettings
    seed: int

    def __str__(self) -> str:
        return str(self.source)


@lru_cache(1)
def _tokenizer(vocab: Path, digest: str) -> Tokenizer:
    """The tokenizer, loaded once per process: its cache of words serves all shards.

    A worker of a cluster may outlive the vocabulary; the digest distinguishes vocabularies.
    """
    return load_tokenizer(vocab)


def make_records(task: ShardTask) -> WrittenShard:
    """Tokenizes, pairs, masks, packs and encodes one shard."""
    tokenizer = _tokenizer(task.vocab, task.vocab_digest)
    tokens = read_tokens(task.source, tokenizer.encode_marked_lines)
    digest = new_digest()
    statistics = write_shard(
        task.target,
        tokens,
        task.settings,
        VocabularyFacts.from_tokenizer(tokenizer),
        task.seed,
        int(task.source.stem),
        digest,
    )
    return WrittenShard(
        f"{PurePosixPath(task.name).parent}/{task.target.name}",
        task.name,
        fingerprint.of_file(task.source),
        statistics,
        digest.hexdigest(),
    )


def from_text(
    params: Params, phase: str, shards: Path, vocab: Path, target: Path
) -> tuple[dict[str, RecordSettings], list[WrittenShard]]:
    """Makes examples from the text shards; returns the settings of each split and the files."""
    of_split = split_settings(params, phase)
    suffix = FILE_SUFFIXES[params.records.compression]
    files = [vocab / name for name in (VOCABULARY, TOKENIZER, CONFIG)]
    vocab_digest = fingerprint.of_values(
        [fingerprint.of_file(path) for path in files if path.exists()]
    )
    refuse_other_names(shards)
    tasks = []
    inputs = {shard_input(path, "train") for path in shard_files(shards, "train")}
    for split in SPLITS:
        for source in shard_files(shards, split):
            if shard_input(source, split) not in inputs:
                continue  # Held-out text for evaluate only: training does not depend on it.
            name = PurePosixPath(source.relative_to(shards))
            file = target / name.with_suffix(suffix)
            file.parent.mkdir(exist_ok=True)
            seed = random.key(params.records.seed, str(name.parent))
            tasks.append(
                ShardTask(str(name), source, file, vocab, vocab_digest, of_split[split], seed)
            )
    workers = choose_workers(params.cluster.workers, params.cluster.scheduler)
    written = shard_map(make_records, tasks, workers, f"records {phase}")
    for split in SPLITS:
        if not total([shard for shard in written if shard.split == split]).examples:
            raise UserError(
                f"{shards / split}: its text yields no examples; add text, or raise "
                "split.dev_fraction and split.test_fraction"
            )
    return of_split, written


def from_external_examples(
    params: Params, phase: str, source: Path, vocab: Path, target: Path
) -> tuple[dict[str, RecordSettings], list[WrittenShard]]:
    """Imports the external examples of a folder; returns the same as `from_text`.

    Raises:
        UserError: they are records of this project that were made with another vocabulary.
    """
    folder = phase_folder(source, phase)
    for path in folder.rglob(MANIFEST):
        if is_manifest(path):
            read_manifest(path.parent).check_vocabulary(path.parent, vocab, [VOCABULARY])
    settings, written = import_examples(
        find_examples(folder),
        target,
        phase,
        params.phases[phase].max_seq_length,
        VocabularyFacts.from_tokenizer(load_tokenizer(vocab)),
        params.split.dev_fraction,
        params.records.compression,
        choose_workers(params.cluster.workers, params.cluster.scheduler),
    )
    return dict.fromkeys(SPLITS, settings), written


def main(
    phase: str = "",
    source: Path | None = None,
    vocab: Path = VOCAB,
    records: Path | None = None,
) -> None:
    """Makes the training examples of one phase, by default in Google's TFRecord format.

    PHASE is its name in params.yaml, SOURCE the folder of text shards or of external
    examples, VOCAB the vocabulary, RECORDS the folder to write.
    """
    params = load_params()
    params.check_phase(phase)
    source = source or Path(params.records.source)
    records = records or RECORDS / phase
    from_shards = params.records.source == SHARDS
    _check_vocabulary(vocab)
    with new_directory(records) as temporary:
        for split in SPLITS:
            (temporary / split).mkdir()
        write = from_text if from_shards else from_external_examples
        settings, written = write(params, phase, source, vocab, temporary)
        shards = {split: [shard for shard in written if shard.split == split] for split in SPLITS}
        metrics = {
            split: total(shards[split]).metrics(
                own.max_seq_length, own.masking == "static", imported=not from_shards
            )
            for split, own in settings.items()
        }
        segments = 2 if total(written).two_segments else 1
        text = manifest_json(
            {
                split: SplitEntry(
                    asdict(settings[split]),
                    metrics[split],
                    [shard.entry for shard in shards[split]],
                    settings[split].predictions_per_sequence(),
                )
                for split in SPLITS
            },
            settings["train"].examples_per_sequence,
            params.records.seed,
            {name: fingerprint.of_file(vocab / name) for name in _vocabulary_files(vocab)},
            imported=not from_shards,
            segments=None if from_shards else segments,
            word_marks=from_shards and load_tokenizer(vocab).continuation is None,
        )
        write_text(temporary / MANIFEST, text)
    results = Path("results/records") / phase
    own_metrics = by_input(shards["train"], settings["train"].max_seq_length)
    named = {"inputs": own_metrics} if own_metrics else {}
    write_metrics(results / "metrics.json", {**metrics, **named})
    write_name("records", phase)
    histograms = total(shards["train"])
    write_text(results / "lengths.csv", histogram_csv(histograms.example_lengths, "examples"))
    write_text(results / "sequences.csv", histogram_csv(histograms.sequence_lengths, "sequences"))
    train = metrics["train"]
    print(
        f"records: {phase}: {train['examples']:,} training examples in {train['sequences']:,} "
        f"sequences of {settings['train'].max_seq_length} tokens, {train['fill']:.1%} full"
    )
    slots = settings["train"].examples_per_sequence
    has_slots_left = train["examples"] < _LOW_FILL * slots * train["sequences"]
    if settings["train"].packing and train["fill"] < _LOW_FILL and not has_slots_left:
        print(
            f"records: {phase}: note: most sequences hold {slots} examples, as many as "
            "records.max_examples_per_pack allows; raise it to fill them"
        )
    for split in SPLITS:
        if unmasked := metrics[split].get("unmasked_sequences"):
            print(
                f"records: {phase}: note: {unmasked:,} of {metrics[split]['sequences']:,} {split} "
                "sequences have no masked tokens, so nothing is learnt from them about words"
            )
    if settings["train"].next_sentence and (found := constant_pairs(train["random_next_fraction"])):
        sys.stdout.flush()
        print(
            f"records: {phase}: note: {found}; {_advice_on_pairs(settings['train'], from_shards)}",
            file=sys.stderr,
        )


def _vocabulary_files(vocab: Path) -> tuple[str, ...]:
    """The files that decide which ids a text has."""
    # WordPiece has all of tokenizer.json in the two others.
    return (VOCABULARY, CONFIG, *([] if read_directory(vocab).library is None else [TOKENIZER]))


def _check_vocabulary(vocab: Path) -> None:
    """Checks the vocabulary, and what later stages need of the stages before this one."""
    refuse_disagreement(vocab)
    check_metrics("split", "vocab")
    if "DVC_STAGE" not in os.environ:
        return
    for name in (ADDED, SPECIAL, MODEL_CONFIG):
        # This stage does not depend on them: a change would go unnoticed.
        if (vocab / name).exists():
            raise UserError(
                f"{vocab / name}: not a file of a vocabulary; put its tokens into {VOCABULARY} and "
                f"{TOKENIZER}"
            )
    read_extension(vocab)
    counts, size = read_token_counts(vocab / TOKEN_COUNTS), len(read_directory(vocab).vocabulary)
    if len(counts) != size:
        raise UserError(
            f"{vocab / TOKEN_COUNTS}: has {len(counts):,} counts for a vocabulary of {size:,} "
            "tokens; write one per token"
        )


def _advice_on_pairs(settings: RecordSettings, from_shards: bool) -> str:
    """How to get sentence pairs with both labels, or none."""
    if not from_shards:
        return "make the examples without next-sentence labels, or from longer documents"
    if 0.1 <= settings.random_next_prob <= 0.9:
        return (
            "documents of one sentence give no others: set records.next_sentence: false, or "
            "preprocess.document so that documents have several sentences"
        )
    return "set records.next_sentence: false, or records.random_next_prob: 0.5"


if __name__ == "__main__":
    # Here, because the processes of the worker pool import this module and do not need it.
    from lib.train.base_models import check_base_models

    # By the name of this module, under which the workers of a cluster import `make_records`.
    run_stage(import_module("stages.records").main, before=check_base_models)
