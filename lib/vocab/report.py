"""How well a vocabulary fits a text: numbers for `dvc metrics`, a page for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.run.atomic import write_text
from lib.vocab.characters import BasicTokenizer
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer
from lib.vocab.wordpiece import CONTINUATION
from lib.vocab.words import WordCounts, by_frequency

_SHOWN = 50
_PLOTTED = 200


@dataclass(frozen=True)
class Fit:
    """A text as the vocabulary splits it.

    Attributes:
        metrics: numbers by name.
        counts: int64 [vocabulary size]: how often each piece is used.
        most_split: (word, count, pieces) of the words that cost the most tokens beyond one.
        unknown: (word, count) of the most frequent unknown words within the length limit.
    """

    metrics: dict[str, float]
    counts: np.ndarray
    most_split: list[tuple[str, int, list[str]]]
    unknown: list[tuple[str, int]]


def fit(tokenizer: WordPieceTokenizer, counted: WordCounts) -> Fit:
    """Splits each different word once.

    Fertility is tokens per word (Rust et al., 2021). Words over the tokenizer's length limit are
    always [UNK]; they are counted apart, as tokens but not among the unknown words.
    """
    counts = np.zeros(len(tokenizer.vocabulary), np.int64)
    words = tokens = whole = unknown = too_long = 0
    split_words: list[tuple[int, str, int, list[int]]] = []
    unknown_words: list[tuple[str, int]] = []
    for word, count in by_frequency(counted.words):
        words += count
        split = None
        if len(word) > tokenizer.max_word_length:
            too_long += count
        elif (split := tokenizer.wordpiece.split(word)) is None:
            unknown += count
            unknown_words.append((word, count))
        elif len(split) == 1:
            whole += count
        else:
            split_words.append((count * (len(split) - 1), word, count, split))
        split = split or [tokenizer.unk_id]
        tokens += count * len(split)
        for number in split:
            counts[number] += count
    split_words.sort(key=lambda item: -item[0])
    fitting = max(words - too_long, 1)
    return Fit(
        {
            "words": words,
            "distinct_words": len(counted.words),
            "tokens": tokens,
            "tokens_per_word": tokens / max(words, 1),
            "tokens_per_character": tokens / max(counted.characters, 1),
            "whole_word_fraction": whole / max(words, 1),
            "unknown_word_fraction": unknown / fitting,
            "unknown_token_fraction": (unknown + too_long) / max(tokens, 1),
            "words_too_long": too_long,
            "unused_tokens": int(np.count_nonzero(counts == 0)),
        },
        counts,
        [
            (word, count, [tokenizer.vocabulary[number] for number in split])
            for _, word, count, split in split_words[:_SHOWN]
        ],
        unknown_words[:_SHOWN],
    )


def unreachable(tokenizer: WordPieceTokenizer) -> list[str]:
    """Pieces that no text can give, because the basic tokenizer never emits their characters so.

    Capitals in a lower-casing vocabulary, say, or `##` before a character that is a word by itself.
    """
    basic = BasicTokenizer(tokenizer.lowercase, tokenizer.strip_accents)
    found = []
    for piece in tokenizer.vocabulary:
        if piece in SPECIAL_TOKENS or piece.startswith("[unused"):
            continue
        text = piece.removeprefix(CONTINUATION)
        word = f"a{text}" if text != piece else text
        if basic.words(word) != [word] or len(word) > tokenizer.max_word_length:
            found.append(piece)
    return found


def write_frequencies(path: Path, counts: np.ndarray) -> None:
    """Piece frequency by rank as CSV, at ranks evenly spread over a logarithmic axis.

    Both as decimal logarithms, because DVC's plots have linear axes.

    Args:
        counts: int64 [vocabulary size]: how often each piece is used.
    """
    used = np.sort(counts[counts > 0])[::-1]
    lines = ["log10_rank,log10_fraction\n"]
    for rank in np.unique(np.geomspace(1, len(used), _PLOTTED).astype(int)):
        lines.append(f"{np.log10(rank):.4f},{np.log10(used[rank - 1] / used.sum()):.4f}\n")
    write_text(path, "".join(lines))


def write_report(
    path: Path, tokenizer: WordPieceTokenizer, facts: Mapping[str, int], fits: Mapping[str, Fit]
) -> None:
    """The numbers, the most split words and the longest pieces as a page of Markdown."""
    names = list(fits)
    lines = ["# The vocabulary", ""]
    lines += [f"- {name.replace('_', ' ')}: {value:,}" for name, value in facts.items()]
    lines += [""]
    lines += _table(
        ["", *names],
        (
            [name.replace("_", " "), *(_number(fits[text].metrics[name]) for text in names)]
            for name in fits[names[0]].metrics
        ),
    )
    for text, result in fits.items():
        lines += ["", f"## Words that cost the most tokens, {text}", ""]
        lines += _table(
            ["word", "times", "pieces"],
            (
                [_code(word), f"{count:,}", _code(*split)]
                for word, count, split in result.most_split
            ),
        )
        if result.unknown:
            lines += ["", f"## Unknown words, {text}", ""]
            lines += _table(
                ["word", "times"], ([_code(word), f"{count:,}"] for word, count in result.unknown)
            )
    longest = sorted(
        tokenizer.vocabulary, key=lambda piece: (-len(piece.removeprefix(CONTINUATION)), piece)
    )
    lines += ["", "## The longest pieces", "", ", ".join(map(_code, longest[:_SHOWN])), ""]
    write_text(path, "\n".join(lines))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6f}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(heading)} |", "|" + " --- |" * len(heading), *body]


def _code(*pieces: str) -> str:
    """Pieces as Markdown code; a bar would end the table's cell, a backtick the code."""
    return " ".join(f"`` {piece} ``" if "`" in piece else f"`{piece}`" for piece in pieces).replace(
        "|", "\\|"
    )
