"""Labelled examples that a tiny model can learn, with the tasks, tokenizer and config for it."""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path

from lib.model.bert_config import BertConfig
from lib.params import ProbeTask
from lib.probe.labelled import Example
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer

CLASSIFICATION = ProbeTask(
    kind="classification",
    data="data/labelled",
    text_field="text",
    label_field="label",
    model="models/main",
    baseline="data/vocab",
    epochs=6,
    batch_size=8,
    learning_rate=1e-2,
    max_seq_length=16,
    seeds=2,
)
TAGGING = CLASSIFICATION.model_copy(update={"kind": "tagging", "text_field": 1, "label_field": -1})

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORDS = ["red", "blue", "green", "big", "small", "house", "tree", "izmir", "ankara", "in", "the"]
TOKENIZER = WordPieceTokenizer(
    list(
        dict.fromkeys(
            [*SPECIAL_TOKENS, *_WORDS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
        )
    ),
    lowercase=True,
    strip_accents=True,
)
CONFIG = BertConfig(
    vocab_size=len(TOKENIZER.vocabulary),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_act="gelu",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=16,
    initializer_range=0.1,
)


def learnable_examples(kind: str, count: int, seed: int) -> list[Example]:
    """Sentences about coloured things: the colour is the class; colours and towns have tags."""
    draw, examples = random.Random(seed), []
    for _ in range(count):
        colour, town = draw.choice(["red", "blue", "green"]), draw.choice(["izmir", "ankara"])
        words = ["the", draw.choice(["big", "small"]), colour, draw.choice(["house", "tree"])]
        words = [*words, "in", town] if draw.random() < 0.7 else words
        if kind == "classification":
            examples.append(Example((" ".join(words),), (colour,)))
        else:
            tags = tuple("B-LOC" if w == town else "B-COL" if w == colour else "O" for w in words)
            examples.append(Example(tuple(words), tags))
    return examples


def delimited(texts: Sequence[tuple[str, str]], delimiter: str) -> str:
    """(text, label) pairs as CSV or TSV, with a column before them that is not used."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["number", "text", "label"])
    writer.writerows([number, *row] for number, row in enumerate(texts))
    return buffer.getvalue()


def write_texts(path: Path, texts: Sequence[tuple[str, str]]) -> None:
    """Writes (text, label) pairs as a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(delimited(texts, ","), encoding="utf-8")
