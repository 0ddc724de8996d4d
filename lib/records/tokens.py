"""The tokens of a text shard, as three flat arrays: ids, sentence offsets, document offsets.

A shard of two documents, of two sentences and of one, with one token per letter:

    a b c          ids               [a b c d e f g h i]
    d e            sentence_offsets  [0 3 5 9]  s0 = ids[0:3], s1 = ids[3:5], s2 = ids[5:9]
                   document_offsets  [0 2 3]    d0 = s0 and s1, d1 = s2
    f g h i

One Python object per token costs Google's script 45 MiB per MiB of text. Flat arrays cost two to
four bytes per token, and every later step becomes arithmetic on offsets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from lib.run.errors import UserError
from lib.text.documents import corpus_blocks

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Tokens:
    """The tokens of one shard. No sentence and no document is empty.

    Attributes:
        ids: integer array [tokens]: vocabulary ids (uint16 suffices for most vocabularies), with
            the tokenizer's marks, if it has any (`lib.vocab.tokenizer.CONTINUES_WORD`).
        sentence_offsets: int64 [sentences + 1]: sentence s is
            ids[sentence_offsets[s]:sentence_offsets[s + 1]].
        document_offsets: int64 [documents + 1]: document d is the sentences
            document_offsets[d] to document_offsets[d + 1] - 1.
    """

    ids: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray

    @property
    def sentences(self) -> int:
        return len(self.sentence_offsets) - 1

    @property
    def documents(self) -> int:
        return len(self.document_offsets) - 1

    @classmethod
    def build(cls, ids: np.ndarray, line_offsets: np.ndarray, blank: np.ndarray) -> Self:
        """Groups tokenized lines into documents.

        Args:
            ids: integer array [tokens]: the ids of all lines, one after the other.
            line_offsets: integer array [lines + 1]: line i is
                ids[line_offsets[i]:line_offsets[i + 1]].
            blank: bool array [lines]: the line is blank and so ends a document. A line without
                tokens is not necessarily blank: it may hold only characters that the tokenizer
                drops. Then it is not a sentence, but its document continues.

        Raises:
            ValueError: the arrays contradict each other, or there are 2^31 tokens or more.
        """
        line_offsets = np.asarray(line_offsets, dtype=np.int64)
        blank = np.asarray(blank, dtype=bool)
        if len(line_offsets) != len(blank) + 1 or line_offsets[0] != 0:
            raise ValueError("`line_offsets` should begin with 0 and be one longer than `blank`")
        if line_offsets[-1] != len(ids) or len(ids) >= 2**31:
            raise ValueError("`line_offsets` should end with the number of ids, below 2^31")
        widths = np.diff(line_offsets)
        if (widths < 0).any() or widths[blank].any():
            raise ValueError("lines should not have a negative width, nor blank lines tokens")

        # Lines without tokens have width 0, so leaving out their offsets leaves no gap.
        kept = np.flatnonzero(widths)
        sentence_offsets = np.append(line_offsets[kept], len(ids))
        # The number of blank lines before a sentence is the same for all sentences of a document.
        document_numbers = np.cumsum(blank)[kept]
        firsts = np.flatnonzero(np.diff(document_numbers, prepend=-1))
        return cls(ids, sentence_offsets, np.append(firsts, len(kept)))


def read_tokens(
    shard: Path, encode_lines: Callable[[str], tuple[np.ndarray, np.ndarray]]
) -> Tokens:
    """Tokenizes a text shard: one sentence per line, a blank line after each document.

    Args:
        encode_lines: text of lines that end in LF -> ids of all lines, int64 [lines + 1] offsets.

    Raises:
        UserError: the shard is not UTF-8.
    """
    ids, offsets, blank = [np.empty(0, np.int32)], [np.zeros(1, np.int64)], [np.empty(0, bool)]
    tokens = 0
    with shard.open("rb") as lines:
        # In chunks of whole lines: a single character above U+FFFF makes every character of a
        # Python string take four bytes.
        for chunk in corpus_blocks(lines, _CHUNK_BYTES):
            ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
            blank.append(np.diff(ends, prepend=-1) == 1)
            try:
                text = chunk.decode()
            except UnicodeDecodeError as error:
                before = sum(map(len, blank)) - len(blank[-1])
                line = before + chunk.count(b"\n", 0, error.start) + 1
                raise UserError(
                    f"{shard}: line {line:,} is not UTF-8; have the stage that wrote it write UTF-8"
                ) from None
            chunk_ids, chunk_offsets = encode_lines(text)
            ids.append(chunk_ids)
            offsets.append(chunk_offsets[1:] + tokens)
            tokens += len(chunk_ids)
    return Tokens.build(np.concatenate(ids), np.concatenate(offsets), np.concatenate(blank))
