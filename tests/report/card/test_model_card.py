"""The model card: front matter that the hub can read, and a body with all measurements."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from lib.model.bert_config import BertConfig
from lib.model.modernbert_config import ModernBertConfig
from lib.params import parse_params
from lib.report.card.facts import gather
from lib.report.card.model_card import model_card
from lib.report.repeats import Repeat, Repeats
from lib.run.errors import UserError

CONFIG = BertConfig(
    vocab_size=300,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=256,
    hidden_act="gelu_new",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=512,
)
METRICS = {
    "phase": "main",
    "mlm_loss": 2.0,
    "mlm_accuracy": 0.5,
    "nsp_loss": 0.6,
    "nsp_accuracy": 0.75,
    "mlm_perplexity": 7.389,
    "mlm_loss_unigram": 3.0,
    "mlm_perplexity_unigram": 20.09,
    "intervals": {"mlm_loss": [1.9, 2.15]},
    "documents": 25,
    "words": 4321,
    "mlm_accuracy_top_token": 0.0625,
    "nsp_accuracy_majority": 0.5,
    "masked_tokens": 6124,
    "examples": 1233,
    "verification_difference": 0.000012,
}
FIT = {
    "tokens_per_word": 1.25,
    "tokens_per_character": 0.25,
    "unknown_word_fraction": 0.001,
    "unknown_character_fraction": 0.0125,
}
RESULTS = {
    "preprocess": {
        "files": 3,
        "input_md5": "0123.dir",
        "documents_in": 1000,
        "documents": 940,
        "documents_duplicate": 50,
        "documents_near_duplicate": 7,
        "documents_empty": 3,
        "sentences": 4000,
        "characters_in": 123456,
        "characters": 100000,
        "formats": {"text": 2, "csv (gzip)": 1},
        "edits": {"urls": 12, "html_entities": 4},
        "rejected": {"malformed_json": 5},
    },
    "sample5M": {"train_sampled": 3500},
    "vocab": {"size": 300, "unused_entries": 2, "new_words": 9, "train": FIT, "heldout": FIT},
    "split": {
        "train": {"documents": 900},
        "dev": {"documents": 15},
        "test": {"documents": 25},
        "overlap": {"test": {"documents": 25, "near_duplicates": 4}},
    },
    "records/main": {"train": {"sequences": 1000, "examples": 3000, "tokens": 100000}},
    "records/long": {"train": {"sequences": 500, "examples": 500, "tokens": 200000}},
    "pretrain/main": {"parameters": 12345678, "steps": 100, "best_step": 60},
    "pretrain/long": {"parameters": 12345678, "steps": 10, "best_step": 10},
}


@pytest.fixture
def results(tmp_path) -> Path:
    for stage, metrics in RESULTS.items():
        (tmp_path / stage).mkdir(parents=True)
        (tmp_path / stage / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


@pytest.fixture
def two_phases(values) -> dict:
    values["phases"] = {
        "main": {"max_seq_length": 128, "init": "data/vocab", "batch_size": 20},
        "long": {
            "max_seq_length": 256,
            "init": "models/main",
            "steps": 10,
            "batch_size": 5,
            "warmup_steps": 0.1,
            "learning_rate": 1e-5,
        },
    }
    values["evaluate"]["phase"] = "long"
    return values


def card(values: dict, results: Path, phase: str = "main", metrics: dict = METRICS) -> str:
    return model_card(gather(parse_params(values), phase, results), CONFIG, metrics)


def front_matter(text: str) -> dict:
    return ModelCard(text).data.to_dict()


def tables(text: str) -> Iterator[list[list[str]]]:
    """The cells of each table."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        yield [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]


def rows(text: str) -> dict[str, list[str]]:
    """The lines of all tables, by their first cells."""
    return {line[0]: line[1:] for table in tables(text) for line in table}


def test_runs_with_other_seeds_have_a_table(values, results):
    runs = [
        Repeat(seed, f"repeat-{seed}", "abc", {"mlm_loss": loss, "nsp_loss": 0.5})
        for seed, loss in ((1, 2.0), (2, 2.25), (3, 2.5))
    ]
    facts = gather(parse_params(values), "main", results)
    text = model_card(facts, CONFIG, METRICS, Repeats("pretrain.seed", runs))
    *_, repeated = tables(text)
    # Headline metrics only.
    assert repeated == [
        ["metric", "mean ± standard deviation", "runs"],
        ["---"] * 3,
        ["MLM loss (nats)", "2.250 ± 0.250", "2.000, 2.250, 2.500"],
    ]
    assert "3 runs with pretrain.seed 1, 2, 3" in text
    assert "pretrain.seed" not in card(values, results)


