"""Metrics of evaluate against PyTorch, transformers and the rule in docs/evaluation.md."""

import hashlib
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)
from tokenizers.normalizers import BertNormalizer  # noqa: E402
from tokenizers.pre_tokenizers import BertPreTokenizer  # noqa: E402

from lib.checkpoints.huggingface import write_model  # noqa: E402
from lib.evaluation.evaluator import load_evaluator  # noqa: E402
from lib.evaluation.held_out import HeldOut  # noqa: E402
from lib.evaluation.nsp_pairs import pair_batches  # noqa: E402
from lib.model.config import BertConfig  # noqa: E402
from lib.model.parameters import initial_values  # noqa: E402
from lib.params import parse_params  # noqa: E402
from lib.records.settings import RecordSettings  # noqa: E402
from lib.vocab.export import write_tokenizer  # noqa: E402
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = ["the", "cat", "##ting", "café", "sat", "dogs", ".", ",", "中"]
VOCABULARY = [*SPECIAL_TOKENS, *LETTERS, *(f"##{one}" for one in LETTERS), *TOKENS]
WORDS = ["The", "Café", "cat", "sitting", "sat", "dogs", "中文", "ran,", "9", "éclair", "mat"]
LENGTH, PROBABILITY, SEED = 24, 0.2, 7


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = BertConfig(len(VOCABULARY), 16, 2, 2, 32, "gelu", 0.1, 0.1, 40)
    draw = np.random.default_rng(0)
    weights = {
        name: (array + draw.normal(0, 0.4, array.shape)).astype(np.float32)
        for name, array in initial_values(config, 1).items()
    }
    write_model(folder, config, weights, {"pad_token_id": 0})
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


@pytest.fixture
def held_out(model, shard, values) -> HeldOut:
    values["evaluate"] |= {"masked_lm_prob": PROBABILITY, "seed": SEED}
    params = parse_params(values)
    tokenizer = WordPieceTokenizer.load(model)
    return HeldOut([shard], tokenizer, params.evaluate, params.records)


def is_masked(document: bytes, number: int) -> bool:
    """The rule as docs/evaluation.md states it, in whole numbers."""
    mask = (1 << 64) - 1
    purpose = f"hidden words of {hashlib.blake2b(document, digest_size=16).hexdigest()}"
    start = hashlib.blake2b(f"{SEED}:{purpose}".encode(), digest_size=16).digest()
    mixed = int.from_bytes(start[:8], "little") + (number + 1) * 0x9E3779B97F4A7C15 & mask
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
    return (mixed ^ mixed >> 31) < PROBABILITY * 2**64


def sequences(documents, tokenizer):
    """(ids with [MASK], [(positions, labels, word)]) of every sequence, filled word by word."""
    clean = BertNormalizer(True, True, False, False)
    for lines in documents:
        whole = "".join(f"{line}\n" for line in lines).encode()
        number, ids, masked = 0, [], []
        for line in lines:
            words = [w for w, _ in BertPreTokenizer().pre_tokenize_str(clean.normalize_str(line))]
            tokens = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
            if len(ids) + sum(map(len, tokens)) > LENGTH - 2:
                yield ids, masked
                ids, masked = [], []
            for word, own in zip(words, tokens, strict=True):
                if len(ids) + len(own) > LENGTH - 2:
                    yield ids, masked
                    ids, masked = [], []
                if is_masked(whole, number):
                    masked.append((range(len(ids) + 1, len(ids) + 1 + len(own)), own, word))
                    own = [tokenizer.mask_token_id] * len(own)
                ids = ids + own
                number += 1
        yield ids, masked


def test_masked_words_are_scored_as_transformers_scores_them(model, documents, held_out):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    theirs = transformers.BertForMaskedLM.from_pretrained(model).eval()
    losses, top_1, top_5, bits, characters, correct, unknown_words = [], [], [], 0.0, 0, [], 0
    for ids, masked in sequences(documents, tokenizer):
        inputs = torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])
        assert inputs.shape[1] <= LENGTH
        with torch.no_grad():
            logits = theirs(inputs).logits[0].double()  # [S, V]
        for positions, labels, word in masked:
            logs = torch.log_softmax(logits[list(positions)], -1)
            own = -logs[range(len(labels)), labels]
            best = logs.topk(5).indices
            losses += own.tolist()
            top_1 += (best[:, 0] == torch.tensor(labels)).tolist()
            top_5 += (best == torch.tensor(labels)[:, None]).any(1).tolist()
            unknown = tokenizer.unk_token_id in labels
            correct.append(bool((best[:, 0] == torch.tensor(labels)).all()) and not unknown)
            bits += own.sum().item() / math.log(2)
            if unknown:
                bits += 8 * (len(word.encode()) + 1)
                unknown_words += 1
            characters += len(word)
    assert unknown_words > 3 and len(correct) > 100
    ours = held_out.evaluate(load_evaluator(model, LENGTH), LENGTH)
    expected = {
        "mlm_loss": np.mean(losses),
        "mlm_perplexity": math.exp(np.mean(losses)),
        "mlm_accuracy": np.mean(top_1),
        "mlm_accuracy_at_5": np.mean(top_5),
        "bits_per_character": bits / characters,
        "word_accuracy": np.mean(correct),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name


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
    ours = held_out.evaluate(load_evaluator(model, LENGTH), LENGTH)
    assert len(losses) > 50
    assert ours["nsp_loss"] == pytest.approx(np.mean(losses), abs=1e-4)
    assert ours["nsp_accuracy"] == pytest.approx(np.mean(correct))
