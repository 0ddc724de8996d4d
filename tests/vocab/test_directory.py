"""Tokenizer files: every form in use is read, and anything but a BERT tokenizer is refused."""

import json
import shutil
from pathlib import Path

import pytest
import tokenizers

from lib.run.errors import UserError
from lib.vocab.directory import read_directory, read_vocabulary, refuse_disagreement
from lib.vocab.export import write_tokenizer
from lib.vocab.loading import load_tokenizer
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.sources import existing_tokenizer
from tests.helpers.vocabulary import CASED, UNCASED


def test_directories_of_transformers_4_and_5_and_of_google(tmp_path):
    vocabulary = [*SPECIAL_TOKENS, "a", "##a", "é"]
    write_tokenizer(tmp_path, vocabulary, False, False, 128)
    files = read_directory(tmp_path)
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, False, False)
    (tmp_path / "vocab.txt").unlink()  # as transformers 5 writes it
    files = read_directory(tmp_path)
    assert files.path.name == "tokenizer.json"
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, False, False)
    google = tmp_path / "google"
    google.mkdir()
    (google / "vocab.txt").write_text("\r\n".join([*vocabulary, ""]), encoding="utf-8")
    files = read_directory(google)
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, None, None)
    assert existing_tokenizer("model", google, UNCASED).vocabulary == vocabulary
    assert existing_tokenizer("file", google / "vocab.txt", CASED).vocabulary == vocabulary


def edit(path: Path, change) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_other_tokenizers_than_berts_are_refused(tmp_path):
    def refused(change, message):
        write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a"], True, True, 128)
        change()
        with pytest.raises(UserError, match=message) as caught:
            existing_tokenizer("model", tmp_path, UNCASED)
        assert "\n" not in str(caught.value)

    path, config = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    refused(
        lambda: [(tmp_path / "vocab.txt").unlink(), path.unlink()],
        "missing, and so is tokenizer.json",
    )
    refused(
        lambda: edit(path, lambda values: values["model"].update(type="WordLevel")),
        "model.type should be BPE, Unigram or WordPiece. Received: 'WordLevel'",
    )
    refused(
        lambda: edit(path, lambda values: values["normalizer"].update(clean_text="no")),
        "clean_text",
    )
    refused(
        lambda: edit(
            path, lambda values: values["added_tokens"].append({"content": "[USER]", "id": 99})
        ),
        r"\[USER\]",
    )
    refused(
        lambda: edit(config, lambda values: values.update(do_lower_case=False)),
        "do_lower_case is false, but in tokenizer.json it is true",
    )
    refused(
        lambda: (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n"),
        r"vocab\.txt: .*\[MASK\]",
    )
    refused(lambda: shutil.rmtree(tmp_path), "no such folder")


def test_files_that_are_not_a_vocabulary_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00a")
    for name, message in (("empty.txt", "empty"), ("binary.txt", "UTF-8"), ("none.txt", "no such")):
        with pytest.raises(UserError, match=message):
            read_vocabulary(tmp_path / name)
    with pytest.raises(UserError, match="folder"):
        read_vocabulary(tmp_path)


def drop(path: Path, *keys: str) -> None:
    edit(path, lambda values: [values.pop(key) for key in keys])


def test_values_that_change_no_id_are_accepted(tmp_path):
    vocabulary = [*SPECIAL_TOKENS, "a"]
    write_tokenizer(tmp_path, vocabulary, True, True, 128)
    path, config = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    edit(path, lambda values: values["normalizer"].update(strip_accents=None))
    drop(path, "added_tokens", "version")
    edit(
        config,
        lambda values: values.update(
            tokenizer_class="PreTrainedTokenizerFast",
            strip_accents=None,
            added_tokens_decoder={"0": {"content": "[PAD]", "special": True}},
            extra_special_tokens={},
        ),
    )
    files = read_directory(tmp_path)
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, True, True)