def test_the_hub_reads_the_front_matter(values, results):
    assert front_matter(card(values, results)) == {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["bert", "domain-bert"],
    }
    values["evaluate"] |= {"language": ["no", "en"], "license": "cc-by-4.0"}
    found = front_matter(card(values, results))
    assert (found["language"], found["license"]) == (["no", "en"], "cc-by-4.0")


TEXT = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="\x85\xa0"), min_size=1
).filter(str.strip)


def test_characters_under_unk_are_a_limit_if_they_are_many(values, results):
    many, few = ({**METRICS, "unknown_character_fraction": value} for value in (0.525, 0.0001))
    assert "- 52.5% of the characters of the test text are in" in card(
        values, results, metrics=many
    )
    assert "sees as [UNK]" not in card(values, results, metrics=few)


def test_pairs_that_teach_nothing_are_a_limit(values, results):
    path = results / "records/main/metrics.json"
    train = json.loads(path.read_text())["train"]
    path.write_text(json.dumps({"train": train | {"random_next_fraction": 0.975}}))
    assert "- 97.5% of the training pairs have a random second segment" in card(values, results)
    without_pairs = {name: value for name, value in METRICS.items() if "nsp" not in name}
    assert "training pairs" not in card(values, results, metrics=without_pairs)


def test_a_modernbert_is_described_as_one(values, results):
    config = ModernBertConfig(
        vocab_size=300,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
    )
    metrics = {name: value for name, value in METRICS.items() if not name.startswith("nsp")}
    values["records"]["next_sentence"] = False
    text = model_card(gather(parse_params(values), "main", results), config, metrics)
    assert front_matter(text)["tags"] == ["modernbert", "domain-bert"]
    assert "A ModernBERT (masked language model), trained from scratch" in text
    found = rows(text)
    assert (found["global attention"], found["longest input"]) == (["every 3 layers"], ["8,192"])
    assert not any(word in text for word in ("NSP", "segment type", "position embeddings"))
    assert "tokens: it takes longer ones, as its positions are rotations" in text


def test_any_licence_is_valid_yaml(values, results):
    facts = gather(parse_params(values), "main", results)

    @given(st.one_of(TEXT, st.sampled_from(["no", "1.0", "~", "- x", "a: b", "#", "'", '"', "%y"])))
    def check(license: str) -> None:
        given_license = facts.params.evaluate.model_copy(update={"license": license})
        params = facts.params.model_copy(update={"evaluate": given_license})
        text = model_card(type(facts)(**{**vars(facts), "params": params}), CONFIG, METRICS)
        block = text.split("---\n")[1]
        assert yaml.safe_load(block)["license"] == license

    check()


def test_rejected_and_dropped_documents_are_listed_by_reason(values, results):
    text = card(values, results)
    found = rows(text)
    assert found["files"] == ["3 (2 text, 1 csv (gzip))"]
    assert found["MD5 of these files, as DVC computes it"] == ["0123.dir"]
    assert found["documents read"] == ["1,000"]
    assert found["rejected: malformed json"] == ["5"]
    assert found["dropped: documents that are empty after cleaning"] == ["3"]
    assert found["dropped: exact duplicates"] == ["50"]
    assert found["dropped: near duplicates"] == ["not searched for"]
    assert found["documents kept"] == ["940"]
    assert found["characters kept"] == ["100,000"]
    assert found["test documents"] == ["25"]
    assert found["html entities"] == ["4"]
    values["preprocess"]["near_duplicates"] = 0.8
    values["preprocess"]["clean"] |= {
        "urls": "replace",
        "url_placeholder": "a|b",
        "accents": "remove",
    }
    text = card(values, results)
    assert rows(text)["dropped: near duplicates (similarity 0.8 or more)"] == ["7"]
    assert "control characters: urls: replace by `a|b`; accents: remove.\n" in text


def test_all_rows_of_a_table_have_the_same_length(values, two_phases, results):
    found = list(tables(card(two_phases, results, "long")))
    assert len(found) == 7
    for table in found:
        assert {len(line) for line in table} == {len(table[0])}


