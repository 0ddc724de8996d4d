"""Which model of a folder is read, and what is said of the others."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lib.checkpoints import formats, google, huggingface
from lib.run.errors import UserError
from tests.helpers.checkpoints import GOOGLE_CONFIG, same_bits
from tests.helpers.pickles import write_pytorch_file
from tests.helpers.tiny_bert import TINY, random_weights

TENSORFLOW, PYTORCH = random_weights(1), random_weights(2)


def write_both(folder: Path, config_json: bool, heads: bool = True) -> None:
    """A TF1 checkpoint and a pytorch_model.bin with other weights, as the reader can tell."""
    google.write_model(folder, GOOGLE_CONFIG, TENSORFLOW)
    huggingface.write_model(folder / "other", TINY, PYTORCH, {})
    tensors = load_file(folder / "other/model.safetensors")
    if not heads:
        tensors = {name: array for name, array in tensors.items() if "seq_rel" not in name}
    write_pytorch_file(folder / "pytorch_model.bin", tensors)
    if config_json:
        (folder / "other/config.json").rename(folder / "config.json")
    for path in (folder / "other").iterdir():
        path.unlink()
    (folder / "other").rmdir()


@pytest.mark.parametrize(
    ("config_json", "heads", "expected", "note"),
    [
        (False, True, TENSORFLOW, "its pytorch_model.bin is not read: the config belongs to bert_"),
        (True, False, TENSORFLOW, "its pytorch_model.bin is not read: it has no NSP head"),
        (True, True, PYTORCH, "its checkpoint bert_model.ckpt is not read"),
    ],
)
def test_a_checkpoint_beside_pytorch_weights(tmp_path, config_json, heads, expected, note):
    write_both(tmp_path, config_json, heads)
    found = formats.read_checkpoint(tmp_path)
    assert same_bits(found.weights, expected) and not found.missing_heads
    assert formats.compatibility_notes(tmp_path)[0].startswith(f"{tmp_path}: {note}")
    # By its name, the checkpoint is read in any case.
    named = formats.read_checkpoint(tmp_path / "bert_model.ckpt.index")
    assert same_bits(named.weights, TENSORFLOW)


def test_pytorch_weights_that_lack_heads_are_read_if_the_checkpoint_cannot_be(tmp_path):
    write_both(tmp_path, config_json=True, heads=False)
    (tmp_path / "bert_model.ckpt.data-00000-of-00001").unlink()
    found = formats.read_checkpoint(tmp_path, allow_missing_heads=True)
    assert found.missing_heads == ("NSP head",)


def test_bert_config_beside_pytorch_weights_has_the_erf_form_of_gelu(tmp_path):
    huggingface.write_model(tmp_path, TINY, PYTORCH, {})
    values = asdict(TINY)
    del values["type_vocab_size"]  # 16 in Google's code, 2 in PyTorch's
    (tmp_path / "config.json").unlink()
    (tmp_path / "bert_config.json").write_text(json.dumps(values))
    found = formats.read_checkpoint(tmp_path)
    assert found.config == TINY and same_bits(found.weights, PYTORCH)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("tf_model.h5", "load it with transformers 4"),
        ("flax_model.msgpack", "load it with transformers 4"),
        ("adapter_model.safetensors", "merge the adapter into its base model"),
    ],
)
def test_weights_of_other_formats_are_named(tmp_path, name, fix):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"{name}, are not in a format read here; {fix}"):
        formats.find_model(tmp_path)


def test_a_model_one_folder_further_down_is_named(tmp_path):
    google.write_model(tmp_path / "uncased", GOOGLE_CONFIG, TENSORFLOW)
    with pytest.raises(UserError, match=rf"but there is one in {tmp_path}/uncased; name that"):
        formats.find_model(tmp_path)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("name", ["cls/predictions/output_bias", "bert/pooler/dense/kernel"])
def test_a_model_that_is_not_finite_is_not_written(tmp_path, name, value):
    broken = PYTORCH[name].copy()
    broken[-1] = value
    weights: dict[str, np.ndarray] = PYTORCH | {name: broken}
    with pytest.raises(UserError, match=rf"{name} is not finite, so this model is not written"):
        huggingface.write_model(tmp_path / "pytorch", TINY, weights, {})
    with pytest.raises(UserError, match=rf"{name} is not finite, so this model is not written"):
        google.write_model(tmp_path / "google", GOOGLE_CONFIG, weights)
    assert not list(tmp_path.rglob("*.*"))
