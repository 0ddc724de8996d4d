"""Which tokens of a text continue a word, found from the characters that they stand for.

With byte-level BPE, where G stands for a space:

    text       don't swim,
    words      don | ' | t | swim | ,
    tokens     don   't      Gsw im   ,
    continues  no    no      no  yes  no

A token that is only spaces belongs to the word after it, and what a token covers beyond its first
word does not count. The words are those of `lib.vocab.characters`.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from lib.vocab.characters import CodePoints, character_table
from lib.vocab.library_files import flattened

_SPACE, _STANDALONE, _WITHIN = 0, 1, 2
# The length of tokens whose text is not known: longer than any text.
_UNKNOWN = 1 << 40
_SYMBOL = "\u2581"


@dataclass(frozen=True)
class Marks:
    """What is known of the tokens of several texts.

    Attributes:
        continues: bool [tokens]: the token continues a word.
        starts, ends: int64 [tokens]: of each token in its text, in bytes.
        is_known: bool [texts]: the others hold for the text's tokens.
    """

    continues: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    is_known: np.ndarray


class WordMarks:
    """Finds the tokens that continue a word from the lengths of tokens, for many texts at once.

    The tokens of a text are one after the other the text itself, in bytes of UTF-8; SentencePiece's
    have a symbol for a space. Where they are not, because of normalization, say, or of an unknown
    token, `marks` says so, and `continues_by_offsets` has to be used.
    """

    def __init__(self, content: Mapping[str, Any], vocabulary: Sequence[str]) -> None:
        """
        Args:
            content: of tokenizer.json.
        """
        steps = list(flattened(content.get("pre_tokenizer"), "pretokenizers"))
        kinds = [step["type"] for step in steps]
        self._begins_with_space = any(_prepends_space(step) for step in steps)
        self._form = _normal_form(content)
        others = {token["content"] for token in content["added_tokens"]}
        model = content["model"]
        singles = {f"<0x{byte:02X}>" for byte in range(256)} if model.get("byte_fallback") else ()
        if model["type"] == "Unigram" and model.get("unk_id") is not None:
            others.add(model["vocab"][model["unk_id"]][0])
        if model.get("unk_token"):
            others.add(model["unk_token"])

        def length(token: str) -> int:
            if token in others:
                return _UNKNOWN
            if token in singles:
                return 1
            if "ByteLevel" in kinds:
                return len(token)
            return len(token.replace(_SYMBOL, " ").encode()) if "Metaspace" in kinds else _UNKNOWN

        lengths = [length(token) for token in vocabulary]
        self._lengths = np.array(lengths, np.int64)  # [vocabulary size]

    def marks(self, texts: Sequence[str], ids: np.ndarray, tokens: np.ndarray) -> Marks:
        """Where the tokens of texts are, and which of them continue a word.

        Args:
            ids: int32 [tokens], those of all texts, one after the other.
            tokens: int64 [texts]: tokens per text.
        """
        if not len(ids):
            none = np.zeros(0, np.int64)
            return Marks(
                none.astype(bool), none, none, np.array([not text for text in texts], bool)
            )
        if self._begins_with_space:
            texts = [text if text.startswith(" ") else f" {text}" for text in texts]
        joined = "\n".join([*texts, ""])
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        classes = _classes()[codes]  # [characters]
        begins = (classes == _STANDALONE) | (
            (classes == _WITHIN) & (np.roll(classes, 1) != _WITHIN)
        )
        begins[0] = classes[0] != _SPACE
        sizes = np.ones(len(codes), np.int64)
        if not joined.isascii():
            sizes += (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
        # [bytes]
        in_word = np.repeat(classes != _SPACE, sizes)
        byte_begins = np.zeros(len(in_word), bool)
        byte_begins[(np.cumsum(sizes) - sizes)[begins]] = True
        positions = np.arange(len(in_word))
        backwards = np.where(in_word, positions, len(positions))[::-1]
        next_in_word = np.minimum.accumulate(backwards)[::-1]

        last = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1) - 1
        text_end = np.cumsum(sizes)[last] - 1  # [texts]: of the newline after each
        text_start = np.concatenate([[0], text_end[:-1] + 1])

        lengths = self._lengths[ids]
        ends = np.cumsum(lengths)
        first = np.cumsum(tokens) - tokens  # [texts]
        before = np.where(first > 0, ends[np.maximum(first, 1) - 1], 0)
        totals = np.add.reduceat(np.append(lengths, 0), first) * (tokens > 0)
        is_known = (totals == text_end - text_start) & self.is_normal(texts, joined)
        start = ends - lengths + np.repeat(text_start - before, tokens)
        is_token_known = np.repeat(is_known, tokens)
        start = np.where(is_token_known, start, 0)
        position = next_in_word[start]
        is_space = position >= start + lengths
        position = np.minimum(position, len(positions) - 1)
        continues = in_word[position] & ~byte_begins[position]
        # A text may have several lines.
        is_newline = np.repeat(codes == ord("\n"), sizes)[start]
        after_space = np.roll(is_space & ~is_newline, 1)
        after_space[first[tokens > 0]] = False
        continues = is_token_known & ~is_space & (continues | after_space)
        starts = start - np.repeat(text_start + self._begins_with_space, tokens)
        return Marks(continues, starts, starts + lengths, is_known)

    def sizes(self, texts: Sequence[str]) -> np.ndarray:
        """Length of each text in bytes: int64 [texts]."""
        return np.fromiter(map(len, map(str.encode, texts)), np.int64, len(texts))

    def is_normal(self, texts: Sequence[str], joined: str) -> np.ndarray:
        """Whether normalization leaves each text as long as it is: bool [texts].

        Args:
            joined: all texts.
        """
        if joined.isascii() or (
            self._form is not None
            and (not self._form or unicodedata.is_normalized(self._form, joined))
        ):
            return np.ones(len(texts), bool)
        form = self._form
        return np.array(
            [
                text.isascii() or (form is not None and unicodedata.is_normalized(form, text))
                for text in texts
            ],
            bool,
        )


def _prepends_space(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        default = "always" if step.get("add_prefix_space", True) else "never"
        return bool(step.get("prepend_scheme", default) != "never")
    return step["type"] == "ByteLevel" and bool(step.get("add_prefix_space", True))


def _normal_form(content: Mapping[str, Any]) -> Literal["NFC", "NFKC", ""] | None:
    """The normal form of text that normalization leaves as it is; empty: of all text."""
    kinds = {step["type"] for step in flattened(content.get("normalizer"), "normalizers")}
    if not kinds:
        return ""
    if kinds == {"NFC"}:
        return "NFC"
    return "NFKC" if kinds == {"NFKC"} else None


@cache
def _classes() -> np.ndarray:
    """uint8 [code points]: space, a word by itself, or a character within words."""
    table = character_table()
    classes = np.full(0x110000, _WITHIN, np.uint8)
    for points, number in ((table.punctuation | table.cjk, _STANDALONE), (table.space, _SPACE)):
        for first, last in points.ranges():
            classes[first : last + 1] = number
    return classes


def continues_by_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each token continues a word, from the characters (start, end) that it stands for."""
    found: list[bool] = []
    bounds = [match.span() for match in _word_pattern().finditer(text)]
    starts = [start for start, _ in bounds]
    end_before = 0
    after_space = False
    for start, end in offsets:
        first = start
        while first < end and _classes()[ord(text[first])] == _SPACE:
            first += 1
        is_space = first >= end > start
        index = bisect_right(starts, first) - 1
        inside = index >= 0 and starts[index] < first < bounds[index][1]
        found.append(not is_space and (inside or end_before > first or after_space))
        after_space = is_space
        end_before = max(end_before, end)
    return found


@cache
def _word_pattern() -> re.Pattern[str]:
    table = character_table()
    standalone: CodePoints = table.punctuation | table.cjk
    within = (standalone | table.space).complement()
    return re.compile(f"[{within.pattern()}]++|[{standalone.pattern()}]")
