"""Checkpoints and records exchanged with other tools, checked against these tools.

A check whose inputs are missing is skipped. Weights are compared only through a model's outputs,
never through our own conversion tables: here, transformers gets its weights by renaming strings.

- hidden states, pooled: outputs published with a Hugging Face encoder by its authors.
- MLM logits, NSP logits: a Google TF1 checkpoint in our model and in transformers.
- run_pretraining.py: our records as read by the input function of Google's script.
- google_sample: the records published with Google's code, through the stages records and pretrain.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import PEERS
from bench.common import cli, inputs
from bench.common.project import Project
from bench.common.report import Row, read_json
from lib.run import tf
from lib.run.errors import UserError


def _result(name: str, quantity: str, value: float, threshold: float) -> Row:
    return {
        "name": name,
        "quantity": quantity,
        "value": float(value),
        "threshold": threshold,
        "passed": float(value) <= threshold,
    }


def _difference(name: str, quantity: str, ours: Any, theirs: Any, threshold: float) -> Row:
    """Result of the largest absolute difference."""
    difference = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max()
    return _result(name, quantity, difference, threshold)


def published_outputs(folder: Path, work: Path) -> list[Row]:
    """Compares hidden states and pooled vectors of an encoder with the published ones."""
    from lib.checkpoints.formats import read_checkpoint
    from lib.model.bert import encode
    from lib.model.layers import dense

    model = work / "encoder"
    model.mkdir(parents=True, exist_ok=True)
    for theirs, name in (
        ("tiny_bert.safetensors", "model.safetensors"),
        ("tiny_bert_config.json", "config.json"),
    ):
        (model / name).write_bytes((folder / theirs).read_bytes())
    expected = read_json(folder / "tiny_bert_hidden.json")
    found = read_checkpoint(model, allow_missing_heads=True)
    ids = np.array(expected["sequences"], np.int32)
    segments = np.array(expected["token_types"], np.int32)
    batch = {"input_ids": ids, "input_mask": np.ones_like(ids), "segment_ids": segments}
    hidden = encode(found.weights, found.config, batch)
    rows = [_difference(folder.name, "hidden states", hidden, expected["hidden"], 1e-4)]
    if "pooler" in expected:
        pooled = tf.tanh(dense(found.weights, "bert/pooler/dense", hidden[:, 0]))
        rows.append(_difference(folder.name, "pooled", pooled, expected["pooler"], 1e-4))
    return rows


def google_checkpoint(folder: Path) -> list[Row]:
    """Compares logits of a TF1 checkpoint in our model and in transformers."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    from lib.checkpoints.formats import read_checkpoint
    from lib.model.bert import encode, masked_lm_logits, next_sentence_logits

    values = read_json(folder / "bert_config.json")
    # Google's gelu is the tanh approximation.
    config = BertConfig(**values | {"hidden_act": "gelu_new"}, attn_implementation="eager")
    theirs = BertForPreTraining(config).eval()
    reader = tf.train.load_checkpoint(str(next(folder.glob("*.ckpt.index")).with_suffix("")))
    state = theirs.state_dict()
    for name in reader.get_variable_to_shape_map():
        if not name.startswith(("bert/", "cls/")) or name.endswith(("/adam_m", "/adam_v")):
            continue
        values, leaf = reader.get_tensor(name), name.rpartition("/")[2]
        other = name.replace("/", ".").replace("layer_", "layer.")
        other = other.replace("predictions.output_bias", "predictions.bias")
        other = other.replace("seq_relationship.output_weights", "seq_relationship.weight")
        other = other.replace("seq_relationship.output_bias", "seq_relationship.bias")
        other = re.sub(r"\.(kernel|gamma)$", ".weight", other)
        other = re.sub(r"\.beta$", ".bias", other)
        other += ".weight" if leaf.endswith("_embeddings") else ""
        if other not in state:
            raise UserError(f"{folder}: transformers has no {other}")
        state[other] = torch.tensor(values.T if leaf == "kernel" else values)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    theirs.load_state_dict(state)
    ours = read_checkpoint(folder)
    length = ours.config.max_position_embeddings
    draw = np.random.default_rng(1)
    ids = draw.integers(0, ours.config.vocab_size, (8, length), np.int32)
    mask = (np.arange(length) < draw.integers(3, length + 1, (8, 1))).astype(np.int32)
    segments = (np.arange(length) >= 5).astype(np.int32) * mask
    with torch.no_grad():
        expected = theirs(*(torch.tensor(each).long() for each in (ids, mask, segments)))
    batch = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    hidden = encode(ours.weights, ours.config, batch)
    mlm = masked_lm_logits(ours.weights, ours.config, hidden).numpy()  # [B, S, V]
    mlm = mlm[mask > 0]  # [B, S, V] -> [tokens, V]
    nsp = next_sentence_logits(ours.weights, hidden[:, :1])[:, 0]  # [B, 1, 2] -> [B, 2]
    theirs_mlm, theirs_nsp = expected.prediction_logits, expected.seq_relationship_logits
    return [
        _difference(folder.name, "MLM logits", mlm, theirs_mlm[mask > 0], 1e-5),
        _difference(folder.name, "NSP logits", nsp, theirs_nsp, 1e-5),
    ]