NUMBERS = "should be a whole number from 0 to below 16,777,216. Received: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["model"]["vocab"].update(b=-1), f"the id of 'b' {NUMBERS}-1"),
        (lambda v: v["model"]["vocab"].update(b=6.5), f"the id of 'b' {NUMBERS}6.5"),
        (lambda v: v["model"]["vocab"].update(b="6"), f"the id of 'b' {NUMBERS}'6'"),
        (lambda v: v["model"]["vocab"].update(b=True), f"the id of 'b' {NUMBERS}True"),
        (lambda v: v["model"]["vocab"].update(b=10**12), f"the id of 'b' {NUMBERS}1000000000000"),
        (lambda v: v["model"]["vocab"].update(b=10**7), "'b' has the id 10,000,000, but there are"),
        (lambda v: v["model"]["vocab"].update(b=5), "'a' and 'b' have the same id 5"),
        (lambda v: v["model"].update(vocab=[["a", 0]]), "model.vocab should give an id for each"),
        (lambda v: v["normalizer"].update(lowercase="false"), "lowercase should be true, false or"),
        (
            lambda v: v["normalizer"].update(lowercase=None),
            "normalizer.lowercase should be true or",
        ),
        (lambda v: v["normalizer"].update(clean_text="true"), "clean_text should be true, false"),
        (lambda v: v.update(model=None), "model.type should be BPE, Unigram or WordPiece"),
        (lambda v: v.update(normalizer=[]), "the library tokenizers cannot read it"),
        (lambda v: v.update(added_tokens={"id": 0}), "added_tokens should be a list of objects"),
        (lambda v: v.update(added_tokens=[{"id": 0}]), "added_tokens should be a token"),
        (
            lambda v: v.update(added_tokens=[{"id": 3, "content": "[PAD]"}]),
            "'[PAD]' has the id 3, but in tokenizer.json it has the id 0",
        ),
    ],
)
def test_values_of_tokenizer_json_that_would_change_ids_are_refused(tmp_path, change, message):
    write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a"], True, True, 128)
    (tmp_path / "vocab.txt").unlink()
    edit(tmp_path / "tokenizer.json", change)
    with pytest.raises(UserError) as caught:
        read_directory(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'tokenizer.json'}: ")
    assert message in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["normalizer"].update(handle_chinese_chars=False),
        lambda v: v["normalizer"].update(clean_text=False),
        lambda v: v["model"].update(max_input_chars_per_word=3),
        lambda v: v["model"].update(continuing_subword_prefix="@@"),
        lambda v: v.pop("normalizer"),
    ],
)
def test_other_wordpiece_than_berts_is_left_to_the_library(tmp_path, change):
    write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a", "##b", "@@b"], True, True, 128)
    edit(tmp_path / "tokenizer.json", change)
    text = "ab abb aBBBB a\u0001b \u4e2da"
    tokenizer = load_tokenizer(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert read_directory(tmp_path).library is not None
    assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids
    assert (tokenizer.cls_id, tokenizer.mask_id, tokenizer.unk_id) == (2, 4, 1)


def test_vocab_txt_and_tokenizer_json_must_agree(tmp_path):
    vocabulary = [*SPECIAL_TOKENS, "a", "b", "a"]
    write_tokenizer(tmp_path, vocabulary, True, True, 128)
    assert read_directory(tmp_path).vocabulary == vocabulary
    path = tmp_path / "tokenizer.json"
    edit(path, lambda values: values["model"]["vocab"].update(c=8))
    assert read_directory(tmp_path).vocabulary == [*vocabulary, "c"]
    edit(path, lambda values: values["model"]["vocab"].update(c=6))
    edit(path, lambda values: values["model"]["vocab"].pop("b"))
    message = r"vocab\.txt: token 6 is 'b', but in tokenizer\.json it is 'c'; remove the file"
    with pytest.raises(UserError, match=message):
        read_directory(tmp_path)


def test_the_files_of_our_own_vocabulary_must_be_equal(tmp_path):
    vocabulary = [*SPECIAL_TOKENS, "a", "b", "a"]
    write_tokenizer(tmp_path, vocabulary, True, True, 128)
    refuse_disagreement(tmp_path)
    listed = tmp_path / "vocab.txt"
    text = listed.read_text(encoding="utf-8")
    for changed, message in (
        (f"{text}c\n", "token 8 is 'c', but in tokenizer.json it is missing"),
        (text.removesuffix("a\n"), "token 7 is missing, but in tokenizer.json it is 'a'"),
        (text.replace("b\n", "c\n"), "token 6 is 'c', but in tokenizer.json it is 'b'"),
    ):
        listed.write_text(changed, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            refuse_disagreement(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    refuse_disagreement(tmp_path)


@pytest.mark.parametrize("form", ["added_tokens.json", "tokenizer.json", "tokenizer_config.json"])
def test_added_tokens_have_their_ids_in_whatever_file_they_are(tmp_path, form):
    vocabulary = [*SPECIAL_TOKENS, "co", "##vid", "##s"]
    write_tokenizer(tmp_path, vocabulary, True, True, 128)
    # With a gap: number 8 has no token.
    added = {"covid": 10, "sars": 9}
    objects = [{"id": number, "content": token} for token, number in added.items()]
    if form == "added_tokens.json":
        (tmp_path / form).write_text(json.dumps(added))
    elif form == "tokenizer.json":
        edit(tmp_path / form, lambda values: values["added_tokens"].extend(objects))
    else:
        decoder = {str(each["id"]): {"content": each["content"]} for each in objects}
        edit(tmp_path / form, lambda values: values.update(added_tokens_decoder=decoder))
    files = read_directory(tmp_path)
    assert files.vocabulary == [*vocabulary, "[unused-id-8]", "sars", "covid"]
    assert sorted(files.added) == ["covid", "sars"]
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("SARS covid covids") == [9, 10, 10, 7]
    # What is exported has them as entries like any other.
    (tmp_path / "exported").mkdir()
    write_tokenizer(tmp_path / "exported", files.vocabulary, True, True, 128)
    assert read_directory(tmp_path / "exported").vocabulary == files.vocabulary


def test_added_tokens_of_several_files_must_agree(tmp_path):
    write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a"], True, True, 128)
    (tmp_path / "added_tokens.json").write_text('{"tiger": 6}')
    special = tmp_path / "special_tokens_map.json"
    special.write_text('{"additional_special_tokens": ["tiger"]}')
    assert read_directory(tmp_path).vocabulary == [*SPECIAL_TOKENS, "a", "tiger"]
    # A special token may be an added one.
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "added_tokens.json").write_text('{"[MASK]": 5, "tiger": 6}')
    assert read_directory(tmp_path).vocabulary == [*SPECIAL_TOKENS[:4], "a", "[MASK]", "tiger"]
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "a"]))
    (tmp_path / "added_tokens.json").write_text('{"tiger": 6}')
    special.write_text('{"additional_special_tokens": ["lion"]}')
    with pytest.raises(UserError, match="'lion' is a special token without an id; add it to"):
        read_directory(tmp_path)
    special.unlink()
    config = tmp_path / "tokenizer_config.json"
    edit(config, lambda values: values.update(added_tokens_decoder={"7": {"content": "tiger"}}))
    with pytest.raises(UserError, match=r"'tiger' has the id 7, but in vocab\.txt it has the id 6"):
        read_directory(tmp_path)
