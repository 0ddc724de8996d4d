"""Sources of a vocabulary: SentencePiece, single characters, a vocab.txt, a model directory."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from lib.run.errors import UserError
from lib.vocab.alphabet import closed_alphabet, count_characters, most_frequent_characters
from lib.vocab.characters import BasicTokenizer
from lib.vocab.directory import TokenizerFiles, read_directory, read_vocabulary
from lib.vocab.loading import make_tokenizer
from lib.vocab.names import TOKENIZER
from lib.vocab.selection import CANDIDATE_RATIO, select_tokens
from lib.vocab.settings import MAX_WORD_LENGTH, SPECIAL_TOKENS
from lib.vocab.tokenizer import Tokenizer
from lib.vocab.training import train_sentencepiece, wordpiece_tokens
from lib.vocab.wordpiece import CONTINUATION

_MULTIPLE = 8


def from_sentencepiece(
    words: Mapping[str, int],
    trained: Mapping[str, int],
    basic: BasicTokenizer,
    algorithm: str,
    size: int,
    character_coverage: float,
    max_token_length: int,
    zero_width: tuple[str, ...] = (),
) -> tuple[list[str], bytes | None]:
    """A vocabulary of the special tokens, the closed alphabet and the best SentencePiece tokens.

    Converting SentencePiece's pieces alone leaves gaps: a letter seen only inside words gets no
    entry for the start of a word, and every word that needs one becomes [UNK]. Here the whole
    alphabet comes first, in both forms. For the words {low: 5, lower: 2}:

        special tokens    [PAD] [UNK] [CLS] [SEP] [MASK]
        alphabet          l ##l o ##o w ##w e ##e r ##r
        longer tokens     ##lo ##low low ##er lower ..., as many as `size` allows

    Args:
        words: counts of all words of the sample; the alphabet covers them.
        trained: counts of the words that SentencePiece is trained on.
        size: target size. A sample with too few tokens gives a smaller vocabulary.
        zero_width: zero-width characters that are tokens by themselves, after the special tokens.

    Returns:
        The vocabulary and the serialized SentencePiece model, or None for the model if no word has
        more than one character.

    Raises:
        UserError: `size` cannot hold the special tokens and the alphabet.
    """
    characters = count_characters(words, zero_width)
    covered = most_frequent_characters(characters, character_coverage)
    alphabet = closed_alphabet(covered, basic)
    fixed = [*SPECIAL_TOKENS, *zero_width, *alphabet]
    remaining = size - len(fixed)
    if remaining < 0:
        raise UserError(
            f"vocab.size: {size} cannot hold the {len(covered)} characters of the "
            f"sample; set at least {size - remaining}, or lower vocab.character_coverage"
        )
    usable = {
        word: count
        for word, count in trained.items()
        if 1 < len(word) <= MAX_WORD_LENGTH and covered.keys() >= set(word)
    }
    if not usable:
        return pad_vocabulary(fixed, size), None
    model = train_sentencepiece(usable, algorithm, int(size * CANDIDATE_RATIO), max_token_length)
    # The alphabet has the single characters already, in the forms that can occur.
    candidates = [
        token
        for token in dict.fromkeys(wordpiece_tokens(model))
        if len(token.removeprefix(CONTINUATION)) > 1
    ]
    tokens = select_tokens(candidates, alphabet, usable, remaining)
    return pad_vocabulary([*fixed, *tokens], size), model


def from_characters(
    words: Mapping[str, int],
    basic: BasicTokenizer,
    size: int,
    min_frequency: int,
    zero_width: tuple[str, ...] = (),
) -> list[str]:
    """A vocabulary of the single characters that occur at least `min_frequency` times.

    Raises:
        UserError: they are more than `size` can hold.
    """
    characters = count_characters(words, zero_width)
    frequent = [character for character, count in characters.items() if count >= min_frequency]
    vocabulary = [*SPECIAL_TOKENS, *zero_width, *closed_alphabet(frequent, basic)]
    if len(vocabulary) > size:
        raise UserError(
            f"vocab.size: {size} cannot hold the {len(frequent)} characters that occur at least "
            f"{min_frequency} times; set at least {len(vocabulary)}, or raise vocab.min_frequency"
        )
    return pad_vocabulary(vocabulary, size)


def existing_tokenizer(source: str, base: Path, basic: BasicTokenizer) -> Tokenizer:
    """The tokenizer of a file (source `file`) or of a model directory (other sources).

    The file is a vocab.txt, or a tokenizer.json with tokenizer_config.json beside it.

    Raises:
        UserError: the vocabulary is missing or lacks a special token, or the model's settings
            differ from those of `basic`.
    """
    if source == "file" and base.name == TOKENIZER:
        files = read_directory(base.parent)
    elif source == "file":
        files = TokenizerFiles(base, read_vocabulary(base), None, None)
    else:
        files = read_directory(base)
    if conflict := files.conflict(basic.lowercase, basic.strip_accents):
        name, given, stated = conflict
        raise UserError(
            f"vocab.{name}: {given}, but the tokenizer of {base} has {stated}; set {stated}"
        )
    return make_tokenizer(files, basic.lowercase, basic.strip_accents)


def pad_vocabulary(tokens: Iterable[str], size: int) -> list[str]:
    """The tokens, padded with `[unusedN]` to a multiple of 8 entries, but to at most `size`.

    Matrix products with an embedding table of such a height are faster. Padding to the full `size`
    would slow training down with entries that nothing uses.
    """
    vocabulary = list(tokens)
    padded_size = min(size, -(-len(vocabulary) // _MULTIPLE) * _MULTIPLE)
    return vocabulary + [f"[unused{number}]" for number in range(padded_size - len(vocabulary))]
