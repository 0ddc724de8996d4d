"""The questions that every model is asked, and its answers as metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.evaluation.evaluator import Evaluator
from lib.evaluation.metrics import OF_HOLES, OF_PAIRS, DocumentSums, PieceScores
from lib.evaluation.nsp_pairs import PairBatch, pair_batches
from lib.evaluation.sequences import HoleBatch, HoleRows
from lib.params import Evaluate, Records
from lib.records.settings import RecordSettings
from lib.run.errors import UserError
from lib.vocab.tokenizer import WordPieceTokenizer

Scorer = Callable[[HoleBatch], PieceScores]


@dataclass(frozen=True)
class HeldOut:
    """Test text, and how it is asked about.

    Attributes:
        shards: its files, in order.
        records: pairs are made as they say, if they say to make pairs at all.
    """

    shards: list[Path]
    tokenizer: WordPieceTokenizer
    settings: Evaluate
    records: Records

    def ask(
        self,
        length: int,
        scorers: Sequence[Scorer],
        see: Callable[[HoleBatch, PieceScores], None] | None = None,
    ) -> tuple[list[DocumentSums], dict[str, int]]:
        """Shows all holes to each scorer, in rows of one length.

        Args:
            see: is also given what the last scorer says.

        Returns:
            The sums of each scorer, and the counts of `HoleRows`.

        Raises:
            UserError: there are no holes.
        """
        rows = HoleRows(self.tokenizer, length, self.settings.masked_lm_prob, self.settings.seed)
        sums = [DocumentSums.of_holes() for _ in scorers]
        for batch in rows.batches(self.shards, self.settings.max_examples):
            for scorer, own in zip(scorers, sums, strict=True):
                scores = scorer(batch)
                own.see(batch, scores)
            if see:
                see(batch, scores)
        if not rows.counts["words"]:
            raise UserError(
                "data/shards/test: no word of it is hidden; raise split.test_fraction or "
                "evaluate.masked_lm_prob"
            )
        return sums, dict(rows.counts)

    def ask_pairs(
        self,
        length: int,
        evaluator: Evaluator,
        see: Callable[[PairBatch, np.ndarray], None] | None = None,
    ) -> DocumentSums:
        """Shows sentence pairs to a model.

        Args:
            see: is also given the answers [N], 0 or 1.
        """
        sums = DocumentSums.of_pairs()
        settings = RecordSettings.from_params(self.records, length)
        share, most, seed = (
            self.settings.masked_lm_prob,
            self.settings.max_examples,
            self.settings.seed,
        )
        for batch in pair_batches(self.shards, self.tokenizer, settings, share, most, seed):
            logs = evaluator.answer(batch.features)[: len(batch.labels)]
            answers = logs.argmax(axis=1)
            sums.add(
                batch.documents,
                pairs=np.ones(len(answers)),
                loss=-logs[np.arange(len(answers)), batch.labels],
                hits=(answers == batch.labels).astype(float),
                random=batch.labels.astype(float),
            )
            if see:
                see(batch, answers)
        return sums

    def metrics(self, length: int, evaluator: Evaluator) -> dict[str, float]:
        """All metrics of a model that is only to be compared: no intervals, no breakdowns."""
        (sums,), _ = self.ask(length, [evaluator.score])
        found = sums.metrics(OF_HOLES)
        if self.records.next_sentence:
            found |= self.ask_pairs(length, evaluator).metrics(OF_PAIRS)
        return found


def named(metrics: dict[str, Any], whose: str) -> dict[str, Any]:
    """The metrics of a baseline under its name: `mlm_loss` to `mlm_loss_initial`."""
    return {f"{name}_{whose}": value for name, value in metrics.items()}
