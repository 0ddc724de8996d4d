"""Raw documents to sentences: all the edits in their order, many documents at once."""

import unicodedata
from collections import Counter
from typing import Literal

from lib.params import Cleaning
from lib.text import cleaning
from lib.text.emoji import edit_emoji
from lib.text.fillers import Fillers
from lib.text.sentences import split_sentences

# A line of this alone stands between documents. Raw text has no control characters left by then.
_BETWEEN = "\x02"


class DocumentCleaner:
    """Cleans documents and splits them into sentences.

    A batch is one string with a line for each raw line, so that every edit is one call for many
    thousand lines. No edit looks further than a line, so batches may be cut anywhere.
    """

    def __init__(self, clean: Cleaning, sentences: Literal["split", "line"]) -> None:
        self._clean = clean
        self._split = sentences == "split"
        self._fillers = Fillers(clean)

    def __call__(self, documents: list[list[str]], counts: Counter[str]) -> list[list[str]]:
        """Sentences of each document, perhaps none.

        Each sentence is stripped and not empty; it has no line separator in it, and white space
        only as single spaces.

        Args:
            documents: raw lines of each document; a batch of some 256 KiB to 1 MiB is best.
            counts: gets the number of edits by reason.
        """
        text = f"\n{_BETWEEN}\n".join(map("\n".join, documents))
        if text.count(_BETWEEN) >= max(1, len(documents)):
            text = self._without_marks(documents, counts)
        text = self._edit(text, counts)
        cleaned = [part.strip("\n").split("\n") for part in text.split(_BETWEEN)]
        return [[] if lines == [""] else lines for lines in cleaned][: len(documents)]

    def _without_marks(self, documents: list[list[str]], counts: Counter[str]) -> str:
        counts["control_characters"] += sum(
            line.count(_BETWEEN) for lines in documents for line in lines
        )
        return f"\n{_BETWEEN}\n".join("\n".join(lines).replace(_BETWEEN, "") for lines in documents)

    def _edit(self, text: str, counts: Counter[str]) -> str:
        clean = self._clean
        if clean.unescape_html:
            text = cleaning.unescape_html(text, counts)
        if clean.unicode != "keep":
            text = unicodedata.normalize(clean.unicode, text)
        present = cleaning.characters(text)
        text = cleaning.remove_controls(text, present - {_BETWEEN}, counts)
        if clean.format_characters == "remove":
            text = cleaning.remove_format(text, counts)
        text = cleaning.tidy_space(text, present)
        text = self._fillers.mark(text, counts)
        # Before the case of letters and the form of marks are lost: boundaries depend on them.
        if self._split:
            text = split_sentences(text)
        if clean.emoji != "keep":
            text = edit_emoji(text, present, clean.emoji, counts)
            present = cleaning.characters(text)
        if clean.punctuation == "ascii":
            text = cleaning.punctuation_to_ascii(text, present, counts)
        elif clean.punctuation == "remove":
            text = cleaning.remove_punctuation(text, present, counts)
        if clean.symbols == "remove":
            text = cleaning.remove_symbols(text, present, counts)
        if clean.lowercase:
            text = text.lower()
            present = cleaning.characters(text)
        if clean.accents == "remove":
            text = cleaning.remove_accents(text, present, counts)
        if clean.arabic_marks == "remove":
            text = cleaning.remove_arabic_marks(text, counts)
        text = cleaning.tidy_space(text, set())
        text = self._fillers.join_lines(text, counts)
        text = self._fillers.write(text, counts)
        return cleaning.open_special_tokens(text, counts)
