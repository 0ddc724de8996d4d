"""params.yaml: types, defaults, and one-line errors that say how to fix a mistake."""

import re

import pytest
import yaml
from pydantic import ValidationError

from lib.params import RENAMED, Params, Pretrain, load_params, parse_params
from lib.run.errors import UserError
from lib.run.phases import run_length, training_settings
from tests.helpers.params import shipped_values


def training_of(values: dict) -> Pretrain:
    """Settings of the phase main."""
    params = parse_params(values)
    return training_settings(params.pretrain, params.phases["main"])


def changed(values: dict, key: str, value: object) -> dict:
    *sections, last = key.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[last] = value
    return values


@pytest.mark.parametrize("written", ["2e-5", "2e-05", "0.00002", "2.0E-5"])
def test_small_numbers_are_numbers_however_they_are_written(tmp_path, values, written):
    # PyYAML reads some of these as strings; DVC and `dvc exp run -S` write such forms.
    text = yaml.safe_dump(changed(values, "pretrain.learning_rate", "RATE"))
    (tmp_path / "params.yaml").write_text(text.replace("RATE", written), encoding="utf-8")
    assert load_params(tmp_path / "params.yaml").pretrain.learning_rate == 2e-5


def test_large_whole_numbers_may_be_written_with_an_exponent(values):
    changed(values, "pretrain.steps", "2e6")
    assert parse_params(values).pretrain.steps == 2_000_000
    assert isinstance(parse_params(values).pretrain.steps, int)


def test_null_in_a_phase_means_inherit(values):
    changed(values, "phases.main.learning_rate", None)
    changed(values, "pretrain.learning_rate", 7e-4)
    assert training_of(values).learning_rate == 7e-4


def test_a_phase_overrides_what_it_names(values):
    changed(values, "phases.main.learning_rate", "3e-4")
    changed(values, "phases.main.steps", 999)
    training = training_of(values)
    assert (training.learning_rate, training.steps) == (3e-4, 999)
    assert training.batch_size == values["pretrain"]["batch_size"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({"max_predictions_per_seq": 9}, "masks 10 of 32 tokens, more than records.max_pred"),
        ({"source": "data/their"}, "should be null, because the external examples in"),
    ],
)
def test_the_masking_rate_of_a_phase_fits_the_records(values, records, message):
    changed(values, "phases.main.masked_lm_prob", 0.3)
    assert parse_params(values).phases["main"].masked_lm_prob == 0.3
    values["records"] |= records
    with pytest.raises(UserError, match=rf"phases\.main\.masked_lm_prob: {message}"):
        parse_params(values)


def test_decimal_fractions_of_replacement_may_add_up_to_one(values):
    values["records"] |= {"mask_replace_prob": 0.9, "random_replace_prob": 0.1}
    for masked in range(101):
        fractions = masked / 100, round(1 - masked / 100, 2)
        values["records"] |= dict(
            zip(("mask_replace_prob", "random_replace_prob"), fractions, strict=True)
        )
        assert parse_params(values)


def test_length_of_a_run(values):
    assert run_length(training_of(values), 10**6) == (8000, 400)
    changed(values, "pretrain.warmup_steps", 0.1)
    assert run_length(training_of(values), 10**6) == (8000, 800)
    changed(values, "phases.main.epochs", 2.5)
    settings = training_of(values)
    # 2.5 epochs of 1000 sequences are 78.1 batches of 32.
    assert run_length(settings, 1000) == (79, 8)
    changed(values, "pretrain.warmup_steps", 100)
    with pytest.raises(ValueError, match="below the 79 steps"):
        run_length(training_of(values), 1000)
    changed(values, "phases.main.steps", 100)
    with pytest.raises(UserError, match=r"phases\.main\.epochs: should be null where steps"):
        parse_params(values)


def test_a_phase_initialised_from_a_model_may_extend_its_positions(values):
    values["phases"]["long"] = {"max_seq_length": 1024, "init": "models/main"}
    assert parse_params(values).phases["long"].max_seq_length == 1024


