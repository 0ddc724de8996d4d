"""JSON lines under transformers: the same loss as ours on the records."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.checkpoints.huggingface import write_model  # noqa: E402
from lib.model.losses import loss_sums  # noqa: E402
from lib.records import tfrecord  # noqa: E402
from lib.records.importing.json_lines_export import write_json_lines  # noqa: E402
from lib.records.manifest import MANIFEST, SplitEntry, manifest_json  # noqa: E402
from lib.records.settings import RecordSettings  # noqa: E402
from lib.records.statistics import RecordStatistics  # noqa: E402
from tests.helpers.external_examples import LENGTH, PREDICTIONS, VOCABULARY, some_examples  # noqa: E402
from tests.helpers.tiny_bert import TINY, random_weights  # noqa: E402


def test_the_losses_are_equal(tmp_path):
    arrays = some_examples(24, 1)
    records, name = tmp_path / "records", "train/00000.tfrecord"
    (records / "train").mkdir(parents=True)
    (records / name).write_bytes(tfrecord.encode(arrays))
    settings, facts = RecordSettings(LENGTH, PREDICTIONS), RecordStatistics(24, 24)
    train = SplitEntry(
        asdict(settings),
        facts.metrics(LENGTH, True),
        [{"file": name, "examples": 24, "sequences": 24}],
        PREDICTIONS,
    )
    manifest = manifest_json({"train": train}, 1, 1, {})
    (records / MANIFEST).write_text(manifest, encoding="utf-8")
    write_json_lines(records, tmp_path / "lines")
    lines = (tmp_path / "lines/train/00000.jsonl").read_text(encoding="utf-8").splitlines()
    batch = transformers.default_data_collator([json.loads(line) for line in lines])

    config = replace(TINY, vocab_size=len(VOCABULARY), max_position_embeddings=LENGTH)
    weights = random_weights(1, config, 0.2)
    write_model(tmp_path / "model", config, weights, {"pad_token_id": 0})
    model = transformers.BertForPreTraining.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        theirs = model(**batch).loss.item()
    ours = {
        key: matrix if matrix.dtype == np.float32 else matrix.astype(np.int32)
        for key, matrix in arrays.items()
    }
    sums = loss_sums(weights, config, ours | {"example_weights": np.ones(24, np.float32)}, True)
    loss = (
        sums["masked_lm_loss"] / sums["masked_lm_weight"]
        + sums["next_sentence_loss"] / sums["next_sentence_weight"]
    )
    assert theirs == pytest.approx(float(loss), abs=1e-5)
