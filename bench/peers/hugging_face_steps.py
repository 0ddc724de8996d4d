"""Times training steps of Hugging Face's BERT or ModernBERT.

python -m bench.peers.hugging_face_steps JOB_JSON

The stock model in PyTorch's usual loop: zero_grad, loss, backward, clip_grad_norm_, AdamW, in the
implementation of AdamW that is fastest on this machine. Started by `bench.training.speed`; the keys
of the job are described in `bench.common.rounds`.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

from bench.common.batches import collate, random_sequences
from bench.common.report import read_json, write_json
from bench.common.step_timing import MATMUL_SIZE, BatchSize, matmul_peak, time_steps
from bench.peers.hugging_face_modernbert import make_modernbert
from lib.records.tfrecord_reader import read_examples

Batch = dict[str, torch.Tensor]
_ADAMW = ({"fused": True}, {"foreach": True}, {"foreach": False})


class Gathered(torch.nn.Module):
    """The stock model with its MLM head applied at masked positions only."""

    def __init__(self, model: BertForPreTraining) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        positions: torch.Tensor,
        labels: torch.Tensor,
        next_sentence_label: torch.Tensor,
    ) -> torch.Tensor:
        """Loss of a batch [B, S] with M masked positions.

        Args:
            positions: int64 [M], indices into the flattened batch [B * S].
            labels: int64 [M].
        """
        encoded = self.model.bert(input_ids, attention_mask, token_type_ids)
        hidden = encoded.last_hidden_state.flatten(0, 1)[positions]  # [B, S, H] -> [M, H]
        loss = torch.nn.functional.cross_entropy
        pairs = self.model.cls.seq_relationship(encoded.pooler_output)
        return loss(self.model.cls.predictions(hidden), labels) + loss(pairs, next_sentence_label)


def batches(job: dict[str, Any]) -> Iterator[Batch]:
    """Random sequences without padding, or padded examples of records; all made in advance."""
    size = job["settings"]["batch_size"]
    if job["records"]:
        (file, *_) = sorted(Path(job["records"]).glob("train/*"))
        # In file order: the text was shuffled before the records were made.
        examples = list(itertools.islice(read_examples(file), size * (job["steps"] + 50)))
        starts = range(0, len(examples) - size + 1, size)
        groups = [examples[start : start + size] for start in starts]
    else:
        sequences = random_sequences(size, job["length"], job["predictions"], job["vocab_size"])
        groups = [
            [{name: values[number] for name, values in sequences.items()} for number in range(size)]
        ]
    return itertools.cycle([_tensors(collate(group), job) for group in groups])


def _tensors(collated: dict[str, Any], job: dict[str, Any]) -> Batch:
    batch = {name: torch.from_numpy(values) for name, values in collated.items()}
    if _is_modernbert(job):
        del batch["token_type_ids"], batch["next_sentence_label"]
    elif job["gathered"]:
        labels = batch["labels"].flatten()  # [B, S] -> [B * S]
        batch["positions"] = torch.nonzero(labels != -100).flatten()
        batch["labels"] = labels[batch["positions"]]
    elif not job["next_sentence"]:
        del batch["next_sentence_label"]
    return batch


def _is_modernbert(job: dict[str, Any]) -> bool:
    return job["model"].get("architecture") == "modernbert"


def make_model(job: dict[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The stock model with random weights, and the module that computes the loss of a batch."""
    sizes, vocab_size = job["model"], job["vocab_size"]
    if _is_modernbert(job):
        model: Any = make_modernbert(sizes, vocab_size, job["mode"], job["gathered"], 0, 0, 0)
        return model.train(), model
    stock = BertForPreTraining if job["next_sentence"] or job["gathered"] else BertForMaskedLM
    model = stock(BertConfig(vocab_size=vocab_size, **sizes)).train()
    return model, Gathered(model) if job["gathered"] else model


def batch_size(batch: Batch) -> BatchSize:
    return BatchSize(batch["attention_mask"].sum(1).numpy(), int((batch["labels"] != -100).sum()))


def fastest_adamw(parameters: list[torch.nn.Parameter]) -> dict[str, bool]:
    """Options of the implementation of AdamW that takes least time for these gradients."""
    seconds = []
    for options in _ADAMW:
        optimizer = torch.optim.AdamW(parameters, lr=0.0, **options)
        optimizer.step()  # allocates its state
        start = time.perf_counter()
        for _ in range(2):
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return _ADAMW[seconds.index(min(seconds))]


def peak(dtype: torch.dtype) -> float:
    """FLOPs per second of PyTorch's product of large matrices."""
    matrix = torch.randn(MATMUL_SIZE, MATMUL_SIZE).to(dtype)
    return matmul_peak(lambda: matrix @ matrix)


def main(path: Path) -> None:
    job = read_json(path)
    model, module = make_model(job)
    parameters = list(model.parameters())
    adamw: dict[str, bool] = {"fused": True}
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.01, **adamw)
    forward: Any = torch.compile(module) if job["mode"] == "compiled" else module
    dtype = torch.bfloat16 if job["settings"]["precision"] == "bfloat16" else torch.float32

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            result = forward(**batch)
            loss = result if isinstance(result, torch.Tensor) else result.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        loss.item()

    def choose_adamw() -> None:
        nonlocal adamw, optimizer
        adamw = fastest_adamw(parameters)
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.01, **adamw)

    times = time_steps(
        batches(job),
        step,
        batch_size,
        job["steps"],
        compilations=lambda: counters["stats"]["unique_graphs"],
        after_first=choose_adamw,
    )
    write_json(path.with_name("result.json"), times.result(job, peak(dtype), adamw=adamw))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