@pytest.mark.parametrize(
    "text", ["a|b", "*_`<script>", "a\nb", "{{ 1 + 1 }}{# {% raw %}", "\u202ex"]
)
def test_no_text_from_results_ends_a_cell_or_becomes_a_template(values, results, text):
    changed = {"formats": {text: 2}, "edits": {text: 3}, "rejected": {text: 4}, "input_md5": text}
    corpus = RESULTS["preprocess"] | changed
    (results / "preprocess/metrics.json").write_text(json.dumps(corpus))
    before, after = list(tables(card(values, results))), text.replace("\n", " ")
    for table in before:
        assert {len(line) for line in table} == {len(table[0])}
    found = {line[0]: line[1] for table in before for line in table}
    shown = after.replace("|", "\\|")
    assert found["files"] == f"3 (2 {shown})"
    assert found["MD5 of these files, as DVC computes it"] == shown
    assert found[f"rejected: {shown.replace('_', ' ')}"] == "4"
    assert found[shown.replace("_", " ")] == "3"


def test_metrics_are_shown_with_their_intervals_and_baselines(values, results):
    text = card(values, results)
    found = rows(text)
    assert found["MLM loss (nats)"] == ["2.000", "1.900 to 2.150", "3.000", "unigram baseline"]
    assert found["MLM perplexity"] == ["7.4", "", "20.1", "unigram baseline"]
    assert found["MLM accuracy"] == ["50.0%", "", "6.2%", "most frequent token"]
    assert found["NSP accuracy"] == ["75.0%", "", "50.0%", "majority-class baseline"]
    # Values that are not in the table of metrics are shown, too.
    assert found["verification difference"] == ["1.2e-05"]
    assert "4,321 masked words (6,124 tokens) of 25 test documents that were not used" in text
    assert "fill 1,233 sequences" in text


def test_a_metric_that_is_not_in_the_table_keeps_its_interval_and_baseline(values, results):
    metrics = METRICS | {"new_metric": 0.5, "new_metric_unigram": 0.25}
    metrics["intervals"] = {"new_metric": [0.4, 0.6]}
    text = model_card(gather(parse_params(values), "main", results), CONFIG, metrics)
    assert rows(text)["new metric"] == ["0.5", "0.4 to 0.6", "0.25", "unigram baseline"]
    assert "new metric unigram" not in rows(text)


def test_the_initial_model_has_a_column(values, results):
    metrics = METRICS | {"mlm_loss_initial": 2.5}
    text = model_card(gather(parse_params(values), "main", results), CONFIG, metrics)
    found = rows(text)
    assert found["metric"][2] == "initial model"
    assert found["MLM loss (nats)"][:4] == ["2.000", "1.900 to 2.150", "2.500", "3.000"]
    assert found["MLM accuracy"][2] == "" and "mlm loss initial" not in found


@pytest.mark.parametrize("with_initial", [False, True])
def test_each_input_has_a_line(values, results, with_initial):
    own = {
        "bits_per_character": 1.5,
        "bits_per_character_unigram": 3.0,
        "intervals": {"bits_per_character": [1.25, 1.75]},
    }
    metrics = METRICS | {"inputs": {"wiki": own, "extra": dict(own)}}
    if with_initial:
        metrics["mlm_loss_initial"] = 2.5
        for each in metrics["inputs"].values():
            each["bits_per_character_initial"] = 2.0
            each["change"] = {"bits_per_character": -0.5, "interval": [-0.625, -0.375]}
    text = model_card(gather(parse_params(values), "main", results), CONFIG, metrics)
    change = ["2.000", "-0.500", "-0.625 to -0.375"] if with_initial else []
    assert (
        rows(text)["wiki"] == rows(text)["extra"] == ["1.500", "1.250 to 1.750", *change, "3.000"]
    )
    assert len(rows(text)["input"]) == len(rows(text)["wiki"])
    assert "(`extra`: never trained on" in text and "intervals" not in text.replace(
        "The intervals", ""
    )


def test_all_phases_are_listed_in_the_order_of_training(two_phases, results):
    text = card(two_phases, results, "long")
    found = rows(text)
    # 100 steps of 20 sequences are two epochs: 2 x 3,000 examples, 2 x 100,000 tokens.
    assert found["main"] == ["128", "100", "20", "0.002", "400", "6,000", "200,000", "2.00"]
    assert found["long"] == ["256", "10", "5", "1e-05", "0.1 of all steps", "50", "20,000", "0.10"]
    assert text.index("| main |") < text.index("| long |")
    assert "Tokens seen, without padding: 220,000." in text
    assert "at most 256 tokens" in text
    assert "| long |" not in card(two_phases, results, "main")


