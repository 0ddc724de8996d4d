"""Report on how well a vocabulary fits a text: metrics for DVC and a Markdown page."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.run.atomic import write_text
from lib.vocab.characters import BasicTokenizer
from lib.vocab.settings import MAX_WORD_LENGTH, SPECIAL_TOKENS
from lib.vocab.tokenizer import Tokenizer
from lib.vocab.wordpiece import CONTINUATION
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from lib.vocab.words import WordCounts, by_frequency

_READ_CHARACTERS = 1 << 20
_LIST_LENGTH = 50
_PLOT_POINTS = 200


@dataclass(frozen=True)
class VocabularyFit:
    """Statistics of a text split by a vocabulary.

    Attributes:
        metrics: numbers by name.
        counts: int64 [vocabulary size]: how often each token is used.
        words_by_tokens: int64 [K]: how many words have 1, 2, ... K tokens.
        most_split: (word, count, tokens) of the words that add the most tokens beyond one each.
        unknown: (word, count) of the most frequent unknown words within the length limit.
    """

    metrics: dict[str, float]
    counts: np.ndarray
    words_by_tokens: np.ndarray
    most_split: list[tuple[str, int, list[str]]]
    unknown: list[tuple[str, int]]


def count_tokens(tokenizer: Tokenizer, text: Path) -> np.ndarray:
    """int64 [vocabulary size]: how often a text of a sentence per line has each token."""
    counts = np.zeros(len(tokenizer.vocabulary), np.int64)
    with text.open(encoding="utf-8", newline="\n") as file:
        while lines := file.readlines(_READ_CHARACTERS):
            ids, _ = tokenizer.encode_lines("".join(lines))
            counts += np.bincount(ids, minlength=len(counts))
    return counts


def measure_fit(
    tokenizer: Tokenizer, counted: WordCounts, token_counts: np.ndarray | None = None
) -> VocabularyFit:
    """Measures a vocabulary on a text by splitting each distinct word once.

    `tokens_per_word` is what Rust et al. (2021) call fertility. Words over the tokenizer's length
    limit are always [UNK]; they are counted separately, as tokens but not as unknown words. The
    fraction of characters that [UNK] stands for has both.

    Args:
        token_counts: of the text, if that is not the sum over its words: tokens of other
            vocabularies than WordPiece depend on the spaces between words, or have several words.
    """
    counts = np.zeros(len(tokenizer.vocabulary), np.int64)
    words = tokens = whole = unknown = too_long = characters = unknown_characters = 0
    words_by_tokens: Counter[int] = Counter()
    split_words: list[tuple[int, str, int, list[int]]] = []
    unknown_words: list[tuple[str, int]] = []
    by_count = by_frequency(counted.words)
    splits = tokenizer.encode_words([word for word, _ in by_count])
    limit = tokenizer.max_word_length
    for (word, count), split in zip(by_count, splits, strict=True):
        words += count
        characters += count * len(word)
        if limit is not None and len(word) > limit:
            too_long += count
        elif tokenizer.unk_id in split:
            unknown += count
            unknown_words.append((word, count))
        elif len(split) == 1:
            whole += count
        elif split:
            split_words.append((count * (len(split) - 1), word, count, split))
        if tokenizer.unk_id in split:
            known = (token_id for token_id in split if token_id != tokenizer.unk_id)
            spelt = sum(len(tokenizer.text_of(tokenizer.vocabulary[each])) for each in known)
            unknown_characters += count * max(len(word) - spelt, 0)
        tokens += count * len(split)
        words_by_tokens[len(split)] += count
        for token_id in split:
            counts[token_id] += count
    if token_counts is not None:
        counts, tokens = token_counts, int(token_counts.sum())
    split_words.sort(key=lambda item: -item[0])
    words_within_limit = max(words - too_long, 1)
    return VocabularyFit(
        {
            "words": words,
            "distinct_words": len(counted.words),
            "tokens": tokens,
            "tokens_per_word": tokens / max(words, 1),
            "tokens_per_character": tokens / max(counted.characters, 1),
            "whole_word_fraction": whole / max(words, 1),
            "unknown_word_fraction": unknown / words_within_limit,
            "unknown_character_fraction": unknown_characters / max(characters, 1),
            "unknown_token_fraction": (unknown + too_long) / max(tokens, 1),
            "words_too_long": too_long,
            "unused_tokens": int(np.count_nonzero(counts == 0)),
        },
        counts,
        np.array([words_by_tokens[n] for n in range(1, max(words_by_tokens, default=0) + 1)], int),
        [
            (word, count, [tokenizer.vocabulary[token_id] for token_id in split])
            for _, word, count, split in split_words[:_LIST_LENGTH]
        ],
        unknown_words[:_LIST_LENGTH],
    )


def unreachable_tokens(tokenizer: WordPieceTokenizer) -> list[str]:
    """Tokens that no text can produce, because the basic tokenizer never emits such words.

    Examples are capitals in a lower-casing vocabulary, and `##.`, since a full stop is always a
    word by itself.
    """
    basic = BasicTokenizer(tokenizer.lowercase, tokenizer.strip_accents)
    found = []
    for token in tokenizer.vocabulary:
        if token in (*SPECIAL_TOKENS, *tokenizer.zero_width) or token.startswith("[unused"):
            continue
        text = token.removeprefix(CONTINUATION)
        word = f"a{text}" if text != token else text
        if basic.words(word) != [word] or len(word) > MAX_WORD_LENGTH:
            found.append(token)
    return found


def write_frequencies(path: Path, counts: np.ndarray) -> None:
    """Writes token frequency by rank as CSV, at ranks evenly spaced on a logarithmic axis.

    Both columns are decimal logarithms, because DVC's plots have linear axes.

    Args:
        counts: int64 [vocabulary size]: how often each token is used.
    """
    used = np.sort(counts[counts > 0])[::-1]
    lines = ["log10_rank,log10_fraction\n"]
    for rank in np.unique(np.geomspace(1, len(used), _PLOT_POINTS).astype(int)):
        lines.append(f"{np.log10(rank):.4f},{np.log10(used[rank - 1] / used.sum()):.4f}\n")
    write_text(path, "".join(lines))


def write_report(
    path: Path,
    tokenizer: Tokenizer,
    facts: Mapping[str, int],
    fits: Mapping[str, VocabularyFit],
) -> None:
    """Writes the Markdown page: metrics, most split words, unknown words, longest tokens.

    Args:
        facts: numbers that belong to the vocabulary itself.
        fits: name of a text -> the vocabulary's fit to it.
    """
    names = list(fits)
    lines = ["# Vocabulary", ""]
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
        lines += ["", f"## Most split words, {text}", ""]
        lines += _table(
            ["word", "count", "tokens"],
            (
                [_code(word), f"{count:,}", _code(*split)]
                for word, count, split in result.most_split
            ),
        )
        if result.unknown:
            lines += ["", f"## Unknown words, {text}", ""]
            lines += _table(
                ["word", "count"], ([_code(word), f"{count:,}"] for word, count in result.unknown)
            )
    longest = sorted(
        tokenizer.vocabulary, key=lambda token: (-len(tokenizer.text_of(token)), token)
    )
    lines += ["", "## Longest tokens", "", ", ".join(map(_code, longest[:_LIST_LENGTH])), ""]
    write_text(path, "\n".join(lines))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6f}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(heading)} |", "|" + " --- |" * len(heading), *body]


def _code(*tokens: str) -> str:
    """Tokens as Markdown code spans, with `|` escaped and backticks in double-backtick spans."""
    return " ".join(f"`` {token} ``" if "`" in token else f"`{token}`" for token in tokens).replace(
        "|", "\\|"
    )
