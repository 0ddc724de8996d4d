"""The files of a model directory besides config and weights: those of its tokenizer."""

import tempfile
from pathlib import Path

from lib.model.config import BertConfig
from lib.train.saving import digests
from lib.vocab.export import write_tokenizer
from lib.vocab.tokenizer import WordPieceTokenizer


def write_files(folder: Path, config: BertConfig, tokenizer: WordPieceTokenizer) -> None:
    """Writes the tokenizer of a model into its folder."""
    write_tokenizer(
        folder,
        tokenizer.vocabulary,
        tokenizer.lowercase,
        tokenizer.strip_accents,
        config.max_position_embeddings,
    )


def digests_of(config: BertConfig, tokenizer: WordPieceTokenizer) -> dict[str, str]:
    """Digests of the files that `write_files` writes."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), config, tokenizer)
        return digests.of_folder(Path(folder))
