"""Held-out evaluation: every model on the same masked words and sentence pairs of test text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lib.evaluation.breakdowns import Breakdowns
from lib.evaluation.code_length import MlmPredictor, left_to_right_losses
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.masked_words import document_digest
from lib.evaluation.metrics import (
    MLM_METRICS,
    NSP_METRICS,
    RANDOM_PAIRS,
    PairScores,
    TokenCountCode,
)
from lib.evaluation.nsp_pairs import pair_batches
from lib.evaluation.sequences import MaskedWordSequences
from lib.evaluation.sums import DocumentSums, ModelSums
from lib.evaluation.unigram import Unigram
from lib.params import Evaluate, Records
from lib.records.settings import RecordSettings
from lib.run.errors import UserError
from lib.text.documents import read_corpus
from lib.vocab.tokenizer import Tokenizer

# Batches of masked words whose later passes share batches (see `lib.evaluation.code_length`).
_BATCHES_PER_WINDOW = 16


@dataclass(frozen=True)
class HeldOut:
    """Test text and how models are evaluated on it.

    Attributes:
        shards: files of test text, in order.
        records: how sentence pairs are made. With `next_sentence`, masked words are in pairs too,
            since the model was trained on pairs.
        count_code: of the numbers of tokens of words.
    """

    shards: list[Path]
    tokenizer: Tokenizer
    settings: Evaluate
    records: Records
    count_code: TokenCountCode

    def with_unigram(
        self, evaluator: Evaluator, unigram: Unigram, breakdowns: Breakdowns | None, length: int
    ) -> tuple[ModelSums, ModelSums, Counter[str]]:
        """The sums of a model and of the unigram baseline, and the counts of both.

        Args:
            breakdowns: collects the predictions of the model.
        """
        (by_frequency, mlm), counts = self.evaluate_mlm(
            [unigram.predict_mlm, evaluator.predict_mlm], length, breakdowns
        )
        own = ModelSums(mlm)
        if self.records.next_sentence:
            own = ModelSums(mlm, self.evaluate_nsp(evaluator, length, breakdowns))
        return own, ModelSums(by_frequency), Counter(counts)

    def sums(self, evaluator: Evaluator, length: int) -> ModelSums:
        """The totals per document of a model on sequences of one length."""
        (mlm,), _ = self.evaluate_mlm([evaluator.predict_mlm], length)
        nsp = self.evaluate_nsp(evaluator, length) if self.records.next_sentence else None
        return ModelSums(mlm, nsp)

    def digests(self, documents: int) -> list[str]:
        """Digests of the first documents, in the order in which sums number them."""
        texts = (document for path in self.shards for document in read_corpus(path))
        return [document_digest(text) for text in islice(texts, documents)]

    def evaluate_mlm(
        self,
        predictors: Sequence[MlmPredictor],
        length: int,
        breakdowns: Breakdowns | None = None,
    ) -> tuple[list[DocumentSums], dict[str, int]]:
        """Evaluates predictors on the masked words, in one pass over the text.

        Args:
            breakdowns: collects the predictions of the last predictor.

        Returns:
            The sums of each predictor, and the counts of `MaskedWordSequences`.
        """
        settings = self.settings
        sequences = MaskedWordSequences(
            self.tokenizer,
            length,
            settings.masked_lm_prob,
            settings.seed,
            self.records.next_sentence,
        )
        sums = [DocumentSums(MLM_METRICS) for _ in predictors]
        batches = sequences.batches(self.shards, settings.max_examples)
        while window := list(islice(batches, _BATCHES_PER_WINDOW)):
            scores = [[predict(batch) for batch in window] for predict in predictors]
            losses = left_to_right_losses(predictors, window, scores)
            for own, own_scores, own_losses in zip(sums, scores, losses, strict=True):
                for batch, score, loss in zip(window, own_scores, own_losses, strict=True):
                    words = batch.word_scores(score, loss, self.count_code)
                    own.update(batch.documents, words)
            if breakdowns:
                for batch, last in zip(window, scores[-1], strict=True):
                    breakdowns.update(batch, last)
        if not sequences.counts["words"]:
            raise UserError(
                "data/shards/test: none of its words is masked; raise split.test_fraction or "
                "evaluate.masked_lm_prob"
            )
        return sums, dict(sequences.counts)

    def evaluate_nsp(
        self, evaluator: Evaluator, length: int, breakdowns: Breakdowns | None = None
    ) -> DocumentSums:
        """Evaluates a model on sentence pairs; `breakdowns` collects its predictions."""
        sums = DocumentSums(NSP_METRICS, [RANDOM_PAIRS])
        settings = self.settings
        for batch in pair_batches(
            self.shards,
            self.tokenizer,
            RecordSettings.from_params(self.records, length),
            settings.masked_lm_prob,
            settings.max_examples,
            settings.seed,
        ):
            logs = evaluator.predict_nsp(batch.features)[: len(batch.labels)]  # [B, 2] -> [N, 2]
            scores = PairScores(batch.labels, logs)
            sums.update(batch.documents, scores)
            if breakdowns:
                breakdowns.update_pairs(scores)
        return sums
