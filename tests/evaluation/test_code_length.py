"""The code length of masked words: exact for an exact model, and made of the right predictions."""

import math
from collections import Counter

import numpy as np
import pytest

from lib.evaluation.code_length import left_to_right_losses
from lib.evaluation.held_out import HeldOut
from lib.evaluation.metrics import TokenCountCode, TokenScores
from lib.evaluation.sequences import MaskedTokens, MaskedWordSequences
from lib.params import parse_params
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from tests.helpers.held_out import LARGE, PROBABILITY, SEED, SMALL, all_batches, write_shard


class Language:
    """Words drawn independently; the text has each exactly as often as its probability says."""

    def __init__(self, words: int, letters: str) -> None:
        draw = np.random.default_rng(3)
        found: dict[str, None] = {}
        while len(found) < words:
            found["".join(draw.choice(list(letters), int(draw.integers(1, 13))))] = None
        counts = np.ceil(0.2 * words / np.arange(1, words + 1)).astype(int)
        self.counts = dict(zip(found, counts.tolist(), strict=True))
        self.text = draw.permutation(np.repeat(list(found), counts)).tolist()
        fractions = counts / counts.sum()
        self.entropy = -float(fractions @ np.log2(fractions))
        self.characters = sum(map(len, self.text))

    def vocabulary(self, size: int) -> WordPieceTokenizer:
        """All letters and the most frequent substrings."""
        letters = sorted({letter for word in self.counts for letter in word})
        substrings: Counter[str] = Counter()
        for word, count in self.counts.items():
            for start in range(len(word)):
                for stop in range(start + 1, len(word) + 1):
                    substrings[("##" if start else "") + word[start:stop]] += count
        base = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
        tokens = dict.fromkeys([*base, *(token for token, _ in substrings.most_common(size))])
        return WordPieceTokenizer(list(tokens)[: max(size, len(base))], False, False)


class PerfectModel:
    """Probabilities of tokens given the revealed ones and the number of tokens of the word."""

    def __init__(self, language: Language, tokenizer: WordPieceTokenizer) -> None:
        self._mask_id = tokenizer.mask_id
        self.mass: Counter[tuple] = Counter()
        self.words_by_tokens: Counter[int] = Counter()
        for word, count in language.counts.items():
            ids = tuple(tokenizer.encode(word))
            self.words_by_tokens[len(ids)] += count
            for number in range(len(ids) + 1):
                self.mass[len(ids), ids[:number]] += count
            for number in range(1, len(ids)):
                self.mass[len(ids), number, ids[number]] += count

    def __call__(self, batch: MaskedTokens) -> TokenScores:
        losses = np.zeros(batch.words.shape)
        for row, own in enumerate(batch.words):
            for word in np.unique(own[own >= 0]):
                columns = np.flatnonzero(own == word)
                ids = tuple(batch.labels[row, columns].tolist())
                inputs = batch.input_ids[row, batch.positions[row, columns]]
                revealed = int((inputs != self._mask_id).sum())
                before = self.mass[len(ids), ids[:revealed]]
                mass = [self.mass[len(ids), ids[: revealed + 1]]] if revealed < len(ids) else []
                if not revealed:  # Pass 0 needs the later tokens as well.
                    mass += [self.mass[len(ids), n, ids[n]] for n in range(1, len(ids))]
                for column, own_mass in zip(columns[revealed:], mass, strict=False):
                    losses[row, column] = -math.log(own_mass / before)
        return TokenScores(losses, np.zeros(losses.shape, int), np.ones(losses.shape, int))


@pytest.fixture(scope="module")
def language() -> Language:
    return Language(1700, "abcdefghijklmnopqrst")


