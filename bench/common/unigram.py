"""A Unigram tokenizer, as other tools train one: a tokenizer.json that our pipeline reads."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lib.vocab.library_files import LibraryFiles

_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")


def train_unigram(sample: Path, size: int, uncased: bool = False) -> LibraryFiles:
    """Trains `size` tokens with the library; bytes spell what has no token.

    Args:
        sample: text, a sentence per line.
        uncased: lower-case, and without accents.
    """
    tokenizer = Tokenizer(models.Unigram())
    folding = [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    steps = [*(folding if uncased else []), normalizers.NFKC()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    singles = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=[*_SPECIAL, *singles],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train([str(sample)], trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    content["model"]["byte_fallback"] = True
    content["added_tokens"] = content["added_tokens"][: len(_SPECIAL)]
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), _SPECIAL, strict=True))
    return LibraryFiles(content, names)