@pytest.mark.parametrize(("saved", "steps"), [("step-40", "40"), ("best", "60")])
def test_a_phase_that_starts_from_a_saved_model_counts_its_steps(two_phases, results, saved, steps):
    two_phases["phases"]["long"]["init"] = f"models/saved/main/{saved}"
    assert rows(card(two_phases, results, "long"))["main"][1] == steps


def test_phases_in_a_cycle_are_refused(two_phases, results):
    two_phases["phases"]["main"]["init"] = "models/long"
    with pytest.raises(UserError, match=r"phases\.long\.init: models/long itself starts from long"):
        card(two_phases, results, "long")


def test_a_downloaded_model_is_named_as_the_base(values, results, tmp_path):
    base = tmp_path / "base/tiny"
    base.mkdir(parents=True)
    values["phases"]["main"]["init"] = values["vocab"]["base"] = str(base)
    values["vocab"]["source"] = "extend"
    # Of a folder without source.json only the name is shown: its path is private.
    text = card(values, results)
    assert "base_model" not in front_matter(text)
    assert "continued from `tiny` with" in text and str(tmp_path) not in text
    source = {"model": "some-one/tiny", "revision": "f" * 40, "files": {}}
    (base / "source.json").write_text(json.dumps(source))
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    text = card(values, results)
    assert front_matter(text)["base_model"] == "some-one/tiny"
    named = f"`some-one/tiny` (revision {'f' * 40}, licence mit)"
    assert f"continued from {named} with" in text
    assert f"It was trained further from {named}, whose limits it shares, on one collection" in text
    assert f"from {named}, with 9 words of 3,500 sentences of training text added" in text


@pytest.mark.parametrize(
    "readme",
    ["", "no front matter", "---\n[\n---\n", "---\nlicense: [a]\n---\n", "---\n- a\n---\n"],
)
def test_a_base_whose_card_has_no_licence_is_accepted(values, results, tmp_path, readme):
    base = tmp_path / "tiny"
    base.mkdir()
    (base / "README.md").write_text(readme)
    values["phases"]["main"]["init"] = values["vocab"]["base"] = str(base)
    values["vocab"]["source"] = "extend"
    assert "continued from `tiny` with" in card(values, results)


def test_limits_follow_from_parameters_and_results(values, results):
    limits = card(values, results).partition("## Limits")[2]
    assert (
        "100,000 characters, about 1/160,000 of the text of the original BERT." in limits
    )  # 16 GB.
    assert "4 of the 25 test documents have a near duplicate" in limits
    assert "look better than they are" in limits
    assert "hidden size is 64" in limits and "at most 32 tokens" in limits
    assert "upper and lower case" in limits and "No licence" in limits
    assert "NSP head" not in limits
    values["evaluate"]["license"] = "mit"
    values["vocab"]["lowercase"] = False
    (results / "split/metrics.json").write_text(
        json.dumps(
            RESULTS["split"] | {"overlap": {"test": {"documents": 25, "near_duplicates": 0}}}
        )
    )
    without_pairs = {name: value for name, value in METRICS.items() if "nsp" not in name}
    limits = card(values, results, metrics=without_pairs).partition("## Limits")[2]
    assert "0 of the 25 test documents have a near duplicate in the training text." in limits
    assert "NSP head was not trained" in limits
    assert "lower case" not in limits and "No licence" not in limits


@pytest.mark.parametrize("stage", ["preprocess", "vocab", "records/main", "pretrain/main"])
def test_a_stage_that_has_not_run_is_named(values, results, stage):
    path = results / stage / "metrics.json"
    path.write_text("{}")
    with pytest.raises(UserError, match=f"{stage}/metrics.json: has no .* dvc repro"):
        card(values, results)
    path.unlink()
    with pytest.raises(UserError, match=f"{stage}/metrics.json: no such file; .* dvc repro"):
        card(values, results)


def test_external_examples_are_described_as_such(values, results):
    values["records"]["source"] = "data/theirs"
    text = model_card(gather(parse_params(values), "main", results), CONFIG, METRICS)
    assert "trained on external examples (`data/theirs`" in text
    assert "masking and examples: as in `data/theirs`" in text
    for untrue in (
        "trained on one collection",
        "copies of the text",
        "near duplicate in",
        "has seen",
    ):
        assert untrue not in text, untrue
