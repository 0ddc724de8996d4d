"""The alphabet of a vocabulary, closed: it can spell every word made of its characters."""

from collections import Counter
from collections.abc import Iterable, Mapping

from lib.vocab.characters import BasicTokenizer
from lib.vocab.settings import MAX_WORD_LENGTH
from lib.vocab.wordpiece import CONTINUATION
from lib.vocab.words import by_frequency


def count_characters(words: Mapping[str, int], left_out: tuple[str, ...] = ()) -> dict[str, int]:
    """Character counts, most frequent first, over words that are not too long for a tokenizer."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        if len(word) <= MAX_WORD_LENGTH and word not in left_out:
            for character in word:
                counts[character] += count
    return dict(by_frequency(counts))


def most_frequent_characters(characters: Mapping[str, int], coverage: float) -> dict[str, int]:
    """The most frequent characters that together make up a fraction `coverage` of the text.

    SentencePiece chooses them in the same way. With the counts {e: 900, a: 90, z: 9, q: 1}, a
    coverage of 0.99 keeps e and a.

    Args:
        characters: counts, most frequent first.
    """
    if coverage == 1:
        return dict(characters)
    target = coverage * sum(characters.values())
    kept, total = {}, 0
    for character, count in characters.items():
        if total >= target:
            break
        kept[character] = count
        total += count
    return kept


def closed_alphabet(characters: Iterable[str], basic: BasicTokenizer) -> list[str]:
    """The entries that spell every word made of `characters`, in the order of the characters.

    A character gets both its forms, `c` to begin a word and `##c` to continue one. Characters that
    the basic tokenizer always isolates (punctuation, ideographs) never continue a word and get `c`
    only:

        "aş.中" -> a, ##a, ş, ##ş, ., 中
    """
    entries = []
    for character in characters:
        entries.append(character)
        if len(basic.words(f"a{character}a")) == 1:
            entries.append(CONTINUATION + character)
    return entries
