"""Runs the inner functions of NVIDIA's LDDL over a file in Google's input format.

python bench/peers/nvidia_lddl.py CHECKOUT TEXT TOKENIZER MAX_SEQ_LENGTH DUPE_FACTOR

LDDL's own pipeline needs a Dask release of 2021. This runs the work within one partition: the
Hugging Face tokenizer that LDDL uses on each sentence, `create_pairs_from_document` with masking
for each document and pass, and the shuffle. Dask, NLTK and Parquet are replaced by empty modules,
and nothing is written, so that LDDL is measured without the time that these would take.
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
    # Before the empty modules exist: transformers checks whether the real ones are available.
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast.from_pretrained(tokenizer_folder)
    for name in _LEFT_OUT:
        sys.modules[name] = _Empty(name)
    sys.path.insert(0, checkout)
    pretrain = importlib.import_module("lddl.dask.bert.pretrain")

    documents = []
    for raw in Path(text).read_text(encoding="utf-8").split("\n\n"):
        # As in its _get_documents, with sentences that are already split.
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

    # As in its _get_pairs for a partition.
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
