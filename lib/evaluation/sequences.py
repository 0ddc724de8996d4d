"""Test documents as input sequences of a model, with some of their words masked.

Shapes: B sequences per batch, S token positions per sequence, P masked tokens per sequence at most,
W masked words per batch.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, repeat
from pathlib import Path

import numpy as np

from lib.evaluation.masked_words import WordFinder, masked_words, segment_draws
from lib.evaluation.metrics import MaskedWordScores, TokenCountCode, TokenScores
from lib.records.pairs import PAIR_SPECIAL_TOKENS, SINGLE_SPECIAL_TOKENS
from lib.text.documents import read_corpus
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer

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
        """The predictions of a model by word.

        Args:
            scores: [B, P].
            left_to_right: float64 [B, P]: see `lib.evaluation.code_length.left_to_right_losses`.
        """
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


@dataclass
class _Sequence:
    """A sequence that is being filled, without [CLS] and [SEP].

    Attributes:
        masked: (index, label, number among the sequence's masked words) by token.
        words: (characters, spelling bits) of each masked word.
        b_start: (0 at the start of a sentence, else 1; draw; index) of the first token of segment
            B: the lowest of those at which it can begin.
    """

    ids: list[int]
    document: int
    masked: list[tuple[int, int, int]] = field(default_factory=list)
    words: list[tuple[int, float]] = field(default_factory=list)
    b_start: tuple[int, int, int] | None = None


class MaskedWordSequences:
    """Packs test documents into sequences of one length, for one vocabulary.

    As many whole sentences as fit go into one sequence; a sentence that is longer than a sequence
    is split between words. Example for 10 token positions (8 without [CLS] and [SEP]):

        sentences        a b c d | e f g | h i j k
        single segments  [CLS] a b c d e f g [SEP]          then    [CLS] h i j k [SEP]
        pairs            [CLS] a b c d [SEP] e f g [SEP]    then    [CLS] h i [SEP] j k [SEP]

    In a pair, B begins at a random sentence, as in training (see `lib.records.pairs`); where the
    sequence is a single sentence, at a random word. A single word has no B.

    Attributes:
        counts: after a pass: masked words (`words`, of them `unknown_words`); words chosen for
            masking that cannot be evaluated because they have more tokens than a sequence
            (`masked_words_too_long`) or none in this vocabulary (`masked_words_without_tokens`);
            `documents` and `examples` (sequences).
    """

    def __init__(
        self,
        tokenizer: WordPieceTokenizer,
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
        sequences = (
            sequence
            for number, (document, count) in enumerate(first_documents(shards, max_sentences))
            for sequence in self._sequences(number, document, count)
            if sequence.masked
        )
        while batch := list(islice(sequences, self._batch_size)):
            self.counts["examples"] += len(batch)
            yield self._batch(batch)

    def _sequences(self, number: int, document: bytes, sentences: int) -> Iterator[_Sequence]:
        self.counts["documents"] += 1
        lines = document.decode().split("\n")[:sentences]
        words = [self._finder.words(line) for line in lines]
        total = sum(map(len, words))
        masked = iter(masked_words(document, total, self._probability, self._seed).tolist())
        draws = repeat(0)
        if self._pairs:
            draws = iter(segment_draws(document, total, self._seed).tolist())
        longest_word = self._length - SINGLE_SPECIAL_TOKENS
        room = self._length - PAIR_SPECIAL_TOKENS if self._pairs else longest_word
        sequence = _Sequence([], number)
        for sentence in words:
            tokens = [self._encode(word) for word in sentence]
            if len(sequence.ids) + sum(map(len, tokens)) > room:
                yield sequence
                sequence = _Sequence([], number)
            within_sentence = 0
            for word, ids in zip(sentence, tokens, strict=True):
                if sequence.ids and len(sequence.ids) + len(ids) > room:
                    yield sequence
                    sequence = _Sequence([], number)
                draw = next(draws)
                if ids and sequence.ids:
                    here = within_sentence, draw, len(sequence.ids)
                    sequence.b_start = min(sequence.b_start or here, here)
                within_sentence = within_sentence or int(bool(ids))
                if next(masked) and word not in SPECIAL_TOKENS and self._can_mask(ids):
                    self._mask(sequence, word, ids)
                else:
                    sequence.ids.extend(ids[:longest_word])
        yield sequence

    def _can_mask(self, ids: list[int]) -> bool:
        if not ids:
            self.counts["masked_words_without_tokens"] += 1
        elif len(ids) > self._length - SINGLE_SPECIAL_TOKENS:
            self.counts["masked_words_too_long"] += 1
        else:
            return True
        return False

    def _mask(self, sequence: _Sequence, word: str, ids: list[int]) -> None:
        unknown = self._tokenizer.unk_id in ids
        self.counts["words"] += 1
        self.counts["unknown_words"] += unknown
        for token in ids:
            sequence.masked.append((len(sequence.ids), token, len(sequence.words)))
            sequence.ids.append(self._tokenizer.mask_id)
        sequence.words.append((len(word), spelling_bits(word) if unknown else 0.0))

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
            index, label, word = np.array(sequence.masked).T  # [3, count]
            a_length = len(sequence.ids)
            if self._pairs and sequence.b_start:
                a_length = sequence.b_start[-1]
            a, b = sequence.ids[:a_length], sequence.ids[a_length:]
            ids = [self._tokenizer.cls_id, *a, self._tokenizer.sep_id]
            b_starts[row] = len(ids)
            if b:
                ids += [*b, self._tokenizer.sep_id]
            input_ids[row, : len(ids)] = ids
            lengths[row] = len(ids)
            # [CLS] comes before every token, [SEP] before those of B.
            positions[row, : len(index)] = index + 1 + (index >= a_length)
            labels[row, : len(index)] = label
            words[row, : len(index)] = word + words_before
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
