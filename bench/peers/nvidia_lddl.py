"""Runs the inner functions of NVIDIA's LDDL over a file in Google's input format.

python bench/peers/nvidia_lddl.py CHECKOUT TEXT TOKENIZER MAX_SEQ_LENGTH DUPE_FACTOR

Its own pipeline needs a Dask of 2021. Measured here is the work inside of one partition: each
sentence through the Hugging Face tokenizer that LDDL uses, `create_pairs_from_document` with its
masking for each document and pass, the shuffle. Dask, NLTK and Parquet are left out (there is an
empty module in their place), and nothing is written: all of that is time which LDDL is spared.
"""

import importlib
import random
import sys
from pathlib import Path
from types import ModuleType

_LEFT_OUT = (
    "dask",
    "dask.bag",
    "dask.distributed",
    "nltk",
    "pyarrow",
    "pyarrow.parquet",
    "lddl.dask.bert.binning",
    "lddl.dask.readers",
    "lddl.download.utils",
)


class _Empty(ModuleType):
    """A module in which every name is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def main(checkout: str, text: str, tokenizer_folder: str, length: str, dupe_factor: str) -> None:
    # Before the empty modules are there: transformers looks whether it can use the real ones.
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast.from_pretrained(tokenizer_folder)
    for name in _LEFT_OUT:
        sys.modules[name] = _Empty(name)
    sys.path.insert(0, checkout)
    pretrain = importlib.import_module("lddl.dask.bert.pretrain")

    documents = []
    for raw in Path(text).read_text(encoding="utf-8").split("\n\n"):
        # As its _get_documents does, with the sentences that are there already.
        sentences = (
            pretrain.Sentence(tuple(tokens))
            for tokens in (
                tokenizer.tokenize(line, max_length=512, truncation=True)
                for line in raw.splitlines()
            )
            if len(tokens) > 0
        )
        document = pretrain.Document(len(documents), tuple(sentences))
        if len(document):
            documents.append(document)

    # As its _get_pairs does for a partition.
    vocabulary = tuple(tokenizer.vocab.keys())
    random.seed(12345)
    pairs = []
    for _ in range(int(dupe_factor)):
        for index in range(len(documents)):
            pairs += pretrain.create_pairs_from_document(
                documents,
                index,
                max_seq_length=int(length),
                short_seq_prob=0.1,
                masking=True,
                masked_lm_ratio=0.15,
                vocab_words=vocabulary,
            )
    random.shuffle(pairs)
    print(f"{len(pairs)} pairs of {len(documents)} documents")


if __name__ == "__main__":
    main(*sys.argv[1:])
