"""Byte-level BPE (Radford et al., 2019), trained on the sample by the library `tokenizers`.

The alphabet is the 256 bytes, so that every text has a spelling and nothing is unknown. Text is
normalized to NFC, and words are separated by GPT-2's pattern, as in ModernBERT's tokenizer.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.vocab.library_files import SPECIAL_NAMES, LibraryFiles, vocabulary_of
from lib.vocab.settings import SPECIAL_TOKENS

_BYTES = 256
# Pairs that occur once are not worth a token: they are as likely to be a typing error.
_MIN_FREQUENCY = 2


def train_byte_bpe(
    sample: Path,
    size: int,
    lowercase: bool,
    strip_accents: bool,
    max_token_length: int,
    max_sentence_length: int | None,
) -> tuple[LibraryFiles, list[str]]:
    """Trains a vocabulary of `size` tokens, or of fewer if the sample has not enough.

    The result depends on the text and the arguments only, not on the number of threads: pairs that
    occur equally often are merged in the order of their ids, and the ids of the bytes are fixed.

    Args:
        sample: a sentence per line.
        max_token_length: in bytes.
        max_sentence_length: in characters; longer lines are left out. None: no limit.

    Raises:
        UserError: `size` cannot hold the bytes and the special tokens.
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    smallest = _BYTES + len(SPECIAL_TOKENS)
    if size < smallest:
        raise UserError(
            f"vocab.size: {size} cannot hold the {_BYTES} bytes and {len(SPECIAL_TOKENS)} special "
            f"tokens; set at least {smallest}"
        )
    tokenizer = tokenizers.Tokenizer(models.BPE())
    steps: list[Any] = [normalizers.NFC()]
    if strip_accents:
        steps = [normalizers.NFD(), normalizers.StripAccents(), *steps]
    if lowercase:
        steps = [normalizers.Lowercase(), *steps]
    tokenizer.normalizer = steps[0] if len(steps) == 1 else normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # A mask takes the place of a word and of the space before it.
    special = [
        tokenizers.AddedToken(token, special=True, normalized=False, lstrip=token == "[MASK]")
        for token in SPECIAL_TOKENS
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=max_token_length,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(sample, max_sentence_length), trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ids
    )
    names = dict(zip(SPECIAL_NAMES, SPECIAL_TOKENS, strict=True))
    files = LibraryFiles(json.loads(tokenizer.to_str()), names)
    return files, vocabulary_of(sample, files.content)


def _lines(sample: Path, max_length: int | None) -> Iterator[str]:
    with sample.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            text = line.removesuffix("\n")
            if max_length is None or len(text) <= max_length:
                yield text