def google_reader(checkout: Path, project: Project) -> list[Row]:
    """Compares our records as Google's input function reads them with what was written."""
    from lib.records.manifest import read_manifest, record_files
    from lib.records.tfrecord_reader import read_examples

    project.stages("preprocess", "split")
    project.records()
    records = project.path("data/records/main")
    manifest = read_manifest(records)
    files = record_files(records, manifest, "train")
    count = manifest.splits["train"].sequences
    out = project.path("google.npz")
    script = PEERS / "google_reader.py"
    command = [sys.executable, script, checkout, out, "128", "20", str(count), *files]
    subprocess.run(list(map(str, command)), check=True)
    theirs = np.load(out)
    own = [example for path in files for example in read_examples(path)]
    wrong = sum(
        not np.array_equal(theirs[name][number], values)
        for number, example in enumerate(own)
        for name, values in example.items()
    )
    if len(own) != count or len(theirs["input_ids"]) != count or not count:
        raise UserError(
            f"{records}: {len(own)} sequences read, but the manifest has {count}; delete the "
            "scratch folder and run again"
        )
    return [_result("run_pretraining.py", f"wrong features of {count} sequences", wrong, 0)]


def google_sample(sample: Path, project: Project) -> list[Row]:
    """Trains on records published by Google: loss after a few steps, over the loss of guessing."""
    source = project.path("data/given")
    source.mkdir(parents=True, exist_ok=True)
    (source / sample.name).write_bytes(sample.read_bytes())
    project.set({"records": {"source": "data/given"}})
    project.records()
    project.pretrain()
    loss = project.metrics("pretrain/main")["train_mlm_loss"]
    vocabulary = inputs.read_vocabulary(project.path("data/vocab/vocab.txt"))
    return [_result(sample.name, "loss / loss of guessing", loss / np.log(len(vocabulary)), 0.95)]


def main() -> None:
    parser = cli.make_parser("training.crossings", __doc__, "google", "vocab")
    for option, what in (
        ("encoder", "folder with tiny_bert.safetensors, its config and tiny_bert_hidden.json"),
        ("checkpoint", "folder with a Google TF1 checkpoint"),
        ("text", "dozens of documents, a blank line after each, with --google and --vocab"),
        ("sample", "TFRecord file of Google's script, with --vocab"),
    ):
        parser.add_argument(f"--{option}", type=Path, help=what)
    options = cli.parse(parser)
    rows: list[Row] = []
    if options.encoder:
        rows += published_outputs(options.encoder, options.work)
    if options.checkpoint:
        rows += google_checkpoint(options.checkpoint)
    if options.vocab and (options.sample or (options.google and options.text)):
        params = {
            "split": {"dev_fraction": 0.2, "test_fraction": 0.2},
            "records": {"dupe_factor": 5, "max_predictions_per_seq": 20},
            "phases": {"main": {"max_seq_length": 128}},
            "pretrain": {"steps": 30, "warmup_steps": 3, "batch_size": 8, "log_every": 1},
        }
        project = Project(options.work / "project", params)
        project.use_vocabulary(options.vocab)
        if options.google and options.text:
            project.path("data/raw/text.txt").write_bytes(options.text.read_bytes())
            rows += google_reader(options.google, project)
        if options.sample:
            rows += google_sample(options.sample, project)
    cli.finish(options, results=rows)


if __name__ == "__main__":
    cli.run_main(main)
