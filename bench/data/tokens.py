"""Our token ids against Hugging Face's tokenizers and Google's FullTokenizer, line by line.

Google's tokenizer differs from both others on some characters (combining marks, rare ideographs,
private use, ...). These are found first, by trying every code point. Lines that contain one of
them, or a word of more than 100 characters, need not be equal to Google's.
"""

import importlib
import re
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bench.common import cli, inputs
from bench.common.report import revision
from bench.peers import google_bert
from lib.run import tf
from lib.vocab.export import write_tokenizer
from lib.vocab.settings import MAX_WORD_LENGTH
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer

_LONG_WORD = re.compile(rf"\S{{{MAX_WORD_LENGTH + 1}}}")

Ids = Callable[[str], list[int]]


def google_ids(checkout: Path, vocabulary: Path) -> Ids:
    """Google's FullTokenizer with lower-casing."""
    tf.load()  # quietly
    google_bert.install(checkout)
    tokenization: Any = importlib.import_module("tokenization")
    tokenizer = tokenization.FullTokenizer(str(vocabulary), do_lower_case=True)
    return lambda text: tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))


def differing_characters(ours: Ids, google: Ids) -> set[str]:
    """Code points that the two treat differently alone, inside a word or at its end."""
    differing = set()
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:  # Surrogates are not characters.
            continue
        character = chr(code)
        texts = (character, f"a{character}b", f"ab{character}")
        if any(ours(text) != google(text) for text in texts):
            differing.add(character)
    return differing


def read_lines(files: list[Path]) -> Iterator[list[str]]:
    """Lines of text files in chunks of about 1 MiB, without the LF."""
    for path in files:
        with path.open(encoding="utf-8", newline="\n") as stream:
            while lines := stream.readlines(1 << 20):
                yield [line.removesuffix("\n") for line in lines]


def main() -> None:
    parser = cli.make_parser("data.tokens", __doc__, "google", required=["vocab"], scratch=False)
    parser.add_argument("files", type=Path, nargs="+", help="text files")
    options = cli.parse(parser)

    vocab = inputs.read_vocabulary(options.vocab)
    ours = WordPieceTokenizer(vocab, lowercase=True, strip_accents=True)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), vocab, True, True, 512)
        exported = Tokenizer.from_file(f"{folder}/tokenizer.json")

    def our_ids(text: str) -> list[int]:
        return ours.encode_lines(text + "\n")[0].tolist()

    google = google_ids(options.google, options.vocab) if options.google else None
    excluded = differing_characters(our_ids, google) if google else set()
    assigned = {one for one in excluded if unicodedata.category(one) not in ("Cn", "Co")}
    if google:
        print(
            f"Google's tokenizer differs on {len(excluded):,} code points, of which "
            f"{len(assigned):,} are assigned and not for private use"
        )
    counts: Counter[str] = Counter()
    for lines in read_lines(options.files):
        ids, offsets = ours.encode_lines("".join(f"{line}\n" for line in lines))
        theirs = exported.encode_batch(lines, add_special_tokens=False)
        for number, line in enumerate(lines):
            own = ids[offsets[number] : offsets[number + 1]].tolist()
            counts["lines"] += 1
            counts["tokens"] += len(own)
            counts["unequal to the exported tokenizer"] += own != theirs[number].ids
            if google:
                if not excluded.isdisjoint(line) or _LONG_WORD.search(line):
                    counts["not compared with Google"] += 1
                else:
                    counts["unequal to Google"] += own != google(line)
    for name, count in counts.items():
        print(f"{name}: {count:,}")
    checkout = {"google": revision(options.google)} if google else {}
    differing = {"code_points": len(excluded), "assigned": len(assigned)}
    cli.save(options, counts=counts, **differing, **checkout)
    if counts["unequal to the exported tokenizer"] or counts["unequal to Google"]:
        sys.exit("tokens: some token ids are unequal")


if __name__ == "__main__":
    cli.run_main(main)
