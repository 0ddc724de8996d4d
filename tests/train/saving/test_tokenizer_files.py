"""The tokenizer in a model's folder gives the ids of the one that it was trained with."""

import json
from dataclasses import replace

from lib.train.saving.tokenizer_files import write_files
from lib.vocab.loading import load_tokenizer
from lib.vocab.settings import SPECIAL_TOKENS, ZERO_WIDTH
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from tests.helpers.tiny_bert import TINY


def test_tokens_for_zero_width_characters_are_in_the_folder_of_the_model(tmp_path):
    vocabulary = [*SPECIAL_TOKENS, *ZERO_WIDTH, "می", "##خواهم", "خواهم"]
    config = replace(TINY, vocab_size=len(vocabulary), max_position_embeddings=64)
    trained = WordPieceTokenizer(vocabulary, False, False, zero_width=ZERO_WIDTH)
    write_files(tmp_path, config, trained)
    loaded = load_tokenizer(tmp_path)
    for text in ("می\u200cخواهم", "می خواهم", "میخواهم", "\u200b می"):
        assert loaded.encode(text) == trained.encode(text)
    assert loaded.zero_width == ZERO_WIDTH
    config_file = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config_file["model_max_length"] == 64
