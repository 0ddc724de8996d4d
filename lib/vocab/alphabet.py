"""The characters of a vocabulary, closed: every word of them can be spelt."""

from collections import Counter
from collections.abc import Iterable, Mapping

from lib.vocab.characters import BasicTokenizer
from lib.vocab.wordpiece import CONTINUATION
from lib.vocab.words import by_frequency


def count_characters(words: Mapping[str, int], max_word_length: int) -> dict[str, int]:
    """How often each character occurs in the words that are not longer than that."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        if len(word) <= max_word_length:
            for character in word:
                counts[character] += count
    return dict(by_frequency(counts))


def covered(characters: Mapping[str, int], coverage: float) -> dict[str, int]:
    """The most frequent characters that together make up `coverage` of the text (as SentencePiece
    chooses them).

    Args:
        characters: counts, most frequent first.
    """
    if coverage == 1:
        return dict(characters)
    wanted = coverage * sum(characters.values())
    kept, total = {}, 0
    for character, count in characters.items():
        if total >= wanted:
            break
        kept[character] = count
        total += count
    return kept


def closed_alphabet(characters: Iterable[str], basic: BasicTokenizer) -> list[str]:
    """Rows that let every word of these characters be spelt, in their order.

    `c` and `##c` for each character; only `c` for one that the basic tokenizer always isolates
    (punctuation, CJK), which therefore never continues a word.
    """
    rows = []
    for character in characters:
        rows.append(character)
        if len(basic.words(f"a{character}a")) == 1:
            rows.append(CONTINUATION + character)
    return rows
