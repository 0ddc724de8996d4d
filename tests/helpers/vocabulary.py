"""Vocabularies from word counts, and WordPiece written out as its definition reads."""

from collections import Counter
from collections.abc import Mapping

from lib.vocab.characters import BasicTokenizer
from lib.vocab.sources import from_sentencepiece

UNCASED, CASED = BasicTokenizer(True, True), BasicTokenizer(False, False)


def basic_tokenizer(language: str) -> BasicTokenizer:
    """The settings that suit one of the synthetic languages."""
    return UNCASED if language in ("english", "tweets") else CASED


def make_vocabulary(
    basic: BasicTokenizer,
    words: Mapping[str, int],
    size: int,
    algorithm: str = "bpe",
    trained: Mapping[str, int] | None = None,
    coverage: float = 1.0,
) -> list[str]:
    """`from_sentencepiece` with defaults: trained on all words, and all characters covered."""
    return from_sentencepiece(words, trained or words, basic, algorithm, size, coverage, 64)[0]


def word_counts(text: str, basic: BasicTokenizer) -> Counter[str]:
    return Counter(word for line in text.split("\n") for word in basic.words(line))


def greedy_split(word: str, vocabulary: set[str]) -> list[str]:
    """WordPiece by its definition: the longest token first, then the longest continuation."""
    tokens: list[str] = []
    while word:
        prefix = "##" if tokens else ""
        matches = [end for end in range(1, len(word) + 1) if prefix + word[:end] in vocabulary]
        if not matches:
            return ["[UNK]"]
        tokens.append(prefix + word[: max(matches)])
        word = word[max(matches) :]
    return tokens
