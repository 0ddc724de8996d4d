"""Small test text and vocabularies for the tests of evaluation."""

from pathlib import Path

import numpy as np

from lib.evaluation.metrics import MaskedWordScores, TokenCountCode, TokenScores
from lib.evaluation.sequences import MaskedWordBatch, MaskedWordSequences
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PROBABILITY, SEED = 0.15, 1


def make_tokenizer(*tokens: str, lowercase: bool = True) -> WordPieceTokenizer:
    """A vocabulary that can spell every word of a-z and digits, and has these tokens."""
    single = [*LETTERS, *(LETTERS.upper() if not lowercase else ""), *"0123456789.,"]
    spelling = [*single, *(f"##{one}" for one in single)]
    vocabulary = dict.fromkeys([*SPECIAL_TOKENS, *spelling, *tokens])
    return WordPieceTokenizer(list(vocabulary), lowercase, lowercase)


LARGE = make_tokenizer("The", "the", "bridge", "##ing", "river", "water", "##er", "stone")
SMALL = make_tokenizer(lowercase=False)
# Half of all words have one token, the others two (but for one word in a million).
COUNT_CODE = TokenCountCode(np.array([500_000, 500_000]))


def write_shard(folder: Path, documents: list[str], number: int = 0) -> Path:
    path = folder / f"{number:05}.txt"
    path.write_bytes("".join(f"{document}\n\n" for document in documents).encode())
    return path


def read_documents(shards: list[Path]) -> list[list[str]]:
    """The sentences of each document."""
    return [
        text.split("\n")
        for path in shards
        for text in path.read_text().removesuffix("\n\n").split("\n\n")
    ]


def all_batches(sequences: MaskedWordSequences, shards: list[Path]) -> list[MaskedWordBatch]:
    return list(sequences.batches(shards, 10**6))


def word_scores(batch: MaskedWordBatch, scores: TokenScores) -> MaskedWordScores:
    """Scores of a predictor that does not look at the text, such as the unigram baseline."""
    return batch.word_scores(scores, scores.losses, COUNT_CODE)