def test_a_phase_starts_from_the_state_of_a_phase_that_keeps_it_without_a_warm_up(values):
    decay = {"max_seq_length": 32, "init": "models/state/main", "schedule": "one_minus_sqrt"}
    values["phases"]["decay"] = decay
    with pytest.raises(
        UserError, match=r"phases\.decay\.init: .* phases\.main\.schedule: constant"
    ):
        parse_params(values)
    values["phases"]["main"]["schedule"] = "constant"
    for own, expected in ((None, 0), (10, 10)):
        decay["warmup_steps"] = own
        params = parse_params(values)
        training = training_settings(params.pretrain, params.phases["decay"])
        assert (training.warmup_steps, training.schedule) == (expected, "one_minus_sqrt")
    decay["init"] = "models/state/main/step-8000"
    with pytest.raises(UserError, match="should be the state of another phase: models/state/main"):
        parse_params(values)


def test_params_are_immutable(values):
    with pytest.raises(ValidationError):
        parse_params(values).records.dupe_factor = 3


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("records.dupe_factor", 0, "greater than or equal to 1"),
        ("records.dupe_factor", "ten", "should be a number"),
        ("records.dupe_factor", 2.5, "whole number"),
        ("records.dupe_factor", True, "should be a number"),
        ("records.dupe_factor", None, "valid integer"),
        ("records.masked_lm_prob", 2, "less than 1"),
        ("records.masked_lm_prob", float("nan"), "finite"),
        ("records.mask_replace_prob", 0.95, "records.random_replace_prob: should be at most 1 tog"),
        ("records.random_replace_prob", 0.3, "with records.mask_replace_prob, 0.8"),
        ("records.random_replace_prob", -0.1, "greater than or equal to 0"),
        ("records.whole_sentences", "yes", "valid boolean"),
        ("phases.main.masked_lm_prob", 1, "less than 1"),
        ("phases.main.masked_lm_prob", "auto", "should be a number"),
        ("records.dupe_faktor", 5, "did you mean `dupe_factor`"),
        ("records.max_predictions_per_seq", "many", "auto"),
        ("records.whole_word_mask", "yes", "valid boolean"),
        ("records.packing", "yes", "valid boolean"),
        ("records.max_examples_per_pack", 1, "auto"),
        ("records.masking", "changing", "'static' or 'dynamic'"),
        ("records.compression", "zip", "'none' or 'gzip'"),
        ("pretrain.checkpoint_dir", "runs", "should be gs://bucket/prefix or the absolute path"),
        ("phases.main.max_seq_length", 513, "max_position_embeddings (512)"),
        ("phases.main.max_seq_len", 64, "did you mean `max_seq_length`"),
        ("phases.main.warmup_steps", 10**9, "should be below the 8000 steps"),
        ("phases.main.decay_steps", 7601, "should be at most the 7600 steps after the warm-up"),
        ("phases.main.end_learning_rate", 1.0, "should be at most learning_rate, 0.002"),
        ("phases.main.schedule", "step", "'polynomial', 'cosine'"),
        ("phases.main.init", "models/state/other", "should be the state of another phase"),
        ("phases", {}, "at least 1 item"),
        ("pretrain.model.num_attention_heads", 3, "multiple of num_attention_heads"),
        ("pretrain.model.hidden_act", "swish", "gelu_new"),
        ("pretrain.model.hidden_size", 10**9, "model.hidden_size: should be at most 131,072"),
        ("pretrain.model.architecture", "roberta", "'bert' or 'modernbert'"),
        ("pretrain.model.global_attn_every_n_layers", 0, "greater than or equal to 1"),
        ("pretrain.warmup_steps", 10**9, "should be below the 8000 steps"),
        ("pretrain.decay_steps", 0, "greater than 0"),
        ("pretrain.decay_steps", 0.99, "should be at most the 7600 steps after the warm-up"),
        ("pretrain.warmup_steps", 1.5, "whole number of steps, or a fraction of them below 1"),
        ("pretrain.steps", None, "steps or epochs should be given"),
        ("pretrain.epochs", 3, "steps or epochs should be given"),
        ("phases.saved", {"max_seq_length": 32, "init": "data/vocab"}, "called saved"),
        ("phases.state", {"max_seq_length": 32, "init": "data/vocab"}, "called state"),
        ("phases.base", {"max_seq_length": 32, "init": "data/vocab"}, "called base"),
        ("evaluate.language", "English!", "such as en or pt-BR"),
        ("evaluate.language", ["en", 3], "such as en or pt-BR"),
        ("evaluate.language", [], "such as en or pt-BR"),
        ("evaluate.language", False, "in quotes"),
        ("evaluate.license", "mit\nnext", "one line of text"),
        ("evaluate.saved_models", "yes", "valid boolean"),
        ("evaluate.lengths", [4], "greater than or equal to 8"),
        ("preprocess.document", "paragraph", "blank_line, line, file"),
        ("split.test_fraction", 0.99, "below 1"),
        ("evaluate.phase", "other", "one of phases: main"),
        ("colour", "red", "unknown key"),
    ],
)
def test_a_wrong_value_gives_one_line_with_key_and_fix(values, key, value, fix):
    with pytest.raises(UserError) as failure:
        parse_params(changed(values, key, value))
    message = str(failure.value)
    assert message.startswith("params.yaml: ") and key.split(".")[0] in message
    assert fix in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("pretrain.model.local_attention", 15, "should be an even number"),
        ("pretrain.model.hidden_size", 6, "should be an even number per attention head"),
        ("pretrain.model.hidden_size", 127, "should be a multiple of num_attention_heads 2"),
        ("records.next_sentence", True, "no NSP head; or set pretrain.model.architecture: bert"),
        ("pretrain.initialization", "sinusoidal", "should be normal or neighbors"),
    ],
)
def test_what_a_modernbert_cannot_do_is_refused_before_any_stage(values, key, value, problem):
    changed(values, "records.next_sentence", False)
    changed(values, "pretrain.model.num_attention_heads", 2)
    for architecture in ("bert", "modernbert"):
        changed(values, "pretrain.model.architecture", architecture)
        assert parse_params(values).pretrain.initialization == "normal"
    with pytest.raises(UserError) as failure:
        parse_params(changed(values, key, value))
    message = str(failure.value)
    assert message.startswith(f"params.yaml: {key}: ") and problem in message
    assert f"Received: {value!r}" in message
    # It concerns models from scratch only; `data/vocab` is where these begin.
    if not key.startswith("pretrain.model."):
        changed(values, "phases.main.init", "models/base/other")
        values["vocab"] |= {"source": "model", "base": "models/base/other"}
        assert parse_params(values)


