"""A phase that starts from a model begins with the loss that transformers computes for it."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.records.tfrecord_reader import read_examples  # noqa: E402
from tests.helpers.project import Project, training, write_text  # noqa: E402


def their_losses(model, sequences) -> tuple[float, float]:
    """MLM and NSP loss, means over masked tokens and over sequences."""
    batch = {
        name: torch.tensor(np.stack([each[name] for each in sequences])) for name in sequences[0]
    }
    with torch.no_grad():
        output = model(batch["input_ids"], batch["input_mask"], batch["segment_ids"])
    positions = batch["masked_lm_positions"][..., None].expand(-1, -1, model.config.vocab_size)
    logits = output.prediction_logits.gather(1, positions)
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["masked_lm_ids"].flatten(), reduction="none"
    )
    weights = batch["masked_lm_weights"].flatten()
    pairs = torch.nn.functional.cross_entropy(
        output.seq_relationship_logits, batch["next_sentence_labels"].flatten()
    )
    return float((loss * weights).sum() / weights.sum()), float(pairs)


@pytest.mark.slow
def test_the_first_evaluation_equals_that_of_the_initial_model(tmp_path):
    project = Project(tmp_path / "project")
    write_text(project.folder / "data/raw")
    project.make_records()
    project.run(*training("models/first"))
    dev = sorted((project.folder / "data/records/main/dev").glob("*.tfrecord"))
    sequences = [each for path in dev for each in read_examples(path)]
    source = transformers.BertForPreTraining.from_pretrained(project.folder / "models/first").eval()
    expected = their_losses(source, sequences)
    project.set({"phases": {"main": {"init": "models/first", "learning_rate": 0.01}}})
    command = list(training("models/second"))
    command[-3] = "models/first"
    output = project.run(*command)
    assert "starts from models/first (Hugging Face)" in output
    results = project.folder / "results/pretrain/main"
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    initial = metrics["dev_mlm_loss_initial"], metrics["dev_nsp_loss_initial"]
    np.testing.assert_allclose(initial, expected, atol=1e-4)
    assert metrics["dev_mlm_loss"] != metrics["dev_mlm_loss_initial"]
    curve = (results / "curves/dev/mlm_loss.tsv").read_text(encoding="utf-8")
    step, value = curve.splitlines()[1].split("\t")[-2:]
    assert step == "0" and float(value) == pytest.approx(expected[0], abs=1e-4)
