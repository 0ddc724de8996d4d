"""Sentence splitting against the sentences of Universal Dependencies treebanks, and its speed.

A text is a document or paragraph of the treebank, or ten consecutive sentences where it marks
neither (or marks every sentence, or hardly any). Texts are joined as the annotation says and split
again, and the offsets of boundaries are compared without white space; the end of a text does not
count. Plain text (`--text`, a paragraph per line) has no annotation: the words before boundaries
that only one system finds are counted.

With --sentencex, the package of that name (to be installed) does the same. It is given the
language: the letters before the first `_` in the name of a treebank file, English for plain text.
"""

import importlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench.common import cli
from bench.common.report import Row
from lib.run.errors import UserError
from lib.text.cleaning.sentences import split_sentences

_SENTENCES_PER_TEXT = 10
Split = Callable[[list[str]], list[list[str]]]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a treebank: its text, and whether white space or a text's start precedes it."""

    text: str
    space_before: bool
    starts_text: bool


def read_sentences(path: Path) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file."""
    starts, space, text, last, covered = False, True, "", "", 0
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("# newdoc", "# newpar")):
            starts = True
        elif line.startswith("# text = "):
            text = " ".join(line.removeprefix("# text = ").split())
        elif line and not line.startswith("#"):
            columns = line.split("\t")
            first, _, until = columns[0].partition("-")
            if until:
                last, covered = columns[9], int(until)  # The words of a token do not say spaces.
            elif "." not in first and int(first) > covered:
                last = columns[9]
        elif not line and text:
            yield Sentence(text, space, starts)
            starts, space, text, covered = False, "SpaceAfter=No" not in last.split("|"), "", 0


def read_texts(path: Path) -> list[list[Sentence]]:
    """The texts of a CoNLL-U file, each a list of its sentences."""
    sentences = list(read_sentences(path))
    if not sentences:
        raise UserError(f"{path}: no sentences; give a CoNLL-U file of a treebank")
    texts: list[list[Sentence]] = []
    marked = sum(sentence.starts_text for sentence in sentences)
    by_mark = len(sentences) / 50 <= marked < len(sentences)
    for number, sentence in enumerate(sentences):
        if not texts or (sentence.starts_text if by_mark else number % _SENTENCES_PER_TEXT == 0):
            texts.append([])
        texts[-1].append(sentence)
    return texts


def joined(sentences: list[Sentence]) -> str:
    return "".join(" " * each.space_before + each.text for each in sentences).strip()


def offsets(sentences: list[str]) -> set[int]:
    """Offsets of the boundaries between sentences, white space not counted."""
    sizes = (len("".join(sentence.split())) for sentence in sentences)
    ends = [end for end in accumulate(sizes) if end]
    return {end for end in ends if end != ends[-1]}


def our_sentences(texts: list[str]) -> list[list[str]]:
    lines = split_sentences("\n\x02\n".join(texts))
    return [
        [line.strip() for line in text.split("\n") if line.strip()] for text in lines.split("\x02")
    ]


def sentencex(language: str) -> Split:
    try:
        segment: Any = importlib.import_module("sentencex").segment
    except ImportError:
        raise UserError("--sentencex: the package is missing; pip install sentencex") from None
    return lambda texts: [segment(language, text) for text in texts]


def differences(text: str, first: set[int], second: set[int]) -> Iterator[tuple[bool, str]]:
    """Boundaries that only one of two systems finds: whether it is the first, and the text."""
    positions = [index for index, character in enumerate(text) if not character.isspace()]
    for offset in sorted(first ^ second):
        end = positions[offset]
        yield offset in first, f"{text[max(0, end - 40) : end]}|{text[end : end + 30]}"


def score(texts: list[list[Sentence]], split: Split) -> tuple[float, list[tuple[str, str]]]:
    """F1 in per cent of boundaries, and the errors: `missed` or `wrong`, with the text around."""
    errors = []
    right = found = true = 0
    for sentences, guess in zip(texts, split([joined(each) for each in texts]), strict=True):
        gold, ours = offsets([each.text for each in sentences]), offsets(guess)
        right, found, true = right + len(gold & ours), found + len(ours), true + len(gold)
        for missed, around in differences(joined(sentences), gold, ours):
            errors.append(("missed" if missed else "wrong", around))
    return 100 * 2 * right / (found + true), errors


def speeds(splits: dict[str, Split], texts: list[str], repeats: int) -> dict[str, float]:
    """Million characters per second of processor time: medians over alternating runs."""
    times: dict[str, list[float]] = {name: [] for name in splits}
    for _ in range(repeats):
        for name, split in splits.items():
            start = time.process_time()
            split(texts)
            times[name].append(time.process_time() - start)
    millions = sum(map(len, texts)) / 1e6
    return {f"{name}_speed": millions / statistics.median(each) for name, each in times.items()}


def compare_plain(path: Path, splits: dict[str, Split], repeats: int) -> Row:
    """Counts and speeds on plain text; prints the words before boundaries that differ."""
    texts = [" ".join(line.split()) for line in path.read_text(encoding="utf-8").split("\n")]
    texts = [text for text in texts if text]
    results = {name: split(texts) for name, split in splits.items()}
    row: Row = {f"{name}_sentences": sum(map(len, result)) for name, result in results.items()}
    if "sentencex" in splits:
        words: dict[str, Counter[str]] = {"only_ours": Counter(), "only_theirs": Counter()}
        for text, ours, theirs in zip(texts, results["ours"], results["sentencex"], strict=True):
            for own, around in differences(text, offsets(ours), offsets(theirs)):
                word = around.partition("|")[0].split()[-1].lower()
                words["only_ours" if own else "only_theirs"][word] += 1
        for kind, counter in words.items():
            row[kind] = counter.total()
            most = ", ".join(f"{word} {count:,}" for word, count in counter.most_common(20))
            print(f"{path.name}, boundaries {kind}: {most}")
    return {"name": path.name, **row, **speeds(splits, texts, repeats)}


def main() -> None:
    parser = cli.make_parser("data.sentences", __doc__, scratch=False)
    cli.add_repeats(parser)
    parser.add_argument("--sentencex", action="store_true", help="compare with this package")
    cli.add(parser, "--errors", 0, "errors of ours to print per file")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="plain text")
    parser.add_argument("treebanks", type=Path, nargs="*", help="CoNLL-U files")
    options = cli.parse(parser)
    if not options.treebanks and not options.text:
        raise UserError("give CoNLL-U files of treebanks, or plain text with --text")

    def systems(language: str) -> dict[str, Split]:
        peer = {"sentencex": sentencex(language)} if options.sentencex else {}
        return {"ours": our_sentences, **peer}

    rows: list[Row] = []
    for path in options.treebanks:
        texts = read_texts(path)
        splits = systems(path.name.partition("_")[0])
        row: Row = {"name": path.name, "texts": len(texts)}
        for name, split in splits.items():
            row[name], errors = score(texts, split)
            for kind, around in errors[: options.errors if name == "ours" else 0]:
                print(f"{kind}: {around}")
        rows.append(row | speeds(splits, [joined(each) for each in texts], options.repeats))
    for name in ("ours", "sentencex"):
        if scores := [row[name] for row in rows if name in row]:
            print(f"mean F1, {name}: {statistics.mean(scores):.2f}")
    plain = [compare_plain(path, systems("en"), options.repeats) for path in options.text]
    cli.finish(options, treebanks=rows, texts=plain)


if __name__ == "__main__":
    cli.run_main(main)
