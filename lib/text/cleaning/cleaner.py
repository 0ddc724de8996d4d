"""Raw documents to sentences: all the edits in their order, many documents at once."""

from collections import Counter
from functools import partial
from itertools import compress
from operator import not_
from typing import Literal

from lib.text.cleaning.edits import BETWEEN, Cleaning, Edit, chosen_edits


class DocumentCleaner:
    """Cleans documents and splits them into sentences.

    A batch becomes one string with a line for each raw line, so that each edit is one call for many
    thousands of lines. No edit looks across a line end, so batches may be cut anywhere.

        >>> cleaner = DocumentCleaner(Cleaning(lowercase=True), "split")
        >>> cleaner([["Hello  there! How are you?", "Fine."], ["\\x07"]], Counter())
        ['hello there!\\nhow are you?\\nfine.', '']
    """

    def __init__(self, options: Cleaning, sentences: Literal["split", "line"]) -> None:
        self._edits: list[tuple[str, Edit]] = []
        for edit in chosen_edits(options, split=sentences == "split"):
            names = [name for name, _ in self._edits]
            name = _name(edit)
            self._edits.append((f"{name}_again" if name in names else name, edit))
        # By edit: characters that went in and came out, without line ends.
        self.characters_in: Counter[str] = Counter()
        self.characters_out: Counter[str] = Counter()

    def __call__(self, documents: list[list[str]], counts: Counter[str]) -> list[str]:
        """The sentences of each document, joined by LF; an empty string if there are none.

        Each sentence is stripped and not empty. It contains no line separator, and its only white
        space is single spaces.

        Args:
            documents: raw lines of each document; a batch of about 256 KiB to 1 MiB is best.
            counts: gets the number of edits by reason.
        """
        texts = ["\n".join(lines) for lines in documents]
        # ASCII documents apart from the others: a single emoji makes Python store every character
        # of a string in four bytes, and most edits have nothing to do in ASCII.
        is_ascii = [text.isascii() for text in texts]
        ascii_texts = iter(self._clean(list(compress(texts, is_ascii)), counts))
        other_texts = iter(self._clean(list(compress(texts, map(not_, is_ascii))), counts))
        return [next(ascii_texts if each else other_texts) for each in is_ascii]

    def _clean(self, texts: list[str], counts: Counter[str]) -> list[str]:
        if not texts:
            return []
        edits: Counter[str] = Counter()
        text = "\n".join(f"{BETWEEN}\n{text}" for text in texts)
        if text.count(BETWEEN) > len(texts):
            edits["control_characters"] += text.count(BETWEEN) - len(texts)
            self.characters_in["remove_separators"] += _characters(text, len(texts))
            text = "\n".join(f"{BETWEEN}\n{text.replace(BETWEEN, '')}" for text in texts)
            self.characters_out["remove_separators"] += _characters(text, len(texts))
        present: set[str] = set()
        size = _characters(text, len(texts))
        for name, edit in self._edits:
            edited = edit(text, present, edits)
            self.characters_in[name] += size
            if edited is not text:
                text = edited
                size = _characters(text, len(texts))
            self.characters_out[name] += size
        counts.update(+edits)
        return [part.strip("\n") for part in text.split(BETWEEN)[1:]]


def _characters(text: str, documents: int) -> int:
    """Characters of a batch of documents, without line ends and the separator of each document."""
    return len(text) - text.count("\n") - documents


def _name(edit: Edit) -> str:
    """Name of an edit: that of its function, or `placeholders_` and that of its method."""
    function = edit.func if isinstance(edit, partial) else edit
    prefix = "placeholders_" if hasattr(function, "__self__") else ""
    return f"{prefix}{function.__name__}"
