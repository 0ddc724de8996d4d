"""Our token ids against Hugging Face's tokenizers and Google's FullTokenizer, line by line.

Google's differs from the others on some characters by themselves (combining marks, rare
ideographs, private use, ...); which, is found first, one code point after the other. Lines with
one of those, or with a word of more than 100 characters, need not be equal to Google's.
"""

import argparse
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

from bench.common.report import machine, revision, write_json
from bench.peers import google_bert
from lib.vocab.export import write_tokenizer
from lib.vocab.tokenizer import MAX_WORD_LENGTH, WordPieceTokenizer

_LONG_WORD = re.compile(rf"\S{{{MAX_WORD_LENGTH + 1}}}")

Ids = Callable[[str], list[int]]


def google_ids(checkout: Path, vocabulary: Path) -> Ids:
    """Google's FullTokenizer, lower-casing."""
    google_bert.install(checkout)
    tokenization: Any = importlib.import_module("tokenization")
    tokenizer = tokenization.FullTokenizer(str(vocabulary), do_lower_case=True)
    return lambda text: tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))


def characters_that_differ(ours: Ids, google: Ids) -> set[str]:
    """Code points that the two treat differently, alone or inside or at the end of a word."""
    differing = set()
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:  # Halves of surrogate pairs are no characters.
            continue
        character = chr(code)
        for text in (character, f"a{character}b", f"ab{character}"):
            if ours(text) != google(text):
                differing.add(character)
                break
    return differing


def lines_of(files: list[Path]) -> Iterator[list[str]]:
    """Lines of text files, some at a time, without their LF."""
    for path in files:
        with path.open(encoding="utf-8", newline="\n") as stream:
            while lines := stream.readlines(1 << 20):
                yield [line.removesuffix("\n") for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt, lower-cased")
    parser.add_argument("--google", type=Path, help="checkout of google-research/bert")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("files", type=Path, nargs="+", help="text files")
    options = parser.parse_args()

    pieces = options.vocab.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    ours = WordPieceTokenizer(pieces, lowercase=True, strip_accents=True)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), pieces, True, True, 512)
        exported = Tokenizer.from_file(f"{folder}/tokenizer.json")

    def our_ids(text: str) -> list[int]:
        return ours.encode_lines(text + "\n")[0].tolist()

    google = google_ids(options.google, options.vocab) if options.google else None
    excused = characters_that_differ(our_ids, google) if google else set()
    assigned = {one for one in excused if unicodedata.category(one) not in ("Cn", "Co")}
    if google:
        print(
            f"Google's differs on {len(excused):,} code points, {len(assigned):,} of them assigned "
            "and not for private use"
        )
    counts: Counter[str] = Counter()
    for lines in lines_of(options.files):
        ids, offsets = ours.encode_lines("".join(f"{line}\n" for line in lines))
        theirs = exported.encode_batch(lines, add_special_tokens=False)
        for number, line in enumerate(lines):
            own = ids[offsets[number] : offsets[number + 1]].tolist()
            counts["lines"] += 1
            counts["tokens"] += len(own)
            counts["unequal to the exported tokenizer"] += own != theirs[number].ids
            if google:
                if not excused.isdisjoint(line) or _LONG_WORD.search(line):
                    counts["not compared with Google"] += 1
                else:
                    counts["unequal to Google"] += own != google(line)
    for name, count in counts.items():
        print(f"{name}: {count:,}")
    if options.out:
        facts = machine(("tokenizers", "tensorflow"))
        if google:
            facts["google"] = revision(options.google)
        write_json(
            options.out,
            {
                "machine": facts,
                "counts": counts,
                "code_points": len(excused),
                "assigned": len(assigned),
            },
        )
    return 1 if counts["unequal to the exported tokenizer"] or counts["unequal to Google"] else 0


if __name__ == "__main__":
    sys.exit(main())
