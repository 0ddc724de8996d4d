"""The plan's arithmetic against cases worked out by hand, its rates against records made here."""

import sys

import numpy as np
import pytest

from lib.commands import plan as command
from lib.commands import plan_rates as rates
from lib.commands.plan_rates import DEVICES, TEXTS, Device, Text
from lib.commands.plan_stages import Line, config_of, plan, rows_and_bytes
from lib.params import Params, parse_params
from lib.records import tfrecord
from lib.records.settings import RecordSettings
from lib.run.errors import UserError

# Round numbers: a MB takes seconds that are easy to add up, a byte is a quarter of a token.
TEXT = Text(
    preprocess=2.0,
    sample=0.5,
    split=1.0,
    tokenize=3.0,
    copy=0.5,
    corpus=1.0,
    kept=1.0,
    tokens=0.25,
    example=100.0,
    fill=0.5,
    sentence=100.0,
)
DEVICE = Device(half=100e12, single=10e12, memory=16e9, share=0.5)
BASE = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def planned(values: dict, raw: float = 1e9, cores: int = 4, devices: int = 1) -> dict[str, Line]:
    lines = plan(parse_params(values), raw, TEXT, DEVICE, devices, cores)
    return {line.stage: line for line in lines}


@pytest.fixture
def values(values) -> dict:
    """BERT-base for a million steps of 256 rows of 128, without a look at dev records."""
    values["phases"] = {"main": {"max_seq_length": 128, "init": "data/vocab"}}
    values["vocab"]["size"] = 30522
    values["split"] |= {"dev_fraction": 0.0, "test_fraction": 0.0}
    values["records"] |= {"dupe_factor": 5, "max_predictions_per_seq": 20}
    values["pretrain"] |= {"steps": 1_000_000, "batch_size": 256, "precision": "bfloat16"}
    values["pretrain"]["model"] |= BASE
    return values


def test_data_stages_by_hand(values):
    lines = planned(values)
    # 1000 MB on 4 cores; sample5M is one process.
    assert lines["preprocess"].seconds == 2.0 * 1000 / 4
    assert lines["split"].seconds == 1.0 * 1000 / 4
    assert lines["records main"].seconds == (3.0 + 5 * 0.5) * 1000 / 4
    assert lines["sample5M"].seconds == 0.5 * 1000
    assert lines["preprocess"].disk == 2e9 and lines["split"].disk == 1e9
    # Five million sentences of 100 bytes are less than the text.
    assert lines["sample5M"].disk == 5e8
    assert lines["preprocess"].memory == 4 * rates.STAGE_MEMORY["preprocess"]


def test_workers_that_params_name_count_not_the_cores(values):
    values["cluster"]["workers"] = 2
    assert planned(values, cores=16)["preprocess"].seconds == 2.0 * 1000 / 2


def test_a_vocabulary_that_is_there_takes_no_stage(values):
    values["vocab"] |= {"source": "file", "base": "vocab.txt"}
    assert "vocab" not in planned(values)


@pytest.mark.parametrize(
    "length, packing, in_row",
    [(128, False, 64), (512, False, 100), (128, True, 128 * rates.PACKED_FILL)],
)
def test_rows_by_hand(length, packing, in_row):
    made = RecordSettings(length, 20, dupe_factor=2, packing=packing)
    rows, _ = rows_and_bytes(1e6, TEXT, made)
    assert rows == pytest.approx(1e6 * 0.25 * 2 / in_row)


def test_training_takes_the_operations_over_the_speed(values):
    line = planned(values)["pretrain main"]
    # Kaplan et al. (2020): six operations for each parameter of the layers and each token.
    operations = 6 * 85.05e6 * 128 * 256 * 1e6
    assert line.seconds == pytest.approx(operations / 50e12, rel=0.05)
    assert planned(values, devices=8)["pretrain main"].seconds == pytest.approx(line.seconds / 8)
    # Two checkpoints, the last model and the best one; 110.1 million parameters.
    assert line.disk == pytest.approx(110.1e6 * (2 * 12 + 2 * 4), rel=0.01)
    values["pretrain"]["precision"] = "float32"
    assert planned(values)["pretrain main"].seconds == pytest.approx(10 * line.seconds)


def test_looks_at_dev_records_are_counted(values):
    without = planned(values)["pretrain main"].seconds
    values["split"]["dev_fraction"] = 0.01
    values["pretrain"]["evaluate_every"] = 10_000
    # 10 MB of dev text are 2.5 million tokens, one copy, 64 in a row; a look is a third of a step.
    looks = 100 * (2.5e6 / 64 / 256) / 3
    assert planned(values)["pretrain main"].seconds == pytest.approx(without * (1 + looks / 1e6))


