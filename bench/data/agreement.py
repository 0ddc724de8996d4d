"""Statistics of our records against those of Google's script: same text, many seeds.

All runs share this one process, for speed: Google's functions (from a checkout) with the random
generator that its main() makes from a seed, and each line tokenised once for all seeds; our
`write_shard` with the seed. Both write TFRecords, which tf.io.parse_example reads back.
"""

import importlib
import random
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import cli, inputs
from bench.common.report import Row, revision, table
from bench.data.statistics import file_statistics, fraction_with_expected_predictions, welch
from bench.peers import google_bert
from lib.records.masking import VocabularyFacts
from lib.records.shard import RecordSettings, write_shard
from lib.records.tokens import Tokens, read_tokens
from lib.run import tf
from lib.run.errors import UserError
from lib.text.cleaning.sentences import split_sentences
from lib.text.documents import format_document
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer

THRESHOLD = 4.0  # of |z|
LENGTH, PREDICTIONS, PROBABILITY = 128, 20, 0.15


class Google:
    """Google's create_pretraining_data.py on one text."""

    def __init__(self, checkout: Path, vocabulary: Path, text: Path) -> None:
        tf.load()  # quietly
        google_bert.install(checkout)
        self._script: Any = importlib.import_module("create_pretraining_data")
        tokenization: Any = importlib.import_module("tokenization")
        self._tokenizer = tokenization.FullTokenizer(str(vocabulary), do_lower_case=True)
        self._tokenizer.tokenize = cache(self._tokenizer.tokenize)
        self._text = text

    def write(self, seed: int, settings: RecordSettings, target: Path) -> None:
        script = self._script
        script.FLAGS(["agreement", f"--do_whole_word_mask={settings.whole_word_mask}"])
        instances = script.create_training_instances(
            [str(self._text)],
            self._tokenizer,
            settings.max_seq_length,
            settings.dupe_factor,
            settings.short_seq_prob,
            settings.masked_lm_prob,
            settings.max_predictions_per_seq,
            random.Random(seed),
        )
        script.write_instance_to_example_files(
            instances,
            self._tokenizer,
            settings.max_seq_length,
            settings.max_predictions_per_seq,
            [str(target)],
        )


class Ours:
    """Our `write_shard` on the same text."""

    def __init__(self, vocabulary: Path, text: Path) -> None:
        vocab = inputs.read_vocabulary(vocabulary)
        tokenizer = WordPieceTokenizer(vocab, lowercase=True, strip_accents=True)
        self.facts = VocabularyFacts.from_tokenizer(tokenizer)
        self._tokens: Tokens = read_tokens(text, tokenizer.encode_lines)

    def write(self, seed: int, settings: RecordSettings, target: Path) -> None:
        write_shard(target, self._tokens, settings, self.facts, seed, 0)


def read_back(path: Path) -> dict[str, np.ndarray]:
    """All records of a file, read by tf.io.parse_example, as arrays [examples, values]."""
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    shapes = {
        "input_ids": LENGTH,
        "input_mask": LENGTH,
        "segment_ids": LENGTH,
        "masked_lm_positions": PREDICTIONS,
        "masked_lm_ids": PREDICTIONS,
        "next_sentence_labels": 1,
    }
    layout = {name: tf.io.FixedLenFeature([size], tf.int64) for name, size in shapes.items()}
    layout["masked_lm_weights"] = tf.io.FixedLenFeature([PREDICTIONS], tf.float32)
    parsed = tf.io.parse_example(tf.constant(records), layout)
    return {name: values.numpy() for name, values in parsed.items()}


def compare(
    ours: Ours, google: Google, settings: RecordSettings, seeds: int, folder: Path
) -> list[Row]:
    """Results for one kind of masking."""
    statistics: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    fractions: dict[str, list[float]] = {"ours": [], "theirs": []}
    continuation = ours.facts.continuation if settings.whole_word_mask else None
    for seed in range(seeds):
        for name, tool in (("ours", ours), ("theirs", google)):
            path = folder / f"{name}.tfrecord"
            tool.write(seed, settings, path)
            features = read_back(path)
            statistics[name].append(file_statistics(features, ours.facts.mask_id, LENGTH))
            fractions[name].append(
                fraction_with_expected_predictions(features, PROBABILITY, PREDICTIONS, continuation)
            )
    rows: list[Row] = []
    for name in statistics["ours"][0]:
        values = {side: [one[name] for one in found] for side, found in statistics.items()}
        means = {side: float(np.mean(each)) for side, each in values.items()}
        z = welch(values["ours"], values["theirs"])
        rows.append({"name": name, **means, "z": z, "passed": abs(z) < THRESHOLD})
    expected = {
        "name": "sequences with Google's number of predictions",
        "ours": min(fractions["ours"]),
        "theirs": min(fractions["theirs"]),
        "z": None,
        "passed": min(fractions["ours"]) == 1,
    }
    return [*rows, expected]


def write_slice(wikitext: Path, target: Path) -> None:
    """Writes the first megabyte of WikiText in Google's input format, an article per document."""
    articles = target.with_suffix(".articles")
    inputs.write_wikitext(wikitext, articles, 1)
    with target.open("wb") as file:
        for article in articles.read_text(encoding="utf-8").split("\n\n"):
            # Blank lines and spaces at line ends are not part of a sentence.
            lines = [line.strip() for line in split_sentences(article).splitlines()]
            sentences = "\n".join(filter(None, lines))
            file.write(format_document(sentences) if sentences else b"")


def main() -> None:
    parser = cli.make_parser("data.agreement", __doc__, required=["google", "wikitext", "vocab"])
    cli.add(parser, "--seeds", 30, "runs of each tool")
    options = cli.parse(parser)
    if options.seeds < 2:
        raise UserError(f"--seeds {options.seeds}: should be at least 2, to have a variance")
    results: dict[str, Any] = {}
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        text = Path(scratch) / "slice.txt"
        write_slice(options.wikitext, text)
        ours, google = Ours(options.vocab, text), Google(options.google, options.vocab, text)
        for name, whole_word in (("plain", False), ("whole word", True)):
            settings = RecordSettings(
                LENGTH, PREDICTIONS, PROBABILITY, dupe_factor=1, whole_word_mask=whole_word
            )
            rows = compare(ours, google, settings, options.seeds, Path(scratch))
            results[name] = {"settings": asdict(settings), "statistics": rows}
            print(f"{name}, {options.seeds} seeds, threshold |z| < {THRESHOLD:g}")
            print(table(rows) + "\n", flush=True)
    cli.save(options, google=revision(options.google), seeds=options.seeds, results=results)
    cli.exit_if_failed(row for result in results.values() for row in result["statistics"])


if __name__ == "__main__":
    cli.run_main(main)
