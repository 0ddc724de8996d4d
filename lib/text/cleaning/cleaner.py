"""Raw documents to sentences: all the edits in their order, many documents at once."""

import unicodedata
from collections import Counter
from itertools import compress
from operator import not_
from typing import Literal

from lib.params import Cleaning
from lib.text.cleaning import edits
from lib.text.cleaning.edits import BETWEEN
from lib.text.cleaning.emoji import ALIAS_CHARACTERS, edit_emoji
from lib.text.cleaning.placeholders import Placeholders
from lib.text.cleaning.sentences import split_sentences


class DocumentCleaner:
    """Cleans documents and splits them into sentences.

    A batch is one string with a line for each raw line, so that every edit is one call for many
    thousand lines. No edit looks further than a line, so batches may be cut anywhere.
    """

    def __init__(self, clean: Cleaning, sentences: Literal["split", "line"]) -> None:
        self._clean = clean
        self._split = sentences == "split"
        self._fillers = Placeholders(clean)

    def __call__(self, documents: list[list[str]], counts: Counter[str]) -> list[str]:
        """The sentences of each document, LF between them; an empty string if there are none.

        Each sentence is stripped and not empty; it has no line separator in it, and white space
        only as single spaces.

        Args:
            documents: raw lines of each document; a batch of some 256 KiB to 1 MiB is best.
            counts: gets the number of edits by reason.
        """
        texts = ["\n".join(lines) for lines in documents]
        # Apart, because one emoji makes every character of a string take four bytes, and because
        # most steps have nothing to do in ASCII.
        plain = [text.isascii() for text in texts]
        ascii_texts = iter(self._clean_all(list(compress(texts, plain)), counts))
        others = iter(self._clean_all(list(compress(texts, map(not_, plain))), counts))
        return [next(ascii_texts if is_plain else others) for is_plain in plain]

    def _clean_all(self, texts: list[str], counts: Counter[str]) -> list[str]:
        if not texts:
            return []
        edits: Counter[str] = Counter()
        text = "\n".join(f"{BETWEEN}\n{text}" for text in texts)
        if text.count(BETWEEN) > len(texts):
            edits["control_characters"] += text.count(BETWEEN) - len(texts)
            text = "\n".join(f"{BETWEEN}\n{text.replace(BETWEEN, '')}" for text in texts)
        text = self._edit(text, edits)
        counts.update(+edits)
        return [part.strip("\n") for part in text.split(BETWEEN)[1:]]

    def _edit(self, text: str, counts: Counter[str]) -> str:
        clean = self._clean
        if clean.unescape_html:
            text = edits.unescape_html(text, counts)
        if clean.unicode != "keep":
            text = unicodedata.normalize(clean.unicode, text)
        present = edits.characters(text)
        text = edits.remove_controls(text, present, counts)
        if clean.format_characters == "remove":
            text = edits.remove_format(text, counts)
        text = edits.tidy_space(text, present)
        text = self._fillers.mark(text, counts)
        # Before the case of letters and the form of marks are lost: boundaries depend on them.
        if self._split:
            text = split_sentences(text)
        if clean.emoji != "keep":
            text = edit_emoji(text, present, clean.emoji, counts)
            present = present | ALIAS_CHARACTERS  # A few too many do no harm.
        if clean.punctuation == "ascii":
            text = edits.punctuation_to_ascii(text, present, counts)
        elif clean.punctuation == "remove":
            text = edits.remove_punctuation(text, present, counts)
        if clean.symbols == "remove":
            text = edits.remove_symbols(text, present, counts)
        if clean.lowercase:
            text = text.lower()
        if clean.accents == "remove":
            text = edits.remove_accents(text, edits.characters(text), counts)
        if clean.arabic_marks == "remove":
            text = edits.remove_arabic_marks(text, counts)
        text = edits.tidy_space(text, set())
        text = self._fillers.join_lines(text, counts)
        text = self._fillers.write(text, counts)
        return edits.open_special_tokens(text, counts)
