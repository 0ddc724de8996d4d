"""How well a vocabulary fits a text, in numbers."""

from pathlib import Path

import numpy as np

from lib.vocab.tokenizer import WordPieceTokenizer

_CHUNK_CHARACTERS = 1 << 20


def count_pieces(tokenizer: WordPieceTokenizer, text: Path) -> np.ndarray:
    """How often each piece is used in a file: int64 [vocabulary size]."""
    counts = np.zeros(len(tokenizer.vocabulary), np.int64)
    with text.open(encoding="utf-8", newline="\n") as stream:
        while chunk := "".join(stream.readlines(_CHUNK_CHARACTERS)):
            ids, _ = tokenizer.encode_lines(chunk)
            counts += np.bincount(ids, minlength=len(counts))
    return counts


def fit(tokenizer: WordPieceTokenizer, counts: np.ndarray, text: Path) -> dict[str, float]:
    """Fertility (tokens per word), tokens per character and the share of unknown words.

    Args:
        counts: int64 [vocabulary size], as `count_pieces` gives for the same text.
    """
    tokens = int(counts.sum())
    # Every word gives exactly one piece that does not continue another.
    words = int(counts[~tokenizer.continuation].sum())
    with text.open(encoding="utf-8", newline="\n") as stream:
        characters = sum(map(len, stream))
    return {
        "words": words,
        "tokens": tokens,
        "tokens_per_word": tokens / max(words, 1),
        "tokens_per_character": tokens / max(characters, 1),
        "unknown_word_share": float(counts[tokenizer.unk_id]) / max(words, 1),
    }
