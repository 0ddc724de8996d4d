"""A complete model directory, with its tokenizer, loaded by transformers 5."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.huggingface import write_model  # noqa: E402
from lib.evaluation.evaluator import Evaluator  # noqa: E402
from lib.vocab.export import write_tokenizer  # noqa: E402
from lib.vocab.loading import load_tokenizer  # noqa: E402
from lib.vocab.settings import SPECIAL_TOKENS  # noqa: E402
from tests.helpers.tiny_bert import TINY, random_weights  # noqa: E402

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "##s", "##ting", "dog", "ran", "."]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    vocabulary = [*SPECIAL_TOKENS, *WORDS]
    config = replace(TINY, vocab_size=len(vocabulary))
    weights = random_weights(1, config, 0.3)
    write_model(folder, config, weights, {"pad_token_id": 0})
    write_tokenizer(folder, vocabulary, True, True, 24)
    return folder, config, weights


def test_fill_mask_gives_our_probabilities(directory):
    folder, config, weights = directory
    fill = transformers.pipeline("fill-mask", model=str(folder))
    theirs = {
        guess["token_str"].replace(" ", ""): guess["score"]
        for guess in fill("The cat [MASK] on a mat.", top_k=5)
    }
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode("The cat [MASK] on a mat.")
    sequence = [tokenizer.cls_id, *ids, tokenizer.sep_id]
    evaluator, position = Evaluator(config, weights), sequence.index(tokenizer.mask_id)
    best = evaluator.top_tokens(sequence, position, 5, config.vocab_size, length=24)
    assert len(theirs) == 5
    for index, probability in best:
        assert theirs[tokenizer.vocabulary[index]] == pytest.approx(probability, abs=1e-5)


def test_auto_classes_load_without_missing_tensors(directory):
    folder, _, _ = directory
    model, report = transformers.AutoModelForPreTraining.from_pretrained(
        folder, output_loading_info=True
    )
    assert isinstance(model, transformers.BertForPreTraining)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    masked = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    encoded = transformers.AutoTokenizer.from_pretrained(folder)("a dog ran.", return_tensors="pt")
    assert encoded["input_ids"].tolist()[0][1:-1] == load_tokenizer(folder).encode("a dog ran.")
    assert masked(**encoded).logits.shape[-1] == len(WORDS) + 5


def test_added_words_have_the_ids_that_transformers_gives_them(tmp_path):
    (tmp_path / "base").mkdir()
    write_tokenizer(tmp_path / "base", [*SPECIAL_TOKENS, *WORDS], True, True, 24)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    assert theirs.add_tokens(["covid", "sars"]) == 2
    theirs.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert ours.vocabulary[-2:] == ["covid", "sars"]
    for text in ("the covid, a cats sars.", "sars covid", "Covid SARS ran"):
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == expected, text
