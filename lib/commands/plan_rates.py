"""What `lib.commands.plan` reckons with: rates that were measured, peaks that makers state.

How and on what each was measured stands in docs/planning.md.
"""

from dataclasses import dataclass

GB, MIB = 1e9, 2**20


@dataclass(frozen=True)
class Text:
    """Text of one kind. MB are 10^6 bytes of raw text, seconds those of one core's time.

    Attributes:
        preprocess, sample, split: seconds a MB.
        tokenize: seconds a MB of the stage records, made once.
        copy: seconds a MB of the stage records for each copy.
        corpus: bytes of data/corpus for a byte of raw text; kept: of .scratch/maps.
        tokens: tokens of one copy's examples for a byte of raw text.
        example: mean tokens of an example, where rows are as long as that or longer.
        fill: share of a row that is no padding, where rows are shorter than that.
        sentence: bytes of a sentence of the corpus.
    """

    preprocess: float
    sample: float
    split: float
    tokenize: float
    copy: float
    corpus: float
    kept: float
    tokens: float
    example: float
    fill: float
    sentence: float


TEXTS = {
    "articles": Text(
        preprocess=0.100,
        sample=0.025,
        split=0.065,
        tokenize=0.188,
        copy=0.052,
        corpus=1.00,
        kept=1.02,
        tokens=0.288,
        example=350,
        fill=0.78,
        sentence=103,
    ),
    "tweets": Text(
        preprocess=0.214,
        sample=0.055,
        split=0.103,
        tokenize=0.314,
        copy=0.170,
        corpus=1.03,
        kept=1.35,
        tokens=0.515,
        example=36,
        fill=0.78,
        sentence=57,
    ),
}
PACKED_FILL = 0.99  # of a packed row
# Bytes of a row: names and frames; for a cell; for a token's id above that; for a masked position.
# Packed rows have more features, some of them for each example.
ROW, CELL, TOKEN, PREDICTION = 200.0, 3.0, 1.0, 7.0
PACKED_ROW, PACKED_CELL, EXAMPLE = 250.0, 4.0, 6.0
GZIP = 0.21

# The stage vocab (docs/vocabulary.md): seconds and bytes of memory for a byte of the sample.
VOCABULARY = {"bpe": (24 / 94e6, 371 * MIB / 94e6), "unigram": (67 / 94e6, 1649 * MIB / 94e6)}
# Bytes of the largest process of a data stage (docs/bench.md).
STAGE_MEMORY = {
    "preprocess": 92 * MIB,
    "sample5M": 272 * MIB,
    "split": 236 * MIB,
    "records": 215 * MIB,
}
HASHED = 0.5 * GB  # bytes a second of large files that DVC hashes


@dataclass(frozen=True)
class Device:
    """One accelerator (of a TPU one chip): the maker's figures.

    Attributes:
        half: FLOP/s of bfloat16 products, or of float16 ones if it has no bfloat16.
        single: FLOP/s of float32 products as TensorFlow makes them: TF32 where there is that.
        memory: bytes.
        share: of the peak that training reaches; basis: where that is from.
    """

    half: float
    single: float
    memory: float
    share: float = 0.35
    basis: str = "assumed"


DEVICES = {
    "v100": Device(125e12, 15.7e12, 32 * GB),
    "t4": Device(65e12, 8.1e12, 16 * GB),
    "l4": Device(121e12, 60e12, 24 * GB),
    "a100": Device(312e12, 156e12, 40 * GB),
    "h100": Device(989e12, 494e12, 80 * GB),
    "tpu-v2": Device(46e12, 46e12, 16 * GB),
    "tpu-v3": Device(123e12, 123e12, 32 * GB),
    "tpu-v4": Device(275e12, 275e12, 32 * GB),
    "tpu-v5e": Device(197e12, 197e12, 16 * GB),
    "tpu-v6e": Device(918e12, 918e12, 32 * GB),
    "cpu": Device(0.56e12, 0.306e12, 24 * GB, 0.71, "measured"),
}
