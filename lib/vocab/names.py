"""Names of the files of a tokenizer."""

VOCABULARY, TOKENIZER, CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
ADDED, SPECIAL, MODEL_CONFIG = "added_tokens.json", "special_tokens_map.json", "config.json"
