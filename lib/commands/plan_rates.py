"""Constants of `lib.commands.plan`: measured rates, and peak FLOP/s from the makers' data sheets.

docs/planning.md documents how and on what each was measured.
"""

from dataclasses import dataclass

GB, MIB = 1e9, 2**20


@dataclass(frozen=True)
class Text:
    """Rates for one kind of text.

    Seconds are CPU seconds of one core per MB (10^6 bytes) of raw text.
    """

    preprocess: float  # seconds
    sample: float  # seconds
    split: float  # seconds
    tokenize: float  # seconds of the stage records for tokenization, done once
    copy: float  # seconds of the stage records for each of `dupe_factor` copies
    corpus: float  # bytes of data/corpus per byte of raw text
    cleaned: float  # bytes of the cleaned text in .scratch/cleaned per byte of raw text
    tokens: float  # tokens in the sentence pairs of one copy per byte of raw text
    segment_tokens: float  # tokens in the single segments of one copy per byte of raw text
    example_tokens: float  # mean tokens of a pair that no sequence length cuts short
    segment_length: float  # mean tokens of a single segment that no sequence length cuts short
    fill: float  # fraction of a shorter sequence that is not padding
    sentences_fill: float  # the same of packed sequences of whole sentences without pairs
    sentence: float  # mean bytes of a sentence of the corpus


TEXTS = {
    "articles": Text(
        preprocess=0.100,
        sample=0.025,
        split=0.065,
        tokenize=0.188,
        copy=0.052,
        corpus=1.00,
        cleaned=1.02,
        tokens=0.288,
        segment_tokens=0.221,
        example_tokens=350,
        segment_length=344,
        fill=0.78,
        sentences_fill=0.94,
        sentence=103,
    ),
    "tweets": Text(
        preprocess=0.214,
        sample=0.055,
        split=0.103,
        tokenize=0.314,
        copy=0.170,
        corpus=1.03,
        cleaned=1.35,
        tokens=0.515,
        segment_tokens=0.280,
        example_tokens=36,
        segment_length=24,
        fill=0.78,
        sentences_fill=0.97,
        sentence=57,
    ),
}
PACKED_FILL = 0.99  # Fraction of other packed sequences that is not padding.
# Bytes of a serialized sequence: feature names and framing; per position, padding included; more
# per position that holds a token (ids take two bytes, padding one); per masked position.
SEQUENCE_BYTES, POSITION_BYTES, TOKEN_BYTES, PREDICTION_BYTES = 200.0, 3.0, 1.0, 7.0
# Packed sequences have more features, some of them with one value per example.
PACKED_SEQUENCE_BYTES, PACKED_POSITION_BYTES, EXAMPLE_BYTES = 250.0, 4.0, 6.0
GZIP_RATIO = 0.21

# The stage vocab (docs/vocabulary.md): seconds and bytes of memory per byte of the sample.
VOCABULARY = {
    "bpe": (24 / 94e6, 371 * MIB / 94e6),
    "unigram": (67 / 94e6, 1649 * MIB / 94e6),
    "byte_bpe": (54 / 94e6, 400 * MIB / 94e6),
}
# Peak bytes of a process of each data stage (docs/bench.md).
STAGE_MEMORY = {
    "preprocess": 92 * MIB,
    "sample5M": 272 * MIB,
    "split": 236 * MIB,
    "records": 215 * MIB,
}
HASH_BYTES_PER_SECOND = 0.5 * GB  # DVC hashing large files.


# Fractions of the peak FLOP/s between which training is assumed to be where nothing was measured
# (docs/planning.md).
ASSUMED_MFU = (0.1, 0.4)


@dataclass(frozen=True)
class Device:
    """One accelerator (for TPUs, one chip), with its maker's figures.

    Attributes:
        half: peak FLOP/s of bfloat16 matrix products, or of float16 without bfloat16 support.
        single: peak FLOP/s of float32 matrix products as TensorFlow computes them (TF32 if the
            device has it).
        mfu: model FLOPs utilisation, the fraction of the peak that training reaches; None if it was
            not measured.
        speed: the FLOP/s of training itself, measured in a run; takes the place of `mfu`.
        basis: where these come from.
    """

    half: float
    single: float
    mfu: float | None = None
    basis: str = "an assumption"
    speed: float | None = None


DEVICES = {
    "v100": Device(125e12, 15.7e12),
    "t4": Device(65e12, 8.1e12),
    "l4": Device(121e12, 60e12),
    "a100": Device(312e12, 156e12),
    "h100": Device(989e12, 494e12),
    "tpu-v2": Device(46e12, 46e12),
    "tpu-v3": Device(123e12, 123e12),
    "tpu-v4": Device(275e12, 275e12),
    "tpu-v5e": Device(197e12, 197e12),
    "tpu-v6e": Device(918e12, 918e12),
    "cpu": Device(0.56e12, 0.306e12, 0.71, "measured with BERT-base"),
}
