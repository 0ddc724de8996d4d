"""Fill-mask examples: test sentences with one masked word, and the most likely tokens for it."""

from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path

from lib.evaluation.evaluator import Evaluator
from lib.evaluation.unigram import Unigram
from lib.run import random
from lib.text.documents import read_corpus
from lib.vocab.tokenizer import Tokenizer

_MAX_DOCUMENTS = 200
_MIN_TOKENS, _MAX_TOKENS = 8, 40
_TOP_K = 5


def example_sentences(shards: list[Path]) -> Iterator[str]:
    """The first sentence of each of many documents, then the second of each, and so on."""
    documents = islice((text for path in shards for text in read_corpus(path)), _MAX_DOCUMENTS)
    lines = [document.decode().splitlines() for document in documents]
    for sentences in zip_longest(*lines, fillvalue=""):
        yield from filter(None, sentences)


def fill_mask_examples(
    evaluator: Evaluator,
    tokenizer: Tokenizer,
    unigram: Unigram,
    sentences: Iterable[str],
    count: int,
    seed: int,
) -> list[dict[str, object]]:
    """Masks one word in each of the first `count` sentences that have a suitable one.

    Guesses are the most likely tokens with their probabilities, the best first.
    """
    vocabulary = tokenizer.vocabulary
    length = min(_MAX_TOKENS + 2, evaluator.config.max_position_embeddings)
    examples: list[dict[str, object]] = []
    for number, sentence in enumerate(sentences):
        if len(examples) == count:
            break
        marked, _ = tokenizer.encode_marked_lines(sentence)
        ids = tokenizer.encode(sentence)
        tokens = [tokenizer.text_of(vocabulary[token_id]) for token_id in ids]
        continues = tokenizer.continues_word(marked).tolist()
        continued = [*continues[1:], False]
        # Words that are one token of letters, in Latin script of at least four: in other scripts a
        # word may well have one character.
        candidates = [
            position
            for position, token in enumerate(tokens)
            if token.isalpha() and (len(token) >= 4 or not token.isascii())
            if not continued[position] and not continues[position]
        ]
        if not _MIN_TOKENS <= len(ids) <= length - 2 or not candidates:
            continue
        draw = random.generator(seed, "hole", number)  # The purpose is part of the results.
        position = candidates[int(draw.integers(len(candidates)))]
        masked = [tokenizer.cls_id, *ids, tokenizer.sep_id]
        masked[position + 1] = tokenizer.mask_id
        best = evaluator.top_tokens(masked, position + 1, _TOP_K, len(vocabulary), length)
        tokens[position] = "____"
        examples.append(
            {
                "sentence": _joined(tokens, continues),
                "word": tokenizer.text_of(vocabulary[ids[position]]),
                "guesses": [tokenizer.display(vocabulary[token_id]) for token_id, _ in best],
                "probabilities": [round(probability, 4) for _, probability in best],
                "unigram_guess": tokenizer.display(vocabulary[unigram.top]),
            }
        )
    return examples


def _joined(tokens: list[str], continues: list[bool]) -> str:
    """The words of a sentence, with a space between any two."""
    return "".join(
        token if continued else f" {token}"
        for token, continued in zip(tokens, continues, strict=True)
    ).strip()
