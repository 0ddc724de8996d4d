"""Our records against Google's script: the same text, many seeds, the same statistics.

All runs are in this one process, for speed: Google's functions (from a checkout) with the random
generator that its main() makes of a seed, each line tokenised once for all seeds; our
`write_shard` with the seed. Both write TFRecords, which tf.io.parse_example reads back.
"""

import argparse
import importlib
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import inputs
from bench.common.report import machine, revision, table, write_json
from bench.data.statistics import agreement, file_statistics, rows_as_the_formula
from bench.peers import google_bert
from lib.records.masking import VocabularyFacts
from lib.records.shard import RecordSettings, write_shard
from lib.records.tokens import Tokens, read_tokens
from lib.run.errors import UserError
from lib.text.cleaning.sentences import split_sentences
from lib.text.documents import format_document
from lib.vocab.tokenizer import WordPieceTokenizer

BAR = 4.0  # of |z|
_COLUMNS = {"name": "", "ours": "ours", "theirs": "Google", "z": "z", "passed": "passed"}
LENGTH, PREDICTIONS, PROBABILITY = 128, 20, 0.15


class Google:
    """Functions of the checkout's create_pretraining_data.py, over one text."""

    def __init__(self, checkout: Path, vocabulary: Path, text: Path) -> None:
        google_bert.install(checkout)
        self._script: Any = importlib.import_module("create_pretraining_data")
        tokenization: Any = importlib.import_module("tokenization")
        tokenization_of = tokenization.FullTokenizer(str(vocabulary), do_lower_case=True)
        known: dict[str, list[str]] = {}
        tokenize = tokenization_of.tokenize

        def tokenize_once(line: str) -> list[str]:
            if line not in known:
                known[line] = tokenize(line)
            return known[line]

        tokenization_of.tokenize = tokenize_once
        self._tokenizer, self._text = tokenization_of, text

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
    """`write_shard` over the same text."""

    def __init__(self, vocabulary: Path, text: Path) -> None:
        pieces = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        tokenizer = WordPieceTokenizer(pieces, lowercase=True, strip_accents=True)
        self.facts = VocabularyFacts.from_tokenizer(tokenizer)
        self._tokens: Tokens = read_tokens(text, tokenizer.encode_lines)

    def write(self, seed: int, settings: RecordSettings, target: Path) -> None:
        write_shard(target, self._tokens, settings, self.facts, seed, 0)


def read_back(path: Path) -> dict[str, np.ndarray]:
    """All records of a file by tf.io.parse_example, as matrices [rows, values]."""
    import tensorflow as tf

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
) -> list[dict[str, Any]]:
    """The table for one way of masking."""
    statistics: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    shares: dict[str, list[float]] = {"ours": [], "theirs": []}
    continuation = ours.facts.continuation if settings.whole_word_mask else None
    for seed in range(seeds):
        for name, tool in (("ours", ours), ("theirs", google)):
            path = folder / f"{name}.tfrecord"
            tool.write(seed, settings, path)
            features = read_back(path)
            statistics[name].append(file_statistics(features, ours.facts.mask_id, LENGTH))
            shares[name].append(
                rows_as_the_formula(features, PROBABILITY, PREDICTIONS, continuation)
            )
    rows = agreement(statistics["ours"], statistics["theirs"], BAR)
    formula = {
        "name": "rows with the formula's predictions",
        "ours": min(shares["ours"]),
        "theirs": min(shares["theirs"]),
        "z": None,
        "passed": min(shares["ours"]) == 1,
    }
    return [*rows, formula]


def slice_of(wikitext: Path, target: Path) -> None:
    """The first megabyte of WikiText in Google's input format, an article a document."""
    articles = target.with_suffix(".articles")
    inputs.wikitext_documents(wikitext, articles, 1)
    with target.open("wb") as file:
        for article in articles.read_text(encoding="utf-8").split("\n\n"):
            # Possible blank lines and spaces at line ends are none of a sentence.
            lines = [line.strip() for line in split_sentences(article).splitlines()]
            sentences = "\n".join(filter(None, lines))
            file.write(format_document(sentences) if sentences else b"")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.data.agreement", description=__doc__)
    parser.add_argument("--google", type=Path, required=True, help="checkout of its repository")
    parser.add_argument("--wikitext", type=Path, required=True, help="train file of WikiText-2")
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt of bert-base-uncased")
    parser.add_argument("--seeds", type=int, default=30, help="runs of each (default 30)")
    parser.add_argument("--dupe-factor", type=int, default=1, help="passes of a run (default 1)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    try:
        for name, path in (
            ("google", options.google / "create_pretraining_data.py"),
            ("wikitext", options.wikitext),
            ("vocab", options.vocab),
        ):
            if not path.is_file():
                raise UserError(f"--{name}: no file {path}")
        if options.seeds < 2:
            raise UserError("--seeds: should be at least 2, for there to be a variance")
        results = {}
        with tempfile.TemporaryDirectory() as scratch:
            text = Path(scratch) / "slice.txt"
            slice_of(options.wikitext, text)
            ours = Ours(options.vocab, text)
            google = Google(options.google.absolute(), options.vocab, text)
            for name, whole_word in (("plain", False), ("whole word", True)):
                settings = RecordSettings(
                    LENGTH,
                    PREDICTIONS,
                    PROBABILITY,
                    dupe_factor=options.dupe_factor,
                    whole_word_mask=whole_word,
                )
                rows = compare(ours, google, settings, options.seeds, Path(scratch))
                results[name] = {"settings": asdict(settings), "statistics": rows}
                print(f"{name}, {options.seeds} seeds, bar |z| < {BAR:g}")
                print(table(rows, _COLUMNS) + "\n", flush=True)
    except UserError as error:
        sys.exit(f"agreement: error: {error}")
    if options.out:
        facts = {"google": revision(options.google), "machine": machine(["numpy", "tensorflow"])}
        write_json(options.out, {**facts, "seeds": options.seeds, "results": results})
    if not all(row["passed"] for one in results.values() for row in one["statistics"]):
        sys.exit("agreement: a bar is missed")


if __name__ == "__main__":
    main()
