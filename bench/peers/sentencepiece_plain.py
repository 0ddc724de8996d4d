"""Trains SentencePiece on a file of sentences, as in its documentation.

python bench/peers/sentencepiece_plain.py TEXT SIZE bpe|unigram MODEL
"""

import sys

import sentencepiece


def main(text: str, size: str, algorithm: str, target: str) -> None:
    sentencepiece.SentencePieceTrainer.train(
        input=text,
        model_prefix=target,
        model_type=algorithm,
        vocab_size=int(size),
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",  # lower-cases, as our runs do
        hard_vocab_limit=False,
        num_threads=4,
        minloglevel=2,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
