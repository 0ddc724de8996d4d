"""Trains a WordPiece vocabulary with Hugging Face's tokenizers.

python bench/peers/hugging_face_wordpiece.py TEXT SIZE uncased|cased VOCAB_TXT
"""

import sys
from pathlib import Path

from tokenizers.implementations import BertWordPieceTokenizer


def main(text: str, size: str, case: str, target: str) -> None:
    uncased = case == "uncased"
    tokenizer = BertWordPieceTokenizer(lowercase=uncased, strip_accents=uncased)
    # With its default limit of 1,000 characters, most Chinese characters would be unknown.
    tokenizer.train(text, vocab_size=int(size), limit_alphabet=int(size), show_progress=False)
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    Path(target).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
