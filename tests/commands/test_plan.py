"""Estimates against cases computed by hand, and the size of a record against the codec's."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lib.commands import plan as command
from lib.commands import plan_rates as rates
from lib.commands.plan_rates import DEVICES, TEXTS, Device, Text
from lib.commands.plan_stages import (
    StageEstimate,
    estimate_stages,
    phase_config,
    records_size,
)
from lib.model.config import new_config
from lib.model.memory import Microbatch, peak_activations
from lib.params import Params, parse_params
from lib.records import tfrecord
from lib.records.settings import RecordSettings
from lib.run.errors import UserError
from tests.conftest import ROOT

# Round numbers that are easy to add up; a token is four bytes.
TEXT = Text(
    preprocess=2.0,
    sample=0.5,
    split=1.0,
    tokenize=3.0,
    copy=0.5,
    corpus=1.0,
    cleaned=1.0,
    tokens=0.25,
    segment_tokens=0.2,
    example_tokens=100.0,
    segment_length=90.0,
    fill=0.5,
    sentences_fill=0.75,
    sentence=100.0,
)
DEVICE = Device(half=100e12, single=10e12, mfu=0.5)
BASE = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def estimate(
    values: dict, raw: float = 1e9, cores: int = 4, devices: int = 1
) -> dict[str, StageEstimate]:
    stages = estimate_stages(parse_params(values), raw, TEXT, DEVICE, devices, cores)
    return {stage.name: stage for stage in stages}


@pytest.fixture
def values(values) -> dict:
    """BERT-base for a million steps of 256 sequences of 128 tokens, without dev text."""
    values["phases"] = {"main": {"max_seq_length": 128, "init": "data/vocab"}}
    values["vocab"]["size"] = 30522
    values["split"] |= {"dev_fraction": 0.0, "test_fraction": 0.0}
    values["records"] |= {"dupe_factor": 5, "max_predictions_per_seq": 20}
    values["pretrain"] |= {"steps": 1_000_000, "batch_size": 256, "precision": "bfloat16"}
    values["pretrain"]["model"] |= BASE
    return values


def test_data_stages_by_hand(values):
    stages = estimate(values)
    # 1000 MB on 4 cores; sample5M is one process.
    assert stages["preprocess"].seconds == 2.0 * 1000 / 4
    assert stages["split"].seconds == 1.0 * 1000 / 4
    assert stages["records main"].seconds == (3.0 + 5 * 0.5) * 1000 / 4
    assert stages["sample5M"].seconds == 0.5 * 1000
    assert stages["preprocess"].disk == 2e9 and stages["split"].disk == 1e9
    # Five million sentences of 100 bytes, less than the text.
    assert stages["sample5M"].disk == 5e8
    assert stages["preprocess"].memory == 4 * rates.STAGE_MEMORY["preprocess"]


def test_cluster_workers_take_precedence_over_cores(values):
    values["cluster"]["workers"] = 2
    assert estimate(values, cores=16)["preprocess"].seconds == 2.0 * 1000 / 2


def test_an_existing_vocabulary_is_not_trained(values):
    values["vocab"] |= {"source": "file", "base": "vocab.txt"}
    assert "vocab" not in estimate(values)


@pytest.mark.parametrize(
    "length, options, rate, tokens",
    [
        (128, {}, 0.25, 64),
        (512, {}, 0.25, 100),
        (128, {"packing": True}, 0.25, 128 * rates.PACKED_FILL),
        (512, {"next_sentence": False}, 0.2, 90),
        (128, {"packing": True, "next_sentence": False}, 0.2, 96),
        (
            128,
            {"packing": True, "next_sentence": False, "whole_sentences": False},
            0.2,
            128 * rates.PACKED_FILL,
        ),
    ],
)
def test_number_of_sequences_by_hand(length, options, rate, tokens):
    settings = RecordSettings(length, 20, dupe_factor=2, **options)
    sequences, _ = records_size(1e6, TEXT, settings)
    assert sequences == pytest.approx(1e6 * rate * 2 / tokens)


def test_training_time_is_flops_over_speed(values):
    training = estimate(values)["pretrain main"]
    # Kaplan et al. (2020): six operations per token and parameter of the layers.
    operations = 6 * 85.05e6 * 128 * 256 * 1e6
    assert training.seconds == pytest.approx(operations / 50e12, rel=0.05)
    assert estimate(values, devices=8)["pretrain main"].seconds == pytest.approx(
        training.seconds / 8
    )
    # Two checkpoints, the last model and the best one; 110.1 million parameters.
    assert training.disk == pytest.approx(110.1e6 * (2 * 12 + 2 * 4), rel=0.01)
    values["pretrain"]["precision"] = "float32"
    assert estimate(values)["pretrain main"].seconds == pytest.approx(10 * training.seconds)


def test_dev_evaluations_are_counted(values):
    without = estimate(values)["pretrain main"].seconds
    values["split"]["dev_fraction"] = 0.01
    values["pretrain"]["evaluate_every"] = 10_000
    # 10 MB of dev text are 2.5 million tokens, one copy, 64 per sequence; a forward pass is a third
    # of a step.
    evaluations = 100 * (2.5e6 / 64 / 256) / 3
    assert estimate(values)["pretrain main"].seconds == pytest.approx(
        without * (1 + evaluations / 1e6)
    )


def test_epochs_are_converted_to_steps(values):
    values["pretrain"] |= {"steps": None, "epochs": 2}
    # 1 GB, 4 bytes per token, 5 copies, 64 tokens per sequence.
    steps = 2 * 0.25e9 * 5 / 64 / 256
    assert f"{round(steps):,} steps" in estimate(values)["pretrain main"].basis


def test_memory_per_device(values):
    values["pretrain"]["microbatch_size"] = 32
    training = estimate(values)["pretrain main"]
    config = new_config(30522, values["pretrain"]["model"])
    batch = Microbatch(32, 128, 20, 1, False, 2, False)
    # 110.1 million parameters.
    assert training.memory == pytest.approx(
        20 * 110.1e6 + peak_activations(config, batch), rel=0.001
    )
    values["pretrain"] |= {"gradient_checkpointing": True, "precision": "float32"}
    batch = replace(batch, gradient_checkpointing=True, item_bytes=4)
    assert estimate(values)["pretrain main"].memory == pytest.approx(
        20 * 110.1e6 + peak_activations(config, batch), rel=0.001
    )


# Numbers in the matrices of layers, of 110.1 million parameters in all.
MATRICES = 12 * (4 * 768 * 768 + 2 * 768 * 3072)


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        ("adamw", 2 * 110.1e6),
        ("lamb", 2 * 110.1e6),
        ("novograd", 110.1e6),
        ("muon", 2 * 110.1e6 - MATRICES),
    ],
)
def test_slots_are_those_of_the_optimizer(values, optimizer, slots):
    values["pretrain"] |= {"optimizer": optimizer, "microbatch_size": 32, "keep_checkpoints": 3}
    training = estimate(values)["pretrain main"]
    config = new_config(30522, values["pretrain"]["model"])
    activations = peak_activations(config, Microbatch(32, 128, 20, 1, False, 2, False))
    # Weights and two sets of gradients; in each checkpoint weights and slots; two models.
    assert training.memory == pytest.approx(12 * 110.1e6 + 4 * slots + activations, rel=0.001)
    assert training.disk == pytest.approx(3 * 4 * (110.1e6 + slots) + 8 * 110.1e6, rel=0.001)


def test_a_modernbert_by_hand(values):
    """ModernBERT-base: 22 layers, of which 14 attend to 128 neighbours and themselves."""
    values["phases"]["main"]["max_seq_length"] = 1024
    values["records"] |= {"next_sentence": False, "max_predictions_per_seq": 154}
    values["vocab"]["size"] = 50368
    values["pretrain"]["microbatch_size"] = 4
    values["pretrain"]["model"] |= BASE | {
        "architecture": "modernbert",
        "num_hidden_layers": 22,
        "intermediate_size": 1152,
        "max_position_embeddings": 1024,
    }
    training = estimate(values)["pretrain main"]
    matrices = 4 * 768 * 768 + 3 * 768 * 1152
    # Two normalisations per layer but for the first's, three more in all, and the head.
    parameters = 50368 * 769 + 22 * matrices + 768 * (2 * 22 - 1 + 3) + 768 * 768
    assert parameters / 1e6 == pytest.approx(149.6, abs=0.1)  # that of the published model
    assert training.basis.startswith("150 M parameters")
    per_token = 22 * matrices + 2 * 768 * (8 * 1024 + 14 * 129)
    per_sequence = 1024 * per_token + 154 * 768 * (768 + 50368)
    # The last layer, a global one, computes 154 positions.
    per_sequence -= (1024 - 154) * (matrices - 2 * 768 * 768 + 2 * 768 * 1024)
    operations = 6 * per_sequence * 256 * 1e6
    assert training.seconds == pytest.approx(operations / 50e12, rel=1e-6)
    config = new_config(50368, values["pretrain"]["model"])
    activations = peak_activations(config, Microbatch(4, 1024, 154, 0, False, 2, False))
    assert training.memory == pytest.approx(20 * parameters + activations, rel=1e-6)


def test_muon_may_need_more_memory_than_the_activations(values):
    values["pretrain"] |= {"optimizer": "muon", "microbatch_size": 1}
    slots = 2 * 110.1e6 - MATRICES
    expected = 12 * 110.1e6 + 4 * slots + 18 * MATRICES
    assert estimate(values)["pretrain main"].memory == pytest.approx(expected, rel=0.001)


def test_matrix_products_of_muon_are_counted(values):
    without = estimate(values)["pretrain main"]
    values["pretrain"]["optimizer"] = "muon"
    muon = estimate(values)["pretrain main"]
    # Five iterations for each of 12 layers: X X^T and its product with X, and a square.
    square, wide = 3 * 2 * 768**3, 2 * 2 * 768 * 768 * 3072 + 2 * 768**3
    operations = 5 * 12 * (4 * square + 2 * wide)
    assert muon.seconds - without.seconds == pytest.approx(1e6 * operations / 50e12)
    assert "10% more for muon, " in muon.basis


def test_without_a_measurement_training_time_is_a_range(values):
    stages = estimate_stages(parse_params(values), 1e9, TEXT, replace(DEVICE, mfu=None), 1, 4)
    (training,) = [stage for stage in stages if stage.name == "pretrain main"]
    low, high = rates.ASSUMED_MFU
    measured = estimate(values)["pretrain main"]
    assert training.seconds == pytest.approx(measured.seconds * 0.5 / high)
    assert training.most_seconds == pytest.approx(measured.seconds * 0.5 / low)
    assert measured.most_seconds is None
    assert "10% to 40% of 100 TFLOP/s (an assumption)" in training.basis


def test_a_phase_has_the_config_of_its_initial_model(values, tmp_path):
    config = tmp_path / "bert_config.json"
    config.write_text(
        '{"vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,'
        '"intermediate_size": 16, "hidden_act": "gelu", "max_position_embeddings": 512,'
        '"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}',
        encoding="utf-8",
    )
    values["vocab"] |= {"source": "model", "base": str(tmp_path)}
    values["phases"] = {
        "main": {"max_seq_length": 128, "init": "data/vocab"},
        "long": {"max_seq_length": 512, "init": "models/main"},
        "file": {"max_seq_length": 128, "init": str(config)},
        "folder": {"max_seq_length": 128, "init": str(tmp_path)},
        "lost": {"max_seq_length": 128, "init": str(tmp_path / "nowhere")},
    }
    params = parse_params(values)
    assert phase_config(params, "main") == phase_config(params, "long")
    assert phase_config(params, "main").hidden_size == 768
    assert phase_config(params, "file").num_hidden_layers == 3
    assert phase_config(params, "folder") == phase_config(params, "file")
    with pytest.raises(UserError, match=r"nowhere.*no such file"):
        phase_config(params, "lost")


def test_bytes_of_a_sequence_match_the_codec():
    draw = np.random.default_rng(1)
    sequences, length, predictions, tokens = 500, 128, 20, 100
    # As varints most token ids take two bytes, ids above 2^14 three, [CLS] and [MASK] one.
    ids = draw.integers(128, 2**14, (sequences, length)) * (np.arange(length) < tokens)
    settings = RecordSettings(length, predictions, dupe_factor=1)
    written = tfrecord.encode(
        {
            "input_ids": ids,
            "input_mask": (ids > 0).astype(np.uint8),
            "segment_ids": np.zeros((sequences, length), np.uint8),
            "masked_lm_positions": draw.integers(0, tokens, (sequences, predictions)),
            "masked_lm_ids": draw.integers(128, 2**14, (sequences, predictions)),
            "masked_lm_weights": np.ones((sequences, predictions), np.float32),
            "next_sentence_labels": np.zeros((sequences, 1), np.uint8),
        }
    )
    text = Text(**(vars(TEXT) | {"tokens": 1.0, "example_tokens": tokens, "fill": 1.0}))
    estimated_sequences, estimated_bytes = records_size(sequences * tokens, text, settings)
    assert estimated_sequences == sequences
    assert estimated_bytes == pytest.approx(len(written), rel=0.03)


@pytest.mark.parametrize(
    "written, size", [("20GB", 20e9), ("1.5 TB", 1.5e12), ("800M", 8e8), ("12", 12), ("3kB", 3e3)]
)
def test_sizes_are_parsed(written, size):
    assert command.parse_size(written) == size


@pytest.mark.parametrize("written", ["", "GB", "0GB", "20 XB", "-3GB", "20GiB", "1e9"])
def test_an_invalid_size_is_refused(written):
    with pytest.raises(UserError, match="should be a size such as 20GB"):
        command.parse_size(written)


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", *arguments])
    command.main()


def test_the_table_has_all_stages_and_a_total(monkeypatch, capsys):
    run(monkeypatch, "--text", "20GB", "--kind", "tweets", "--device", "a100", "--cores", "8")
    header, *lines, total = capsys.readouterr().out.splitlines()
    assert header.split() == ["stage", "time", "disk", "memory", "basis"]
    stages = [line.split()[0] for line in lines]
    assert stages == ["preprocess", "sample5M", "vocab", "split", "records", "pretrain", "DVC"]
    assert total.startswith("total ")
    assert re.search("10% to 40% of 156 TFLOP/s .an assumption", lines[-2])
    assert " to " in lines[-2].split("GB")[0]


def test_a_speed_that_was_given_or_measured(monkeypatch, capsys, tmp_path):
    common = ("--text", "1GB", "--device", "a100", "--devices", "2")
    run(monkeypatch, *common, "--mfu", "0.2")
    assert "20% of 156 TFLOP/s (given)" in capsys.readouterr().out
    path = tmp_path / "training-main.csv"
    # Of both devices; the first line still has the compilation in it.
    path.write_text("step,flops_per_second\n1,1e12\n100,78e12\n200,80e12\n", encoding="utf-8")
    run(monkeypatch, *common, "--measured", str(path))
    assert f"25% of 156 TFLOP/s (measured, {path})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("step,loss\n1,2\n", "no column flops_per_second"),
        ("step,flops_per_second\n1,\n", "no column flops_per_second with numbers"),
        ("step,flops_per_second\n", "no measurement"),
        ("step,flops_per_second\n1,0\n", "no measurement above 0"),
    ],
)
def test_a_file_without_measurements_is_refused(tmp_path, content, message):
    path = tmp_path / "training.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"--measured {path}: .*{message}"):
        command.measured_speed(path)


@pytest.mark.parametrize("mfu", ["0", "-1", "35", "nan"])
def test_an_impossible_fraction_is_refused(monkeypatch, mfu):
    with pytest.raises(SystemExit, match="--mfu: should be above 0 and at most 1"):
        run(monkeypatch, "--text", "1GB", "--mfu", mfu)


def test_the_size_of_existing_text_is_measured(monkeypatch, capsys, tmp_path, values):
    assert isinstance(parse_params(values), Params)
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="no text there"):
        command.folder_size(tmp_path / "raw")
    (tmp_path / "raw/one.txt").write_bytes(b"x" * 1000)
    (tmp_path / "raw/more").mkdir()
    (tmp_path / "raw/more/two.txt").write_bytes(b"x" * 500)
    assert command.folder_size(tmp_path / "raw") == 1500
    with pytest.raises(SystemExit, match="plan: error: --text"):
        run(monkeypatch, "--text", "much")


def test_the_command_does_not_import_tensorflow():
    script = (
        "import sys; from lib.commands import plan\n"
        "sys.argv = ['plan', '--text', '1GB']; plan.main()\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)


def test_every_rate_is_plausible():
    for text in TEXTS.values():
        assert all(value > 0 for value in vars(text).values())
        assert text.fill <= 1
    for device in DEVICES.values():
        assert device.mfu is None or 0 < device.mfu < 1
        assert device.half >= device.single
