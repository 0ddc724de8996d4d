"""The files of a model directory besides config and weights: those of its tokenizer."""

import tempfile
from pathlib import Path

from lib.model.encoder_config import EncoderConfig
from lib.train.saving import digests
from lib.vocab.tokenizer import Tokenizer


def write_files(folder: Path, config: EncoderConfig, tokenizer: Tokenizer) -> None:
    """Writes the tokenizer of a model into its folder."""
    tokenizer.write(folder, config.max_position_embeddings, config.has_next_sentence, listing=False)


def special_ids(config: EncoderConfig, tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of special tokens for config.json, under the keys of transformers."""
    return config.special_ids(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)


def digests_of(config: EncoderConfig, tokenizer: Tokenizer) -> dict[str, str]:
    """Digests of the files that `write_files` writes."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), config, tokenizer)
        return digests.of_folder(Path(folder))