def test_epochs_become_steps_by_the_rows(values):
    values["pretrain"] |= {"steps": None, "epochs": 2}
    # 1 GB, a quarter as many tokens, 5 copies, 64 in a row.
    steps = 2 * 0.25e9 * 5 / 64 / 256
    assert f"{round(steps):,} steps" in planned(values)["pretrain main"].basis


def test_memory_of_a_device(values):
    values["pretrain"]["microbatch_size"] = 32
    line = planned(values)["pretrain main"]
    # Korthikanti et al. (2022): s b h (34 + 5 a s / h) bytes a layer.
    layers = 12 * 128 * 32 * 768 * (34 + 5 * 12 * 128 / 768)
    assert line.memory == pytest.approx(20 * 110.1e6 + layers, rel=0.01)
    values["pretrain"]["gradient_checkpointing"] = True
    assert planned(values)["pretrain main"].memory == pytest.approx(
        20 * 110.1e6 + layers / 12 + 12 * 2 * 128 * 32 * 768, rel=0.01
    )


def test_a_phase_has_the_sizes_of_what_it_starts_from(values, tmp_path):
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
    assert config_of(params, "main") == config_of(params, "long")
    assert config_of(params, "main").hidden_size == 768
    assert config_of(params, "file").num_hidden_layers == 3
    assert config_of(params, "folder") == config_of(params, "file")
    with pytest.raises(UserError, match=r"nowhere.*no such file"):
        config_of(params, "lost")


def test_a_row_has_as_many_bytes_as_the_codec_writes():
    draw = np.random.default_rng(1)
    rows, length, predictions, tokens = 500, 128, 20, 100
    # Most ids of a text take two bytes, those above 2^14 three, those of [CLS] and [MASK] one.
    ids = draw.integers(128, 2**14, (rows, length)) * (np.arange(length) < tokens)
    made = RecordSettings(length, predictions, dupe_factor=1)
    written = tfrecord.encode(
        {
            "input_ids": ids,
            "input_mask": (ids > 0).astype(np.uint8),
            "segment_ids": np.zeros((rows, length), np.uint8),
            "masked_lm_positions": draw.integers(0, tokens, (rows, predictions)),
            "masked_lm_ids": draw.integers(128, 2**14, (rows, predictions)),
            "masked_lm_weights": np.ones((rows, predictions), np.float32),
            "next_sentence_labels": np.zeros((rows, 1), np.uint8),
        }
    )
    some = Text(**(vars(TEXT) | {"tokens": 1.0, "example": tokens, "fill": 1.0}))
    planned_rows, planned_bytes = rows_and_bytes(rows * tokens, some, made)
    assert planned_rows == rows
    assert planned_bytes == pytest.approx(len(written), rel=0.03)


@pytest.mark.parametrize(
    "written, size", [("20GB", 20e9), ("1.5 TB", 1.5e12), ("800M", 8e8), ("12", 12), ("3kB", 3e3)]
)
def test_sizes_are_read(written, size):
    assert command.parse_size(written) == size


@pytest.mark.parametrize("written", ["", "GB", "0GB", "20 XB", "-3GB", "20GiB", "1e9"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(UserError, match="should be a size such as 20GB"):
        command.parse_size(written)


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", *arguments])
    command.main()


def test_the_command_adds_up(monkeypatch, capsys):
    run(monkeypatch, "--text", "20GB", "--kind", "tweets", "--device", "a100", "--cores", "8")
    heading, *lines, total = capsys.readouterr().out.splitlines()
    assert heading.split() == ["stage", "time", "disk", "memory", "rests", "on"]
    stages = [line.split()[0] for line in lines]
    assert stages == ["preprocess", "sample5M", "vocab", "split", "records", "pretrain", "dvc's"]
    assert total.startswith("all ")
    assert "35% of 156 TFLOP/s assumed" in lines[-2]


def test_the_command_measures_the_text_that_is_there(monkeypatch, capsys, tmp_path, values):
    assert isinstance(parse_params(values), Params)
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="no text there"):
        command.size_of(tmp_path / "raw")
    (tmp_path / "raw/one.txt").write_bytes(b"x" * 1000)
    (tmp_path / "raw/more").mkdir()
    (tmp_path / "raw/more/two.txt").write_bytes(b"x" * 500)
    assert command.size_of(tmp_path / "raw") == 1500
    with pytest.raises(SystemExit, match="plan: error: --text"):
        run(monkeypatch, "--text", "much")


def test_every_rate_was_filled_in():
    for text in TEXTS.values():
        assert all(value > 0 for value in vars(text).values())
        assert text.fill <= 1
    for device in DEVICES.values():
        assert 0 < device.share < 1 and device.half >= device.single
