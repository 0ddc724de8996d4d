"""Trains Hugging Face's BERT or ModernBERT with its Trainer for a budget of processor time.

python -m bench.peers.hugging_face_trainer JOB_JSON

Follows its language-modelling example: the stock model, the lines of a text tokenized, concatenated
and cut into blocks, DataCollatorForLanguageModeling, Trainer. The keys of the job are described in
`bench.training.learning`.
"""

import sys
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from bench.common.budget import Meter, run
from bench.common.report import read_json
from bench.peers.hugging_face_modernbert import make_modernbert

Blocks = list[dict[str, list[int]]]


def make_blocks(encoded: dict[str, list[list[int]]], length: int) -> Blocks:
    """All lines concatenated and cut into blocks; tokens that do not fill a block are dropped."""
    concatenated = {key: list(chain.from_iterable(lines)) for key, lines in encoded.items()}
    total = len(concatenated["input_ids"]) // length * length
    return [
        {key: values[start : start + length] for key, values in concatenated.items()}
        for start in range(0, total, length)
    ]


class MeterCallback(TrainerCallback):
    """Reports each step to the meter and ends the training with it."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._meter.step(kwargs["model"].save_pretrained):
            control.should_training_stop = True


def make_model(job: dict[str, Any], tokenizer: Any) -> PreTrainedModel:
    """The stock model with random weights."""
    sizes, pad = job["model"], tokenizer.pad_token_id
    if sizes.get("architecture") != "modernbert":
        return BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), pad_token_id=pad, **sizes))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    return make_modernbert(sizes, len(tokenizer), job["mode"], False, pad, cls, sep)


def train(job: dict[str, Any], tokenizer: Any, blocks: Blocks, steps: int, meter: Meter) -> None:
    """Trains from scratch until the meter ends the run."""
    set_seed(job["seed"])
    compiled = job.get("mode") == "compiled"
    arguments = TrainingArguments(
        output_dir=str(Path(job["folder"]) / "trainer"),
        use_cpu=True,
        per_device_train_batch_size=job["batch_size"],
        max_steps=steps,
        learning_rate=job["rate"],
        warmup_steps=round(steps * job["warmup"]),
        lr_scheduler_type="linear",
        weight_decay=job["weight_decay"],
        adam_epsilon=job["adam_epsilon"],
        dataloader_pin_memory=False,
        # A smaller batch would be compiled on its own.
        dataloader_drop_last=compiled,
        torch_compile=compiled,
        seed=job["seed"],
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=make_model(job, tokenizer),
        args=arguments,
        train_dataset=blocks,
        data_collator=DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=job.get("masked", 0.15)
        ),
        callbacks=[MeterCallback(meter)],
    )
    trainer.train()


def main(path: Path) -> None:
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    job = read_json(path)
    tokenizer = AutoTokenizer.from_pretrained(job["vocabulary"])
    # Otherwise it warns about each line that is longer than a block.
    tokenizer.model_max_length = 1 << 30
    lines = Path(job["text"]).read_text(encoding="utf-8").splitlines()
    encoded = tokenizer([line for line in lines if line], return_special_tokens_mask=True)
    blocks = make_blocks(dict(encoded), job["length"])
    run(path, lambda job, steps, meter: train(job, tokenizer, blocks, steps, meter))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
