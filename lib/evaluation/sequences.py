"""Test documents as input sequences of a model, with some of their words masked.

Shapes: B sequences per batch, S token positions per sequence, P masked tokens per sequence at most,
W masked words per batch.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice, pairwise
from pathlib import Path

import numpy as np

from lib.evaluation.masked_words import WordFinder, masked_words, segment_draws
from lib.evaluation.metrics import MaskedWordScores, TokenCountCode, TokenScores
from lib.evaluation.word_tokens import word_tokens
from lib.records.pairs import PAIR_SPECIAL_TOKENS, SINGLE_SPECIAL_TOKENS
from lib.text.documents import read_corpus
from lib.vocab.library_tokenizer import LibraryTokenizer
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.tokenizer import Tokenizer

_MAX_CACHED = 500_000
# Token positions per batch: enough to be fast, few enough for logits over a large vocabulary.
BATCH_POSITIONS = 4096
_MIN_PREDICTIONS = 8


def spelling_bits(word: str) -> float:
    """The cost of spelling a word that is [UNK]: 8 bits for each byte of UTF-8 and for its end.

    This is the simplest model of characters, the same for every vocabulary and text, so that
    predicting [UNK] does not save bits. Example: "中" has three bytes, 8 * (3 + 1) = 32 bits.
    """
    return 8.0 * (len(word.encode()) + 1)


def prediction_slots(length: int, masked_tokens: int) -> int:
    """P of a batch whose sequences have at most that many masked tokens.

    A quarter of the positions is enough for most batches: few shapes have to be compiled.
    """
    slots = max(_MIN_PREDICTIONS, length // 4)
    while slots < masked_tokens:
        slots *= 2
    return slots


def first_documents(shards: list[Path], max_sentences: int) -> Iterator[tuple[bytes, int]]:
    """Documents up to a total number of sentences, each with the number of sentences to take.

    Sentences are counted, not sequences, so that every vocabulary and length gets the same text.
    split has shuffled the documents.
    """
    for path in shards:
        for document in read_corpus(path):
            sentences = min(document.count(b"\n"), max_sentences)
            yield document, sentences
            max_sentences -= sentences
            if not max_sentences:
                return


@dataclass(frozen=True)
class MaskedTokens:
    """B sequences with words to predict: the input of an MLM predictor.

    Attributes:
        input_ids: int32 [B, S], 0 in the padding.
        lengths: int32 [B]: tokens of each sequence, special ones included; 0 for a sequence that
            only fills up the batch.
        b_starts: int32 [B]: position of the first token of segment B; `lengths` if there is none.
        positions, labels: int32 [B, P]: where a token of a masked word is, and which token it is; 0
            beyond the masked words of the sequence.
        words: int32 [B, P]: number of the word that the token belongs to, in order; -1 beyond.
    """

    input_ids: np.ndarray
    lengths: np.ndarray
    b_starts: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    words: np.ndarray

    def features(self) -> dict[str, np.ndarray]:
        """The input of `lib.model.losses.head_logits`."""
        positions = np.arange(self.input_ids.shape[1])
        input_mask = positions < self.lengths[:, np.newaxis]  # [B, S]
        in_b = positions >= self.b_starts[:, np.newaxis]  # [B, S]
        return {
            "input_ids": self.input_ids,
            "input_mask": input_mask.astype(np.int32),
            "segment_ids": (input_mask & in_b).astype(np.int32),
            "masked_lm_positions": self.positions,
        }

    def masked_tokens(self) -> np.ndarray:
        """bool [B, P]: where there is a token of a masked word."""
        masked: np.ndarray = self.words >= 0
        return masked


@dataclass(frozen=True)
class MaskedWordBatch(MaskedTokens):
    """B sequences with W masked words, all of whose tokens are masked.

    Attributes:
        documents, characters: int64 [W]: the word's document, and its characters in the text.
        spelling_bits: float64 [W]: see `spelling_bits`; 0 for words without [UNK].
    """

    documents: np.ndarray
    characters: np.ndarray
    spelling_bits: np.ndarray

    def word_scores(
        self, scores: TokenScores, left_to_right: np.ndarray, count_code: TokenCountCode
    ) -> MaskedWordScores:
        """The predictions of a model by word: scores and left-to-right losses [B, P] -> [T]."""
        masked = self.masked_tokens()
        words = self.words[masked]
        return MaskedWordScores(
            words,
            scores[masked],
            self.characters,
            self.spelling_bits,
            left_to_right[masked],
            count_code.bits(np.bincount(words, minlength=len(self.characters))),
        )


@dataclass(frozen=True)
class _Document:
    """A tokenized document of which some words are masked.

    Attributes:
        words: as in the text.
        tokens: the ids of each word.
        masked: whether a word is masked and evaluated.
        seen: the ids of each word as the model sees them: [MASK] where it is masked; cut if they
            are more than fit into a sequence.
        offsets: number of ids seen before each word, and of all.
        sentence_starts: the first word of each sentence, and the number of words.
        draws: uint64 [words], see `segment_draws`.
    """

    words: list[str]
    tokens: list[list[int]]
    masked: list[bool]
    seen: list[list[int]]
    offsets: list[int]
    sentence_starts: list[int]
    draws: np.ndarray

    def ids(self, start: int, stop: int) -> list[int]:
        """What the model sees of the words from `start` to `stop`."""
        return [token for ids in self.seen[start:stop] for token in ids]

    def ranges(self, room: int) -> Iterator[tuple[int, int]]:
        """Words that go into one sequence: as many whole sentences as fit into `room` tokens.

        A longer sentence is split between words; a word that is longer is alone.

        Yields:
            The first word of a sequence, and the first one that is not in it.
        """
        start, offsets = 0, self.offsets
        for first, stop in pairwise(self.sentence_starts):
            if offsets[stop] - offsets[start] > room:
                yield start, first
                start = first
            for word in range(first, stop):
                if offsets[word] > offsets[start] and offsets[word + 1] - offsets[start] > room:
                    yield start, word
                    start = word
        yield start, self.sentence_starts[-1]

    def next_sentence(self, word: int) -> list[int]:
        """Ids of the sentence that begins at a word; none if no sentence begins there."""
        at, after = (find(self.sentence_starts, word) for find in (bisect_left, bisect_right))
        if at == after or after == len(self.sentence_starts):
            return []
        return self.ids(word, self.sentence_starts[after])

    def b_start(self, start: int, stop: int, length: int) -> int | None:
        """At which of the ids from word `start` on segment B begins: at a sentence, or nowhere.

        Args:
            stop: the last word at which it may begin.
            length: number of ids of the sequence; neither A nor B is empty.
        """
        first, last = (
            bisect_left(self.sentence_starts, start),
            bisect_right(self.sentence_starts, stop),
        )
        candidates = [
            (int(self.draws[word]), offset)
            for word in self.sentence_starts[first:last]
            if word < len(self.words)
            and 0 < (offset := self.offsets[word] - self.offsets[start]) < length
        ]
        return min(candidates)[1] if candidates else None


@dataclass(frozen=True)
class _Sequence:
    """A sequence with masked words.

    Attributes:
        a, b: ids of the segments, without special tokens; `b` is empty in a single segment.
        masked: (position in the sequence, label, number among its masked words) by token.
        words: (characters, spelling bits) of each masked word.
    """

    document: int
    a: list[int]
    b: list[int]
    masked: list[tuple[int, int, int]]
    words: list[tuple[int, float]]


class MaskedWordSequences:
    """Packs test documents into sequences of one length, for one vocabulary.

    As many whole sentences as fit go into one sequence; a sentence that is longer than a sequence
    is split between words. Example for 11 token positions:

        sentences        a b c d | e f g | h i j k l
        single segments  [CLS] a b c d e f g [SEP]            [CLS] h i j k l [SEP]
        pairs            [CLS] a b c d [SEP] e f g h [SEP]    [CLS] h i j k l [SEP] x y z [SEP]

    Pairs are made as in training (`lib.records.pairs`): they also have the beginning of the next
    sentence (h), as much of it as fits, and B begins at a random sentence (e or h). A single
    sentence at the end of a document has text of another document as B (x y z: the beginning of the
    document before). Of this additional text no word is evaluated here: a masked one is masked, and
    is evaluated in its own sequence. So the words to evaluate are the same in both layouts. Without
    room for a B, a sentence is a single segment.

    Attributes:
        counts: after a pass: masked words (`words`, of them `unknown_words`); words chosen for
            masking that cannot be evaluated because they have more tokens than a sequence
            (`masked_words_too_long`) or none in this vocabulary (`masked_words_without_tokens`);
            `documents` and `examples` (sequences).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int,
        probability: float,
        seed: int,
        pairs: bool = False,
    ) -> None:
        """
        Args:
            length: token positions of a sequence.
            probability: that a word is masked.
            pairs: [CLS] A [SEP] B [SEP] instead of [CLS] A [SEP].
        """
        self._tokenizer, self._length = tokenizer, length
        self._probability, self._seed, self._pairs = probability, seed, pairs
        self._batch_size = max(1, BATCH_POSITIONS // length)
        self._finder = WordFinder()
        self._encode = lru_cache(_MAX_CACHED)(tokenizer.encode)
        self._document_before: list[int] = []
        self.counts: Counter[str] = Counter()

    def batches(self, shards: list[Path], max_sentences: int) -> Iterator[MaskedWordBatch]:
        """Sequences with a masked word, of that many sentences (see `first_documents`)."""
        self.counts = Counter(
            documents=0,
            examples=0,
            words=0,
            unknown_words=0,
            masked_words_too_long=0,
            masked_words_without_tokens=0,
        )
        self._document_before = []
        sequences = (
            sequence
            for number, (document, count) in enumerate(first_documents(shards, max_sentences))
            for sequence in self._sequences(number, document, count)
        )
        while batch := list(islice(sequences, self._batch_size)):
            self.counts["examples"] += len(batch)
            yield self._batch(batch)

    def _sequences(self, number: int, text: bytes, sentences: int) -> Iterator[_Sequence]:
        """The sequences of a document that have a masked word."""
        self.counts["documents"] += 1
        document = self._document(text, sentences)
        special = PAIR_SPECIAL_TOKENS if self._pairs else SINGLE_SPECIAL_TOKENS
        for start, stop in document.ranges(self._length - special):
            if any(document.masked[start:stop]):
                ids = document.ids(start, stop)
                a, b = self._pair(document, start, stop, ids) if self._pairs else (ids, [])
                yield self._sequence(number, document, range(start, stop), a, b)
        self._document_before = document.ids(0, self._length) or self._document_before

    def _document(self, text: bytes, sentences: int) -> _Document:
        lines = [self._finder.words(line) for line in text.decode().split("\n")[:sentences]]
        words = [word for line in lines for word in line]
        masked = masked_words(text, len(words), self._probability, self._seed).tolist()
        tokens = self._tokens(text, lines, masked)
        for index in np.flatnonzero(masked).tolist():
            masked[index] = words[index] not in SPECIAL_TOKENS and self._can_mask(tokens[index])
        seen = [
            [self._tokenizer.mask_id] * len(ids)
            if is_masked
            else ids[: self._length - SINGLE_SPECIAL_TOKENS]
            for ids, is_masked in zip(tokens, masked, strict=True)
        ]
        return _Document(
            words,
            tokens,
            masked,
            seen,
            list(accumulate(map(len, seen), initial=0)),
            list(accumulate(map(len, lines), initial=0)),
            segment_draws(text, len(words), self._seed),
        )

    def _tokens(self, text: bytes, lines: list[list[str]], masked: list[bool]) -> list[list[int]]:
        """The ids of the words of each line."""
        tokenizer = self._tokenizer
        if not isinstance(tokenizer, LibraryTokenizer):
            return [self._encode(word) for words in lines for word in words]
        found: list[list[int]] = []
        for line, words in zip(text.decode().split("\n"), lines, strict=False):
            own = masked[len(found) : len(found) + len(words)]
            found += word_tokens(tokenizer, line, words, own)
        return found

    def _pair(
        self, document: _Document, start: int, stop: int, ids: list[int]
    ) -> tuple[list[int], list[int]]:
        """Segments A and B of the words from `start` to `stop`; see the class."""
        room = max(0, self._length - PAIR_SPECIAL_TOKENS - len(ids))
        ids = ids + document.next_sentence(stop)[:room]
        b_start = document.b_start(start, stop, len(ids))
        if b_start is not None:
            return ids[:b_start], ids[b_start:]
        at_end = stop == len(document.words)
        return ids, self._document_before[:room] if at_end else []

    def _sequence(
        self, number: int, document: _Document, words: range, a: list[int], b: list[int]
    ) -> _Sequence:
        masked: list[tuple[int, int, int]] = []
        facts: list[tuple[int, float]] = []
        for index in words:
            if document.masked[index]:
                word, ids = document.words[index], document.tokens[index]
                at = document.offsets[index] - document.offsets[words.start]
                # [CLS] comes before every token, [SEP] before those of B.
                at += 2 if at >= len(a) else 1
                masked += [(at + n, token, len(facts)) for n, token in enumerate(ids)]
                unknown = self._tokenizer.unk_id in ids
                facts.append((len(word), spelling_bits(word) if unknown else 0.0))
                self.counts["words"] += 1
                self.counts["unknown_words"] += unknown
        return _Sequence(number, a, b, masked, facts)

    def _can_mask(self, ids: list[int]) -> bool:
        if not ids:
            self.counts["masked_words_without_tokens"] += 1
        elif len(ids) > self._length - SINGLE_SPECIAL_TOKENS:
            self.counts["masked_words_too_long"] += 1
        else:
            return True
        return False

    def _batch(self, sequences: list[_Sequence]) -> MaskedWordBatch:
        predictions = prediction_slots(self._length, max(len(each.masked) for each in sequences))
        input_ids = np.zeros((self._batch_size, self._length), np.int32)  # [B, S]
        lengths = np.zeros(self._batch_size, np.int32)  # [B]
        b_starts = np.zeros(self._batch_size, np.int32)  # [B]
        shape = self._batch_size, predictions  # [B, P]
        positions, labels = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        words = np.full(shape, -1, np.int32)
        words_before = 0
        for row, sequence in enumerate(sequences):
            ids = [self._tokenizer.cls_id, *sequence.a, self._tokenizer.sep_id]
            b_starts[row] = len(ids)
            if sequence.b:
                ids += [*sequence.b, self._tokenizer.sep_id]
            input_ids[row, : len(ids)] = ids
            lengths[row] = len(ids)
            count = len(sequence.masked)
            own = np.array(sequence.masked).T  # [3, count]
            positions[row, :count], labels[row, :count] = own[:2]
            words[row, :count] = own[2] + words_before
            words_before += len(sequence.words)
        values = [value for sequence in sequences for value in sequence.words]
        return MaskedWordBatch(
            input_ids,
            lengths,
            b_starts,
            positions,
            labels,
            words,
            np.array([each.document for each in sequences for _ in each.words]),
            np.array([characters for characters, _ in values]),
            np.array([bits for _, bits in values]),
        )
