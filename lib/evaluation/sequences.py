"""Test documents as rows for a model, some of their words hidden whole."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from lib.evaluation.masked_words import WordFinder, hidden_words
from lib.text.documents import read_corpus
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer

_MAX_CACHED = 500_000
# Cells of a batch: enough to be fast, few enough for logits over a large vocabulary.
_CELLS = 4096
_FEWEST_PREDICTIONS = 8


def spelling_bits(word: str) -> float:
    """What it costs to spell a word that is [UNK]: 8 bits for each byte of UTF-8 and for its end.

    The plainest model of characters there is, the same for every vocabulary and every text: to
    say [UNK] is no way to save bits.
    """
    return 8.0 * (len(word.encode()) + 1)


def first_documents(shards: list[Path], most: int) -> Iterator[tuple[bytes, int]]:
    """Documents up to `most` sentences in all, and how many sentences of each to take.

    Counted in sentences, not in rows, so that every vocabulary and length gets the same text.
    split has shuffled the documents.
    """
    for path in shards:
        for document in read_corpus(path):
            sentences = min(document.count(b"\n"), most)
            yield document, sentences
            most -= sentences
            if not most:
                return


@dataclass(frozen=True)
class HoleBatch:
    """R rows of S cells with at most P hidden pieces each, which make W hidden words.

    Attributes:
        input_ids: int32 [R, S], 0 in the padding.
        lengths: int32 [R]: tokens of each row, special ones included; 0 for a row that only fills
            up the batch.
        positions, labels: int32 [R, P]: where a piece is hidden and which; 0 beyond the row's.
        numbers: int32 [R, P]: which of the W words it belongs to; -1 beyond.
        documents, characters: int64 [W]: the word's document, and its characters in the text.
        spelling_bits: float64 [W]: see `spelling_bits`; 0 for words without [UNK].
    """

    input_ids: np.ndarray
    lengths: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    documents: np.ndarray
    characters: np.ndarray
    spelling_bits: np.ndarray

    def features(self) -> dict[str, np.ndarray]:
        """What `lib.model.losses.head_logits` asks for."""
        columns = np.arange(self.input_ids.shape[1])
        return {
            "input_ids": self.input_ids,
            "input_mask": (columns < self.lengths[:, np.newaxis]).astype(np.int32),
            "segment_ids": np.zeros_like(self.input_ids),
            "masked_lm_positions": self.positions,
        }


@dataclass
class _Row:
    """[CLS], words, [SEP]; `holes` are (position, label, number among the row's hidden words)."""

    ids: list[int]
    document: int
    holes: list[tuple[int, int, int]] = field(default_factory=list)
    words: list[tuple[int, float]] = field(default_factory=list)


class HoleRows:
    """Lays test documents in rows of one length, for one vocabulary.

    Sentences that fit are laid in a row together; one longer than a row is cut between words.

    Attributes:
        counts: after a pass, words hidden (`words`, of them `unknown_words`), and hidden words
            that cannot be asked for: longer than a row (`masked_words_too_long`), or without any piece in
            this vocabulary (`masked_words_without_tokens`); `documents` and `examples` (rows).
    """

    def __init__(self, tokenizer: WordPieceTokenizer, length: int, share: float, seed: int) -> None:
        """
        Args:
            length: cells of a row.
            share: probability of a word to be hidden.
        """
        self._tokenizer, self._length, self._share, self._seed = tokenizer, length, share, seed
        self._batch_rows = max(1, _CELLS // length)
        self._finder = WordFinder()
        self._encode = lru_cache(_MAX_CACHED)(tokenizer.encode)
        self.counts: Counter[str] = Counter()

    def batches(self, shards: list[Path], most: int) -> Iterator[HoleBatch]:
        """Rows with something hidden in them, of `most` sentences (see `first_documents`)."""
        self.counts = Counter(
            documents=0,
            examples=0,
            words=0,
            unknown_words=0,
            masked_words_too_long=0,
            masked_words_without_tokens=0,
        )
        rows = (
            row
            for number, (document, sentences) in enumerate(first_documents(shards, most))
            for row in self._rows(number, document, sentences)
            if row.holes
        )
        while batch := list(islice(rows, self._batch_rows)):
            self.counts["examples"] += len(batch)
            yield self._batch(batch)

    def _rows(self, number: int, document: bytes, sentences: int) -> Iterator[_Row]:
        self.counts["documents"] += 1
        lines = document.decode().split("\n")[:sentences]
        words = [self._finder.words(line) for line in lines]
        total = sum(map(len, words))
        hidden = iter(hidden_words(document, total, self._share, self._seed).tolist())
        row, room = _Row([], number), self._length - 2
        for sentence in words:
            pieces = [self._encode(word) for word in sentence]
            if len(row.ids) + sum(map(len, pieces)) > room:
                yield row
                row = _Row([], number)
            for word, ids in zip(sentence, pieces, strict=True):
                if row.ids and len(row.ids) + len(ids) > room:
                    yield row
                    row = _Row([], number)
                if next(hidden) and word not in SPECIAL_TOKENS and self._can_hide(ids):
                    self._hide(row, word, ids)
                else:
                    row.ids.extend(ids[:room])
        yield row

    def _can_hide(self, ids: list[int]) -> bool:
        if not ids:
            self.counts["masked_words_without_tokens"] += 1
        elif len(ids) > self._length - 2:
            self.counts["masked_words_too_long"] += 1
        else:
            return True
        return False

    def _hide(self, row: _Row, word: str, ids: list[int]) -> None:
        unknown = self._tokenizer.unk_id in ids
        self.counts["words"] += 1
        self.counts["unknown_words"] += unknown
        for piece in ids:
            # [CLS] comes before.
            row.holes.append((len(row.ids) + 1, piece, len(row.words)))
            row.ids.append(self._tokenizer.mask_id)
        row.words.append((len(word), spelling_bits(word) if unknown else 0.0))

    def _batch(self, rows: list[_Row]) -> HoleBatch:
        # A quarter of the row is enough for most batches: few shapes have to be compiled.
        predictions = max(_FEWEST_PREDICTIONS, self._length // 4)
        while predictions < max(len(row.holes) for row in rows):
            predictions *= 2
        cells, slots = (self._batch_rows, self._length), (self._batch_rows, predictions)
        input_ids, lengths = np.zeros(cells, np.int32), np.zeros(self._batch_rows, np.int32)
        positions, labels = np.zeros(slots, np.int32), np.zeros(slots, np.int32)
        numbers = np.full(slots, -1, np.int32)
        before = 0
        for place, row in enumerate(rows):
            ids = [self._tokenizer.cls_id, *row.ids, self._tokenizer.sep_id]
            input_ids[place, : len(ids)] = ids
            lengths[place] = len(ids)
            own = np.array(row.holes).T
            positions[place, : len(row.holes)], labels[place, : len(row.holes)] = own[:2]
            numbers[place, : len(row.holes)] = own[2] + before
            before += len(row.words)
        words = [word for row in rows for word in row.words]
        return HoleBatch(
            input_ids,
            lengths,
            positions,
            labels,
            numbers,
            np.array([row.document for row in rows for _ in row.words]),
            np.array([characters for characters, _ in words]),
            np.array([bits for _, bits in words]),
        )
