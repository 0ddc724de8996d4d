"""A shard's text as three flat arrays: token ids, where sentences end, where documents end.

One Python object per token costs Google's script 45 MiB per MiB of text. Flat arrays cost two to
four bytes a token, and every later step (pairs, rows) becomes arithmetic on offsets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

_PART_BYTES = 1 << 20


@dataclass(frozen=True)
class Tokens:
    """The tokens of one shard. No sentence and no document is empty.

    Attributes:
        ids: integer array [tokens] (uint16 is enough for most vocabularies): vocabulary ids.
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
                tokens need not be blank (it may hold only characters that the tokenizer drops):
                then it is no sentence, but its document goes on.

        Raises:
            ValueError: the arrays do not fit together, or there are 2^31 tokens or more.
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

        # Lines without tokens have no width, so leaving out their offsets leaves no gap.
        kept = np.flatnonzero(widths)
        sentence_offsets = np.append(line_offsets[kept], len(ids))
        # Sentences between the same two blank lines share this number, whatever it is.
        document_numbers = np.cumsum(blank)[kept]
        firsts = np.flatnonzero(np.diff(document_numbers, prepend=-1))
        return cls(ids, sentence_offsets, np.append(firsts, len(kept)))


def read_tokens(
    shard: Path, encode_lines: Callable[[str], tuple[np.ndarray, np.ndarray]]
) -> Tokens:
    """The tokens of a text shard (a sentence a line, a blank line after each document).

    Args:
        encode_lines: LF-ended lines -> flat ids and int64 [lines + 1] offsets.
    """
    ids, offsets, blank = [np.empty(0, np.int32)], [np.zeros(1, np.int64)], [np.empty(0, bool)]
    tokens = 0
    with shard.open("rb") as lines:
        # Whole lines, a part of the shard at a time: one character beyond U+FFFF makes every
        # character of a Python string take four bytes.
        while part := b"".join(lines.readlines(_PART_BYTES)):
            ends = np.flatnonzero(np.frombuffer(part, np.uint8) == ord("\n"))
            blank.append(np.diff(ends, prepend=-1) == 1)
            part_ids, part_offsets = encode_lines(part.decode())
            ids.append(part_ids)
            offsets.append(part_offsets[1:] + tokens)
            tokens += len(part_ids)
    return Tokens.build(np.concatenate(ids), np.concatenate(offsets), np.concatenate(blank))