@pytest.mark.parametrize("size", [45, 150, 500, 2000, 8000, 30_000])
def test_the_perfect_model_has_exactly_the_entropy(language, size, tmp_path, values):
    values["evaluate"] |= {"masked_lm_prob": 0.9999999, "seed": SEED}
    params = parse_params(values)
    tokenizer = language.vocabulary(size)
    assert len(tokenizer.vocabulary) == size
    text = language.text
    lines = [" ".join(text[start : start + 12]) for start in range(0, len(text), 12)]
    documents = ["\n".join(lines[start : start + 20]) for start in range(0, len(lines), 20)]
    shard = write_shard(tmp_path, documents)
    model = PerfectModel(language, tokenizer)
    counts = [model.words_by_tokens[number] for number in range(1, max(model.words_by_tokens) + 1)]
    # As if counted in a thousand million times as much training text.
    code = TokenCountCode(np.array(counts) * 10**9)
    held_out = HeldOut([shard], tokenizer, params.evaluate, params.records, code)
    (sums,), found = held_out.evaluate_mlm([model], 64)
    assert found["words"] == len(text)
    metrics = sums.metrics()
    exact = language.entropy * len(text) / language.characters
    assert metrics["code_length_per_character"] == pytest.approx(exact, abs=1e-6)
    # Without the charge for the number of tokens, and with tokens predicted independently.
    assert abs(metrics["bits_per_character"] - exact) > 0.01


def test_the_number_of_tokens_costs_what_training_text_says():
    code = TokenCountCode(np.array([6, 0, 2]))
    expected = [(6 + 1 / 2) / 9, (1 / 4) / 9, (2 + 1 / 8) / 9, (1 / 16) / 9]
    numbers = np.arange(1, 3000)
    bits = code.bits(numbers)
    assert bits[:4] == pytest.approx(-np.log2(expected))
    assert bits[-1] == pytest.approx(2999 + math.log2(9))
    assert (2.0 ** -bits[:1000]).sum() == pytest.approx(1)


class Witness:
    """A predictor whose losses depend on all that it sees: on every input, position and label."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self._factors = draw.random((64, 64)), draw.random(200)

    def __call__(self, batch: MaskedTokens) -> TokenScores:
        features = batch.features()
        by_position, by_label = self._factors
        size = batch.input_ids.shape[1]
        seen = (batch.input_ids + 1) * (1 + features["input_mask"] + 2 * features["segment_ids"])
        # [B, S] @ [S, S] -> [B, S] -> [B, P]
        here = np.take_along_axis(np.sin(seen) @ by_position[:size, :size], batch.positions, axis=1)
        losses = 1 + np.sin(7 * here + by_label[batch.labels])
        losses[batch.words < 0] = np.inf
        return TokenScores(losses, np.zeros(losses.shape, int), np.ones(losses.shape, int))


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize(("tokenizer", "length"), [(SMALL, 12), (LARGE, 32), (SMALL, 64)])
def test_every_token_is_predicted_from_the_tokens_before_it(shards, tokenizer, length, pairs):
    """Against passes made for one sequence and one word at a time."""
    batches = all_batches(MaskedWordSequences(tokenizer, length, PROBABILITY, SEED, pairs), shards)
    predict = Witness()
    scores = [predict(batch) for batch in batches]
    (found,) = left_to_right_losses([predict], batches, [scores])
    assert [each.shape for each in found] == [batch.words.shape for batch in batches]
    compared = 0
    for batch, own in zip(batches, found, strict=True):
        assert not own[batch.words < 0].any()
        for row in np.flatnonzero(batch.lengths)[::7]:
            columns = np.flatnonzero(batch.words[row] >= 0)
            words = [
                columns[batch.words[row, columns] == n] for n in set(batch.words[row, columns])
            ]
            for step in range(max(map(len, words))):
                ids = batch.input_ids[row].copy()
                for word in words:
                    ids[batch.positions[row, word[:step]]] = batch.labels[row, word[:step]]
                alone = MaskedTokens(
                    ids[np.newaxis],
                    *(getattr(batch, name)[[row]] for name in ("lengths", "b_starts")),
                    *(getattr(batch, name)[[row]] for name in ("positions", "labels", "words")),
                )
                losses = predict(alone).losses[0]
                for word in words:
                    if step < len(word):
                        assert own[row, word[step]] == pytest.approx(losses[word[step]])
                        compared += 1
    assert compared > 100
