"""Synthetic raw text for trying a recipe: python -m lib.samples.recipe_text kanarya

The bytes are always the same. It is not a corpus to train on: a model learns only its frames.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.run.atomic import new_directory
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.samples.languages import sentences

_SENTENCES = 6000
_Files = dict[str, str]


def _lines(language: str) -> Callable[[int], _Files]:
    """A sentence per line, without boundaries between documents."""
    return lambda count: {"sentences.txt": "\n".join(sentences(language, count, 1)) + "\n"}


def _tweets(count: int) -> _Files:
    """A tweet per line, in folders for train, dev and test."""
    sizes = {"train": count * 8 // 10, "dev": count // 10, "test": count // 10}
    return {
        f"{split}/tweets.txt": "\n".join(sentences("tweets", size, seed)) + "\n"
        for seed, (split, size) in enumerate(sizes.items())
    }


def _articles(language: str, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Articles: a title and 5 to 20 sentences each."""
    lines = sentences(language, count, seed)
    start, length = 0, 5
    while start < count:
        title = lines[start].split("，")[0].split(",")[0].rstrip(".。")
        yield title, lines[start : start + length]
        start, length = start + length, 5 + (length * 7 + seed) % 16


def _paragraphs(count: int) -> _Files:
    """English articles, with a blank line after each."""
    articles = _articles("english", count, 1)
    return {"articles.txt": "".join(" ".join(lines) + "\n\n" for _, lines in articles)}


def _wikitext(count: int) -> _Files:
    """The layout of WikiText-2: titles between equals signs, files for train, valid and test."""
    files = {}
    for seed, (split, tenths) in enumerate({"train": 8, "valid": 1, "test": 1}.items()):
        text = ""
        for title, lines in _articles("english", count * tenths // 10, seed):
            body = " ".join(lines).replace(",", " ,").replace(".", " .")
            text += f" \n = {title} = \n \n {body} \n"
        files[f"wiki.{split}.tokens"] = text
    return files


def _wiki_zh(count: int) -> _Files:
    """Articles as JSON lines in files without a suffix, as in wiki2019zh."""
    objects = [
        json.dumps(
            {
                "id": str(number),
                "url": f"https://zh.wikipedia.org/wiki?curid={number}",
                "title": title,
                "text": f"{title}\n\n{''.join(lines)}",
            },
            ensure_ascii=False,
        )
        for number, (title, lines) in enumerate(_articles("chinese", count, 1))
    ]
    half = len(objects) // 2
    parts = {"AA/wiki_00": objects[:half], "AA/wiki_01": objects[half:]}
    return {name: "\n".join(part) + "\n" for name, part in parts.items()}


_KINDS: dict[str, Callable[[int], _Files]] = {
    "budget-24h": _paragraphs,
    "ettin-17m-continue": _paragraphs,
    "modernbert-24h": _paragraphs,
    "modernbert-continue": _paragraphs,
    "ct-bert": _tweets,
    "hf-guide": _paragraphs,
    "kanarya": _lines("turkish"),
    "nemo-wiki-zh": _wiki_zh,
    "nemo-wikitext2": _wikitext,
    "nvidia-lamb": _paragraphs,
    "qarib": _lines("arabic"),
}


def write_recipe_text(recipe: str, folder: Path, count: int = _SENTENCES) -> None:
    """Writes synthetic raw text for a recipe, `count` sentences in all, into a new folder.

    Raises:
        UserError: there is no text for the recipe, or `folder` is not empty.
    """
    if recipe not in _KINDS:
        raise UserError(f"no text for a recipe {recipe!r}; choose one of {', '.join(_KINDS)}")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder}: not empty; move its files away, or try this in a copy of the project"
        )
    with new_directory(folder) as temporary:
        for name, text in _KINDS[recipe](count).items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    parser = new_parser("lib.samples.recipe_text", __doc__)
    parser.add_argument("recipe", help="one of " + ", ".join(_KINDS))
    parser.add_argument("--to", type=Path, metavar="FOLDER", default=Path("data/raw"))
    arguments = parser.parse_args()
    folder = arguments.to
    with one_line_errors("recipe-text"):
        write_recipe_text(arguments.recipe, folder)
        print(f"recipe-text: wrote text for {arguments.recipe} -> {folder}", flush=True)
        # Its own output says what to add to git.
        if subprocess.run([sys.executable, "-m", "dvc", "add", "--", str(folder)]).returncode:
            raise UserError(f"{folder}: written, but `dvc add {folder}` failed; see above")


if __name__ == "__main__":
    main()
