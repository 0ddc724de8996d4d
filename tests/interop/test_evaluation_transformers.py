"""Metrics of evaluate against PyTorch, transformers and the rule in docs/evaluation.md."""

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)
from tokenizers.normalizers import BertNormalizer  # noqa: E402
from tokenizers.pre_tokenizers import BertPreTokenizer  # noqa: E402

from lib.checkpoints.huggingface import read_model, write_model  # noqa: E402
from lib.evaluation.evaluator import Evaluator  # noqa: E402
from lib.evaluation.held_out import HeldOut  # noqa: E402
from lib.evaluation.metrics import TokenCountCode  # noqa: E402
from lib.evaluation.nsp_pairs import pair_batches  # noqa: E402
from lib.params import parse_params  # noqa: E402
from lib.records.settings import RecordSettings  # noqa: E402
from lib.vocab.export import write_tokenizer  # noqa: E402
from lib.vocab.loading import load_tokenizer  # noqa: E402
from lib.vocab.settings import SPECIAL_TOKENS  # noqa: E402
from tests.helpers.tiny_bert import TINY, random_weights  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = ["the", "cat", "##ting", "café", "sat", "dogs", ".", ",", "中"]
VOCABULARY = [*SPECIAL_TOKENS, *LETTERS, *(f"##{one}" for one in LETTERS), *TOKENS]
WORDS = ["The", "Café", "cat", "sitting", "sat", "dogs", "中文", "ran,", "9", "éclair", "mat"]
LENGTH, PROBABILITY, SEED = 24, 0.2, 7
WORDS_BY_TOKENS = [500, 90, 70, 0, 30]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = replace(TINY, vocab_size=len(VOCABULARY), max_position_embeddings=40)
    write_model(folder, config, random_weights(1, config, 0.4), {"pad_token_id": 0})
    write_tokenizer(folder, VOCABULARY, True, True, 40)
    return folder


@pytest.fixture(scope="module")
def documents() -> list[list[str]]:
    draw = np.random.default_rng(1)
    return [
        [" ".join(draw.choice(WORDS, int(draw.integers(2, 14)))) + "." for _ in range(count)]
        for count in draw.integers(1, 6, 40)
    ]


