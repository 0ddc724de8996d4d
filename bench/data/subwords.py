"""Ids and word marks of tokenizers that the library runs, against the library's own speed.

Byte-level BPE as in ModernBERT, and Unigram with bytes for what has no token, are trained on the
first fifth of each text. Then the whole text is encoded: by our tokenizer, which also says which
tokens continue a word, and by the library's `encode_batch_fast`, in turn, each time with nothing
cached. Times are processor seconds of one core; the ids must be equal.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Library

from bench.common import cli
from bench.common.report import Row
from bench.common.unigram import train_unigram
from lib.vocab.byte_bpe import train_byte_bpe
from lib.vocab.library_files import vocabulary_of
from lib.vocab.library_tokenizer import LibraryTokenizer


def byte_bpe(sample: Path, size: int) -> LibraryTokenizer:
    return LibraryTokenizer(*train_byte_bpe(sample, size, False, False, 64, None))


def unigram(sample: Path, size: int) -> LibraryTokenizer:
    files = train_unigram(sample, size)
    return LibraryTokenizer(files, vocabulary_of(sample, files.content))


KINDS: dict[str, Callable[[Path, int], LibraryTokenizer]] = {
    "byte-level BPE": byte_bpe,
    "Unigram": unigram,
}


def measure(name: str, trained: LibraryTokenizer, lines: list[str], repeats: int) -> Row:
    """The least of several times of both, which other load on the machine disturbs least."""
    text = "".join(f"{line}\n" for line in lines)
    ours, theirs = [], []
    for _ in range(repeats):
        tokenizer = LibraryTokenizer(trained.files, trained.vocabulary)
        library = Library.from_str(json.dumps(trained.files.content))
        start = time.process_time()
        marked, _ = tokenizer.encode_marked_lines(text)
        tokenizer.continues_word(marked)
        ours.append(time.process_time() - start)
        start = time.process_time()
        found = [each.ids for each in library.encode_batch_fast(lines, add_special_tokens=False)]
        theirs.append(time.process_time() - start)
    ids, _ = LibraryTokenizer(trained.files, trained.vocabulary).encode_lines(text)
    expected = np.fromiter((number for line in found for number in line), np.int32)
    ratio = min(theirs) / min(ours)
    return {
        "name": name,
        "tokens": len(ids),
        "ours_seconds": min(ours),
        "library_seconds": min(theirs),
        "ratio": ratio,
        "equal_ids": bool(np.array_equal(ids, expected)),
        "threshold": 1.0,
        "passed": ratio >= 1 and bool(np.array_equal(ids, expected)),
    }


def main() -> None:
    parser = cli.make_parser("data.subwords", __doc__, scratch=False)
    parser.add_argument("files", type=Path, nargs="+", help="text files")
    cli.add(parser, "--size", 8000, "of the vocabularies")
    cli.add(parser, "--characters", 12_000_000, "of each text")
    cli.add(parser, "--repeats", 3, "of each measurement")
    options = cli.parse(parser)
    rows = []
    for path in options.files:
        lines = path.read_text(encoding="utf-8")[: options.characters].split("\n")
        with tempfile.TemporaryDirectory() as folder:
            sample = Path(folder) / "train.txt"
            sample.write_text("\n".join([*lines[: len(lines) // 5], ""]), encoding="utf-8")
            for kind, train in KINDS.items():
                trained = train(sample, options.size)
                rows.append(measure(f"{kind}, {path.name}", trained, lines, options.repeats))
                cli.progress(f"{rows[-1]['name']}: {rows[-1]['ratio']:.2f}")
    cli.finish(options, {}, rows=rows)


if __name__ == "__main__":
    cli.run_main(main)
