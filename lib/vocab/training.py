"""SentencePiece training on exactly the words that BERT's basic tokenizer emits."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import sentencepiece

from lib.run.errors import UserError
from lib.vocab.characters import BasicTokenizer

# Unigram training gives other pieces with another number of threads, so it is fixed.
_THREADS = 4
# SentencePiece drops longer sentences silently; ours are cut between words well before that.
_SENTENCE_BYTES = 1 << 16
_SENTENCE_CHARACTERS = 8192
# Its default of 16 characters would forbid long words of agglutinating languages.
_PIECE_CHARACTERS = 64


def _sentences(sample: Path, basic: BasicTokenizer, alphabet: Counter[str]) -> Iterator[str]:
    """Lines of words with one space between them; counts the characters of the words."""
    with sample.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            words = basic.words(line)
            if not words:
                continue
            text = " ".join(words)
            alphabet.update(text)
            while len(text) > _SENTENCE_CHARACTERS:
                cut = text.rfind(" ", 0, _SENTENCE_CHARACTERS)
                cut = _SENTENCE_CHARACTERS if cut <= 0 else cut
                yield text[:cut]
                text = text[cut:].lstrip(" ")
            yield text


def train_sentencepiece(
    sample: Path, basic: BasicTokenizer, algorithm: str, size: int, character_coverage: float
) -> tuple[bytes, Counter[str]]:
    """Trains a model of at most `size` pieces.

    The text is normalised by the tokenizer that will later use the pieces, and not by
    SentencePiece: where the two differ, words become [UNK].

    Returns:
        The serialised SentencePiece model, and the count of each character in the words.

    Raises:
        UserError: the sample has no words, or SentencePiece refuses the settings.
    """
    alphabet: Counter[str] = Counter()
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(sample, basic, alphabet),
            model_writer=model,
            model_type=algorithm,
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=character_coverage,
            num_threads=_THREADS,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentencepiece_length=_PIECE_CHARACTERS,
            max_sentence_length=_SENTENCE_BYTES,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as failure:
        if not alphabet:
            raise UserError(
                f"{sample}: no words to train a vocabulary on; give more text"
            ) from None
        smallest = re.search(r"smaller than required_chars. \d+ vs (\d+)", str(failure))
        if smallest:
            raise UserError(
                f"vocab.size: {size} is too small for the {len(alphabet)} different characters of "
                f"{sample}; set at least {smallest_size(alphabet, basic)}"
            ) from None
        raise UserError(f"vocab: SentencePiece cannot train on {sample}: {failure}") from None
    del alphabet[" "]
    return model.getvalue(), alphabet


def closed_alphabet(alphabet: Counter[str], basic: BasicTokenizer) -> list[str]:
    """Rows that let every word of these characters be spelt, most frequent characters first.

    `c` and `##c` for each character; only `c` for one that the basic tokenizer always isolates
    (punctuation, CJK), which therefore never continues a word.
    """
    rows = []
    for character, _ in sorted(alphabet.items(), key=lambda item: (-item[1], item[0])):
        rows.append(character)
        if len(basic.words(f"a{character}a")) == 1:
            rows.append(f"##{character}")
    return rows


def smallest_size(alphabet: Counter[str], basic: BasicTokenizer) -> int:
    """The fewest rows that hold the special tokens and the closed alphabet."""
    characters = Counter(
        {character: count for character, count in alphabet.items() if character != " "}
    )
    return 5 + len(closed_alphabet(characters, basic))