@pytest.fixture(scope="module")
def shard(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "00000.txt"
    path.write_text("".join("\n".join(lines) + "\n\n" for lines in documents), encoding="utf-8")
    return path


@pytest.fixture(params=[True, False], ids=["pairs", "single segments"])
def held_out(request, model, shard, values) -> HeldOut:
    values["evaluate"] |= {"masked_lm_prob": PROBABILITY, "seed": SEED}
    values["records"] |= {"next_sentence": request.param}
    params = parse_params(values)
    tokenizer = load_tokenizer(model)
    code = TokenCountCode(np.array(WORDS_BY_TOKENS))
    return HeldOut([shard], tokenizer, params.evaluate, params.records, code)


def draw(purpose: str, document: bytes, number: int) -> int:
    """The hash as docs/evaluation.md states it, in whole numbers."""
    mask = (1 << 64) - 1
    purpose += f" of {hashlib.blake2b(document, digest_size=16).hexdigest()}"
    start = hashlib.blake2b(f"{SEED}:{purpose}".encode(), digest_size=16).digest()
    mixed = int.from_bytes(start[:8], "little") + (number + 1) * 0x9E3779B97F4A7C15 & mask
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
    return mixed ^ mixed >> 31


@dataclass
class Word:
    """A word of the text; `starts` if it is the first of its sentence."""

    text: str
    ids: list[int]
    masked: bool
    draw: int
    starts: bool


def words_of(lines, tokenizer) -> list[Word]:
    clean, found = BertNormalizer(True, True, False, False), []
    whole = "".join(f"{line}\n" for line in lines).encode()
    for line in lines:
        texts = [w for w, _ in BertPreTokenizer().pre_tokenize_str(clean.normalize_str(line))]
        for place, text in enumerate(texts):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            masked = draw("hidden words", whole, len(found)) < PROBABILITY * 2**64
            chance = draw("segment B", whole, len(found))
            found.append(Word(text, ids, masked, chance, not place))
    return found


def size_of(words) -> int:
    return sum(len(word.ids) for word in words)


def sequences(documents, tokenizer, pairs: bool):
    """The words of A and of B of every sequence, and those of them to evaluate."""
    room, before = LENGTH - (3 if pairs else 2), []
    for lines in documents:
        document, start = words_of(lines, tokenizer), 0
        while start < len(document):
            # Whole sentences, or else the beginning of one.
            fitting = [
                stop
                for stop in range(start + 1, len(document) + 1)
                if size_of(document[start:stop]) <= room
            ]
            whole = [n for n in fitting if n == len(document) or document[n].starts]
            stop = (whole or fitting)[-1]
            own = document[start:stop]
            a, b = own, []
            if pairs:
                following, at_end = [], stop == len(document)
                if not at_end and document[stop].starts:
                    end = next(
                        (n for n in range(stop + 1, len(document)) if document[n].starts),
                        len(document),
                    )
                    following = document[stop:end] if size_of(own) < room else []
                begins = [n for n, word in enumerate([*own, *following[:1]]) if n and word.starts]
                if begins:
                    at = min(begins, key=lambda n: [*own, *following][n].draw)
                    a, b = [*own, *following][:at], [*own, *following][at:]
                elif at_end and size_of(own) < room:
                    b = before
            yield a, b, own
            start = stop
        before = document


def model_input(tokenizer, a, b, own, revealed: int):
    """Ids and segments with the first tokens of words revealed, and the words' positions."""
    ids, kinds, positions = [tokenizer.cls_token_id], [0], []
    for kind, words in ((0, a), (1, b)):
        for word in words:
            shown = word.ids
            if word.masked:
                evaluated = any(word is each for each in own)
                seen = revealed if evaluated else 0
                if evaluated:
                    positions.append(range(len(ids), len(ids) + len(shown)))
                shown = shown[:seen] + [tokenizer.mask_token_id] * len(shown[seen:])
            ids, kinds = ids + shown, kinds + [kind] * len(shown)
        if words:
            # Text that does not fit is cut.
            end = LENGTH - (1 if kind or not b else 2)
            ids = [*ids[:end], tokenizer.sep_token_id]
            kinds = [*kinds[:end], kind]
    return ids, kinds, positions


@pytest.mark.slow
def test_masked_words_are_scored_as_transformers_scores_them(model, documents, held_out):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    theirs = transformers.BertForMaskedLM.from_pretrained(model).eval()
    losses, top_1, top_5, bits, characters, correct, unknown_words = [], [], [], 0.0, 0, [], 0
    code_bits, pairs, words_in_b = 0.0, held_out.records.next_sentence, 0

    def predict(sequence, revealed: int):
        ids, kinds, positions = model_input(tokenizer, *sequence, revealed)
        assert len(ids) <= LENGTH
        inputs = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([kinds])}
        with torch.no_grad():
            return theirs(**inputs).logits[0].double(), positions  # [S, V]

    for sequence in sequences(documents, tokenizer, pairs):
        _, b, own = sequence
        logits, places = predict(sequence, 0)
        masked = [word for word in own if word.masked]
        words_in_b += sum(any(word is each for each in b) for word in masked)
        for step in range(max((len(word.ids) for word in masked), default=0)):
            ordered = predict(sequence, step)[0] if step else logits
            for word, positions in zip(masked, places, strict=True):
                if step < len(word.ids):
                    logs = torch.log_softmax(ordered[positions[step]], -1)
                    code_bits -= logs[word.ids[step]].item() / math.log(2)
        for word, positions in zip(masked, places, strict=True):
            labels = word.ids
            logs = torch.log_softmax(logits[list(positions)], -1)
            costs = -logs[range(len(labels)), labels]
            best = logs.topk(5).indices
            losses += costs.tolist()
            top_1 += (best[:, 0] == torch.tensor(labels)).tolist()
            top_5 += (best == torch.tensor(labels)[:, None]).any(1).tolist()
            unknown = tokenizer.unk_token_id in labels
            correct.append(bool((best[:, 0] == torch.tensor(labels)).all()) and not unknown)
            bits += costs.sum().item() / math.log(2)
            known = WORDS_BY_TOKENS[len(labels) - 1] if len(labels) <= len(WORDS_BY_TOKENS) else 0
            code_bits -= math.log2((known + 2 ** -len(labels)) / (sum(WORDS_BY_TOKENS) + 1))
            if unknown:
                spelling = 8 * (len(word.text.encode()) + 1)
                bits, code_bits = bits + spelling, code_bits + spelling
                unknown_words += 1
            characters += len(word.text)
    assert unknown_words > 3 and len(correct) > 100 and (words_in_b > 10) == pairs
    ours = held_out.sums(Evaluator(*read_model(model)), LENGTH).metrics()
    expected = {
        "mlm_loss": np.mean(losses),
        "mlm_perplexity": math.exp(np.mean(losses)),
        "mlm_accuracy": np.mean(top_1),
        "mlm_accuracy_at_5": np.mean(top_5),
        "bits_per_character": bits / characters,
        "code_length_per_character": code_bits / characters,
        "word_accuracy": np.mean(correct),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("held_out", [True], indirect=True)
def test_pairs_are_scored_as_transformers_scores_them(model, shard, held_out):
    theirs = transformers.BertForNextSentencePrediction.from_pretrained(model).eval()
    settings = RecordSettings.from_params(held_out.records, LENGTH)
    losses, correct = [], []
    max_pairs = held_out.settings.max_examples
    tokenizer = held_out.tokenizer
    for batch in pair_batches([shard], tokenizer, settings, PROBABILITY, max_pairs, SEED):
        features = {name: torch.tensor(own) for name, own in batch.features.items()}
        with torch.no_grad():
            logits = theirs(
                input_ids=features["input_ids"],
                attention_mask=features["input_mask"],
                token_type_ids=features["segment_ids"],
            ).logits[: len(batch.labels)]
        labels = torch.tensor(batch.labels)
        losses += torch.nn.functional.cross_entropy(logits, labels, reduction="none").tolist()
        correct += (logits.argmax(-1) == labels).tolist()
    ours = held_out.sums(Evaluator(*read_model(model)), LENGTH).metrics()
    assert len(losses) > 50
    assert ours["nsp_loss"] == pytest.approx(np.mean(losses), abs=1e-4)
    assert ours["nsp_accuracy"] == pytest.approx(np.mean(correct))