def test_defaults_in_code_are_the_values_of_params_yaml():
    parsed = parse_params(shipped_values())
    assert Params(phases=parsed.phases) == parsed
    # Every key is in the file, where people look for it.
    assert parsed.model_dump(exclude_unset=True) == parsed.model_dump()


def test_a_key_that_has_no_default_is_named(values):
    del values["phases"]["main"]["max_seq_length"]
    with pytest.raises(UserError, match=r"phases\.main\.max_seq_length: missing"):
        parse_params(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("records: [1", "line 1"),
        ("just text", "should hold sections"),
        ("", "should hold sections"),
    ],
)
def test_a_file_that_is_not_params_is_refused(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_params(tmp_path / "params.yaml")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="top of the project"):
        load_params(tmp_path / "params.yaml")


def test_a_misspelt_key_is_reported_before_the_one_that_is_missing_because_of_it(values):
    values["preprocess"]["clean"]["emojii"] = values["preprocess"]["clean"].pop("emoji")
    with pytest.raises(UserError, match=r"clean\.emojii: unknown key; did you mean `emoji`\?"):
        parse_params(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "file"}, r"vocab\.base: should name a vocab\.txt with source file"),
        ({"source": "extend"}, r"vocab\.base: should name the folder of a model"),
        ({"base": "models/base"}, r"vocab\.base: should be data/sample .*set vocab\.source"),
        ({"source": "words"}, r"vocab\.source: should be 'sentencepiece', "),
        ({"max_token_length": 200}, r"vocab\.max_token_length"),
    ],
)
def test_the_base_of_a_vocabulary_fits_its_source(values, changes, message):
    values["vocab"].update(changes)
    with pytest.raises(UserError, match=message):
        parse_params(values)
    values["vocab"].update(source="extend", base="models/base", max_token_length=64)
    assert parse_params(values).vocab.base == "models/base"


