"""The code length of masked words: a number that compares models with any vocabularies.

Bits per character adds up -log2 p of all tokens of a word, all masked at once. The number of [MASK]
tokens then gives away how many tokens the word has, and nothing is charged for that. The more
tokens a vocabulary splits words into, the more is given away. And the tokens are predicted
independently, although the later ones depend on the first ones.

Here the masked words are encoded such that a decoder, which has the visible text, the model, its
vocabulary and the frequencies of `TokenCountCode`, can recover them:

1. For each word, its number of tokens, by frequency in training text.
2. The first token of each word, given the visible text and [MASK] for every token of these words.
3. The second token of each word that has one, given the first token of all words; and so on. In
   pass j (from 0), the model sees the first j tokens of every word, and predicts token j.

Example: *river* (`riv` `##er`), *bank* and *overgrown* (`over` `##grow` `##n`) are masked.

    pass 0    the [MASK] [MASK] has a [MASK] that is [MASK] [MASK] [MASK]     riv, bank, over
    pass 1    the  riv   [MASK] has a  bank  that is  over  [MASK] [MASK]     ##er, ##grow
    pass 2    the  riv    ##er  has a  bank  that is  over  ##grow [MASK]     ##n

Each prediction depends on nothing that the decoder does not know by then, so the sum of the costs
is the length of a code, and a model of words that is exact has exactly their entropy, however they
are split. It is PLL-word-l2r of Kauf and Ivanova (2023), "A Better Way to Do Masked Language Model
Scoring", with several words masked at once, as in training, and with the number of tokens charged.

Pass 0 is what bits per character needs anyway. Sequences without a word of more than j tokens are
left out of pass j, and sequences of all passes share batches.

Shapes: B sequences per batch, S token positions per sequence, P masked tokens per sequence at most,
N sequences of all batches.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lib.evaluation.metrics import TokenScores
from lib.evaluation.sequences import MaskedTokens, MaskedWordBatch, prediction_slots

MlmPredictor = Callable[[MaskedTokens], TokenScores]


def left_to_right_losses(
    predictors: Sequence[MlmPredictor],
    batches: Sequence[MaskedWordBatch],
    scores: Sequence[Sequence[TokenScores]],
) -> list[list[np.ndarray]]:
    """Loss of each masked token given the tokens before it in its word; see the module.

    Args:
        batches: the more there are, the fuller are the batches of the later passes.
        scores: the predictions of each predictor for each batch, which are pass 0.

    Returns:
        For each predictor and batch float64 [B, P], in nats; 0 beyond the masked tokens.
    """
    slots = max(batch.words.shape[1] for batch in batches)
    labels, positions, words = (
        np.concatenate([_pad(getattr(batch, name), slots, fill) for batch in batches])  # [N, P]
        for name, fill in (("labels", 0), ("positions", 0), ("words", -1))
    )
    input_ids, lengths, b_starts = (
        np.concatenate([getattr(batch, name) for batch in batches])  # [N, S], [N], [N]
        for name in ("input_ids", "lengths", "b_starts")
    )
    numbers = _token_numbers(words)  # [N, P]
    losses = [
        np.where(numbers >= 0, np.concatenate([_pad(each.losses, slots, 0) for each in own]), 0.0)
        for own in scores
    ]
    # A sequence takes part in passes 1 to the highest number of one of its tokens.
    last_passes = numbers.max(axis=1).clip(0)  # [N]
    rows = np.repeat(np.arange(len(numbers)), last_passes)
    passes = np.arange(len(rows)) - np.repeat(np.cumsum(last_passes) - last_passes, last_passes) + 1
    size, length = batches[0].input_ids.shape
    for start in range(0, len(rows), size):
        own, step = rows[start : start + size], passes[start : start + size, np.newaxis]
        used = prediction_slots(length, int((numbers[own] >= 0).sum(axis=1).max()))
        number = numbers[own, :used]  # [up to B, P]
        ids = input_ids[own]
        row, column = np.nonzero((number >= 0) & (number < step))
        ids[row, positions[own[row], column]] = labels[own[row], column]
        unused = size - len(own)
        batch = MaskedTokens(
            np.pad(ids, ((0, unused), (0, 0))),
            np.pad(lengths[own], (0, unused)),
            np.pad(b_starts[own], (0, unused)),
            *(
                np.pad(values[own, :used], ((0, unused), (0, 0)), constant_values=fill)
                for values, fill in ((positions, 0), (labels, 0), (words, -1))
            ),
        )
        row, column = np.nonzero(number == step)
        for predict, found in zip(predictors, losses, strict=True):
            found[own[row], column] = predict(batch).losses[row, column]
    return [
        [
            found[index * size : (index + 1) * size, : batch.words.shape[1]]
            for index, batch in enumerate(batches)
        ]
        for found in losses
    ]


def _token_numbers(words: np.ndarray) -> np.ndarray:
    """int64 [N, P]: which token of its word a token is, from 0; -1 beyond the masked tokens."""
    columns = np.arange(words.shape[1])
    is_first = np.diff(words, axis=1, prepend=-1) != 0  # [N, P]
    first = np.maximum.accumulate(np.where(is_first, columns, 0), axis=1)  # [N, P]
    return np.where(words >= 0, columns - first, -1)


def _pad(values: np.ndarray, slots: int, fill: int) -> np.ndarray:
    """[B, fewer] -> [B, slots]."""
    return np.pad(values, ((0, 0), (0, slots - values.shape[1])), constant_values=fill)
