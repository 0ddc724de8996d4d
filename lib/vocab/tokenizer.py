"""WordPiece tokenization: the ids that the exported tokenizer.json gives, at millions a second.

Text repeats itself: WikiText-2 has 2.2 million words, 33 thousand of them different. So a text is
cut into raw pieces by one regular expression, a dictionary knows the ids of each piece that was
seen before, and only new ones take the slow and exact way through normalisation and WordPiece.
"""

import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lib.run.errors import UserError
from lib.vocab.characters import BasicTokenizer, word_pattern
from lib.vocab.directory import CONFIG, read_directory
from lib.vocab.wordpiece import CONTINUATION, WordPiece

# In characters; Google's code has 200, Hugging Face's tokenizers 100.
MAX_WORD_LENGTH = 100
_UNKNOWN = "[UNK]"
SPECIAL_TOKENS = ("[PAD]", _UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
# Memory stays flat however long the text and however many different words it has.
_CHUNK_CHARACTERS = 1 << 20
_MAX_CACHED_PIECES = 500_000
_NEWLINE = 0


def raw_piece_finder() -> Callable[[str], list[str]]:
    """Cuts text into newlines and pieces that can be normalised one by one.

    Special tokens come before the bracket that begins them, which is a word by itself. The space
    before a piece goes with it: to pass it by costs more than two keys for a word.
    """
    special = "|".join(map(re.escape, SPECIAL_TOKENS))
    return re.compile(f" ?+(?:{special}|{word_pattern()}|\n)").findall


class _PieceCache(dict[str, int]):
    """Raw piece of text -> its number; `ids[starts[n]:starts[n + 1]]` are the ids of number n.

    A number instead of the ids, because then the ids of a whole text can be gathered by numpy.
    Number 0 is the newline, which has no ids.
    """

    def __init__(self, encode_piece: Callable[[str], list[int]]) -> None:
        super().__init__({"\n": _NEWLINE, " \n": _NEWLINE})
        self._encode_piece = encode_piece
        self.ids = array("i")
        self.starts = array("q", [0, 0])

    def __missing__(self, piece: str) -> int:
        self.ids.extend(self._encode_piece(piece.removeprefix(" ")))
        self[piece] = number = len(self.starts) - 1
        self.starts.append(len(self.ids))
        return number


class WordPieceTokenizer:
    """Text to ids, for every string those of the tokenizer.json that `write_tokenizer` writes.

    Attributes:
        vocabulary: piece i is the text of id i; pieces that continue a word begin with `##`.
        continuation: bool [vocabulary size], true for those pieces.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.
    """

    def __init__(
        self,
        vocabulary: list[str],
        lowercase: bool,
        strip_accents: bool,
        max_word_length: int = MAX_WORD_LENGTH,
    ) -> None:
        """
        Args:
            vocabulary: one piece per id. Of equal pieces the last one counts.
            max_word_length: in characters; longer words are unknown.

        Raises:
            UserError: a special token is not in the vocabulary.
        """
        self.vocabulary = vocabulary
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.max_word_length = max_word_length
        self._ids = {piece: number for number, piece in enumerate(vocabulary)}
        for token in SPECIAL_TOKENS:
            if token not in self._ids:
                raise UserError(
                    f"the vocabulary should have the special token {token}; add it as "
                    "a line of its own"
                )
        self._special_ids = {token: self._ids[token] for token in SPECIAL_TOKENS}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._special_ids.values()
        )
        self.continuation = np.array([piece.startswith(CONTINUATION) for piece in vocabulary])
        self.wordpiece = WordPiece(self._ids)
        self._basic = BasicTokenizer(lowercase, strip_accents)
        self._find_pieces = raw_piece_finder()
        self._cache = _PieceCache(self._encode_piece)

    @classmethod
    def load(cls, directory: Path) -> "WordPieceTokenizer":
        """Reads a directory as `write_tokenizer` or transformers writes it.

        Raises:
            UserError: the vocabulary or the switches are missing or damaged, a special token is
                missing, or they ask for something that this tokenizer does not do.
        """
        files = read_directory(directory)
        if files.lowercase is None or files.strip_accents is None:
            raise UserError(
                f"{directory / CONFIG}: missing; it says whether the tokenizer lower-cases"
            )
        try:
            return cls(files.vocabulary, files.lowercase, files.strip_accents)
        except UserError as error:
            raise UserError(f"{files.path}: {error}") from None

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without [CLS] and [SEP] around it."""
        ids: list[int] = self.encode_lines(text)[0].tolist()
        return ids

    def tokenize(self, text: str) -> list[str]:
        """The vocabulary's pieces for one text, for people to read."""
        return [self.vocabulary[number] for number in self.encode(text)]

    def encode_lines(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of many lines at once.

        Only LF ends a line; the last line may lack it. A line separator such as U+2028 is a space.

        Returns:
            ids: int32 [tokens], of all lines one after the other. Signed and as wide as the
                model's input, because arithmetic on a narrow unsigned type wraps in silence.
            offsets: int64 [lines + 1]; line i is `ids[offsets[i]:offsets[i + 1]]`.
        """
        all_ids = [np.empty(0, np.int32)]
        all_offsets = [np.zeros(1, np.int64)]
        tokens = 0
        for chunk in _chunks(text):
            ids, ends = self._encode_chunk(chunk)
            all_ids.append(ids)
            all_offsets.append(ends + tokens)
            tokens += len(ids)
        if text and not text.endswith("\n"):
            all_offsets.append(np.array([tokens]))
        return np.concatenate(all_ids), np.concatenate(all_offsets)

    def _encode_chunk(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """ids: int32 [tokens]; ends: int64 [newlines], the number of tokens before each."""
        if len(self._cache) > _MAX_CACHED_PIECES:
            self._cache = _PieceCache(self._encode_piece)
        cache = self._cache
        pieces = np.fromiter(map(cache.__getitem__, self._find_pieces(text)), np.int64)
        # Views, not copies: they must be gone before the cache grows again.
        table = np.frombuffer(cache.ids, np.int32) if cache.ids else np.empty(0, np.int32)
        starts = np.frombuffer(cache.starts, np.int64)
        first = starts[pieces]
        length = starts[pieces + 1] - first
        end = np.cumsum(length)
        # Token t of piece p stands at `first[p] + (t - tokens before p)` in the table.
        shift = np.repeat(first - end + length, length)
        return table[shift + np.arange(len(shift))], end[pieces == _NEWLINE]

    def _encode_piece(self, piece: str) -> list[int]:
        """The ids of a raw piece: a special token, a mark, or a run of anything else.

        A run gives several words if normalisation makes punctuation of a letter of it, and none
        if all of it is removed.
        """
        if piece in self._special_ids:
            return [self._special_ids[piece]]
        return [number for word in self._basic.words(piece) for number in self.encode_word(word)]

    def encode_word(self, word: str) -> list[int]:
        """The ids of one word as the basic tokenizer emits it; [UNK] if it cannot be spelt."""
        if len(word) > self.max_word_length:
            return [self.unk_id]
        ids = self.wordpiece.split(word)
        return [self.unk_id] if ids is None else ids


_cut = re.compile("[ \n]").search


def _chunks(text: str) -> Iterator[str]:
    """The text in parts that end with a space or newline, which no piece reaches across."""
    start = 0
    while start < len(text):
        match = _cut(text, start + _CHUNK_CHARACTERS)
        end = match.end() if match else len(text)
        yield text[start:end]
        start = end
