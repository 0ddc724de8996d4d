"""make accept: what counts as a change of code only."""

import pytest

from lib.commands.accept import other_changes
from lib.params import parse_params


def test_initial_weights_and_single_segments_of_earlier_versions_are_accepted(values):
    keys = {"records.whole_sentences": "new", "pretrain.initialization": "new"}
    changes = [{"changed deps": {"params.yaml": keys}}]
    values["records"] |= {"next_sentence": False, "whole_sentences": True}
    assert other_changes(changes, parse_params(values)) == []
    values["records"]["whole_sentences"] = False
    assert other_changes(changes, parse_params(values)) == ["records.whole_sentences"]


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ([{"changed deps": {"data/code/records.txt": "modified"}}], []),
        (["changed command", {"changed deps": {"data/code/records.txt": "new"}}], []),
        ([{"changed deps": {"data/shards": "modified"}}], ["data/shards"]),
        ([{"changed outs": {"data/code/records.txt": "deleted"}}], ["data/code/records.txt"]),
        ([{"changed outs": {"models/main/config.json": "modified"}}], ["models/main/config.json"]),
        # Of a model by a version that kept no state.
        ([{"changed outs": {"models/state/main": "modified"}}], []),
        ([{"changed outs": {"models/state/main": "deleted"}}], ["models/state/main"]),
        (["always changed"], ["always changed"]),
        # What a phase overrides: new with this version, and nothing; later a change of parameters.
        ([{"changed deps": {"data/phases/main.json": "new"}}], []),
        ([{"changed deps": {"data/phases/decay.json": "new"}}], ["data/phases/decay.json"]),
        ([{"changed deps": {"data/phases/main.json": "modified"}}], ["data/phases/main.json"]),
        # Parameters that the last run did not know: only with the values that it had.
        ([{"changed deps": {"params.yaml": {"records.compression": "new"}}}], []),
        ([{"changed deps": {"params.yaml": {"records.whole_sentences": "new"}}}], []),
        (
            [{"changed deps": {"params.yaml": {"pretrain.initialization": "new"}}}],
            ["pretrain.initialization"],
        ),
        ([{"changed deps": {"params.yaml": {"preprocess.clean": "new"}}}], []),
        ([{"changed deps": {"params.yaml": {"records.seed": "new"}}}], ["records.seed"]),
        ([{"changed deps": {"params.yaml": {"records.packing": "modified"}}}], ["records.packing"]),
        ([{"changed deps": {"params.yaml": {"records.gone": "deleted"}}}], ["records.gone"]),
    ],
)
def test_only_code_and_new_parameters_with_earlier_values_are_accepted(values, changes, other):
    values["records"]["seed"] = 7
    values["pretrain"]["initialization"] = "neighbors"
    decay = {"max_seq_length": 32, "init": "models/main", "masked_lm_prob": 0.1}
    values["phases"]["decay"] = decay
    assert other_changes(changes, parse_params(values)) == other


def test_files_of_a_vocabulary_that_is_as_it_was_are_accepted(values):
    changes = [{"changed deps": {"data/vocab/vocab.txt": "new"}}]
    params = parse_params(values)
    assert other_changes(changes, params, same_vocabulary=True) == []
    assert other_changes(changes, params) == ["data/vocab/vocab.txt"]
    modified = [{"changed deps": {"data/vocab/vocab.txt": "modified"}}]
    assert other_changes(modified, params, same_vocabulary=True) == ["data/vocab/vocab.txt"]


def test_a_section_may_have_new_keys_with_their_earlier_values(values):
    """A stage that uses a section as a whole sees a new key as a change of the section."""
    changes = [{"changed deps": {"params.yaml": {"pretrain.model": "modified"}}}]
    values["records"]["next_sentence"] = False
    model = values["pretrain"]["model"]
    own = {**model, "hidden_size": 64}
    new = ("architecture", "local_attention", "global_attn_every_n_layers")
    locked = {"pretrain.model": {key: own[key] for key in own if key not in new}}

    def left(**changed: object) -> list[str]:
        values["pretrain"]["model"] = own | changed
        return other_changes(changes, parse_params(values), locked)

    assert left() == []
    assert left(architecture="modernbert") == ["pretrain.model"]
    assert left(hidden_size=128) == ["pretrain.model"]
    locked["pretrain.model"]["gone"] = 1
    assert left() == ["pretrain.model"]
    assert other_changes(changes, parse_params(values)) == ["pretrain.model"]