@pytest.mark.parametrize("language", [None, "tr", "pt-BR", "zh-Hant-TW", ["en", "no"]])
def test_languages_are_codes(values, language):
    assert (
        parse_params(changed(values, "evaluate.language", language)).evaluate.language == language
    )


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_of_version_0_1_is_refused_with_its_new_name(values, old, new):
    section = values
    *path, name = old.split(".")
    for key in path:
        section = section[key]
    section[name] = section.pop(new.rpartition(".")[2])
    with pytest.raises(UserError, match=f"{re.escape(old)}: renamed .*; write {re.escape(new)}"):
        parse_params(values)


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("data/raw/general", "data/raw, which is trained on"),
        ("data", "data/code, which the pipeline writes"),
        ("data/shards/test", "data/shards, which the pipeline writes"),
    ],
)
def test_text_that_is_only_evaluated_is_separate(values, extra, problem):
    values["preprocess"]["input"] = "data/raw"
    values["evaluate"]["extra"] = extra
    with pytest.raises(UserError, match=f"evaluate.extra: should be separate from {problem}"):
        parse_params(values)


def test_named_inputs_have_the_keys_that_they_set_themselves(values):
    values["preprocess"] |= {"document": "line", "text_field": "body"}
    own = {"document": "blank_line", "clean": {"urls": "remove"}, "csv": {"delimiter": ";"}}
    values["preprocess"]["inputs"] = {"wiki": own, "tweets": None}
    settings = parse_params(values).preprocess
    wiki, tweets = settings.of_input("wiki"), settings.of_input("tweets")
    assert (wiki.document, tweets.document) == ("blank_line", "line")
    assert wiki.text_fields == tweets.text_fields == ("body",)
    assert wiki.clean == settings.clean.model_copy(update={"urls": "remove"})
    assert wiki.csv.delimiter == ";" and wiki.csv.quote == settings.csv.quote
    assert tweets.clean == settings.clean


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (
            {"wiki": {"documen": "line"}},
            "inputs.wiki.documen: unknown key; did you mean `document`",
        ),
        ({"wiki": {"clean": {"url": "keep"}}}, "inputs.wiki.clean.url: unknown key; did you mean"),
        ({"test": {}}, "inputs.test: should not be the name of a split"),
        ({"a": {}, "A": {}}, "inputs: a and A should differ in more than case"),
        (
            {"a": {"csv": {"header": False}}},
            "inputs.a.text_field: should be the number of a column",
        ),
        ({"a b": {}}, "inputs.a b: should have only letters, digits"),
    ],
)
def test_wrong_named_inputs_are_refused(values, inputs, problem):
    values["preprocess"]["inputs"] = inputs
    with pytest.raises(UserError, match=re.escape(f"preprocess.{problem}")):
        parse_params(values)


@pytest.mark.parametrize("mixture", [{"a": 0}, {"a": -1}, 2, "half", {"a b": 1}])
def test_wrong_mixtures_are_refused(values, mixture):
    values["pretrain"]["mixture"] = mixture
    with pytest.raises(UserError, match=r"params\.yaml: pretrain\.mixture"):
        parse_params(values)


def test_a_phase_has_a_mixture_of_its_own(values):
    values["pretrain"]["mixture"] = 0.5
    values["phases"]["main"]["mixture"] = {"a": 1, "b": 0}
    params = parse_params(values)
    assert training_settings(params.pretrain, params.phases["main"]).mixture == {"a": 1, "b": 0}
