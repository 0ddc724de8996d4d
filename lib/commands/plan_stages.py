"""Cost estimates per stage, computed from params.yaml and the rates in `lib.commands.plan_rates`.

docs/planning.md has the formulas in words, and their accuracy.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from lib.commands import plan_rates as rates
from lib.commands.plan_rates import ASSUMED_MFU, Device, Text
from lib.model.config import new_config, read_config
from lib.model.encoder_config import EncoderConfig
from lib.model.flops import training_flops
from lib.model.memory import Microbatch, peak_memory, slots_size, weights_size
from lib.model.optimizers import OPTIMIZERS
from lib.params import VOCAB, Params
from lib.records.settings import RecordSettings, split_settings
from lib.run.phases import run_length, training_settings
from lib.train.saving.kept_state import is_kept

MEASURED = "measured"


@dataclass(frozen=True)
class StageEstimate:
    """Estimates for a stage.

    Attributes:
        seconds: wall seconds; the least, if there is a range.
        disk, memory: bytes.
        basis: what the estimates are based on.
        most_seconds: the other end of the range; None without one.
    """

    name: str
    seconds: float
    disk: float
    memory: float
    basis: str
    most_seconds: float | None = None


def estimate_stages(
    params: Params, raw: float, text: Text, device: Device, devices: int, cores: int
) -> list[StageEstimate]:
    """Estimates for all stages, in the order in which they run.

    Args:
        raw: bytes of the raw text, uncompressed.
        devices: number of accelerators that train together.
        cores: CPU cores of the machine that prepares the data.

    Raises:
        UserError: a model that a phase starts from does not exist.
    """
    corpus, megabytes = raw * text.corpus, raw / 1e6
    sample = min(corpus, params.sample5M.sentences * text.sentence)
    workers = cores if params.cluster.workers == "auto" else params.cluster.workers

    def data(name: str, seconds: float, disk: float, processes: int = workers) -> StageEstimate:
        memory = rates.STAGE_MEMORY[name.split()[0]] * processes
        return StageEstimate(name, seconds * megabytes / processes, disk, memory, MEASURED)

    stages = [
        data("preprocess", text.preprocess, corpus + raw * text.cleaned),
        data("sample5M", text.sample, sample, 1),
    ]
    if params.vocab.source == "sentencepiece":
        seconds, memory = (rate * sample for rate in rates.VOCABULARY[params.vocab.algorithm])
        basis = "measured on 94 MB, scaled linearly"
        stages.append(StageEstimate("vocab", seconds, 2e6, memory, basis))
    stages.append(data("split", text.split, corpus))
    for name in params.phases:
        of_split = split_settings(params, name)
        settings = of_split["train"]
        held_out = params.split.dev_fraction, params.split.test_fraction
        sequences, disk = records_size(raw * (1 - sum(held_out)), text, settings)
        dev_sequences, _ = records_size(raw * held_out[0], text, of_split["dev"])
        _, held_out_disk = records_size(raw * sum(held_out), text, of_split["dev"])
        seconds = text.tokenize + settings.dupe_factor * text.copy
        stages += [
            data(f"records {name}", seconds, disk + held_out_disk),
            estimate_training(params, name, settings, sequences, dev_sequences, device, devices),
        ]
    return stages


def records_size(raw: float, text: Text, settings: RecordSettings) -> tuple[float, float]:
    """Number of sequences in the records made from `raw` bytes of text, and their bytes on disk."""
    length, rate, example_tokens = settings.max_seq_length, text.tokens, text.example_tokens
    if not settings.next_sentence:
        rate, example_tokens = text.segment_tokens, text.segment_length
    tokens = raw * rate * settings.dupe_factor
    if settings.packing:
        of_sentences = settings.whole_sentences and not settings.next_sentence
        sequence_tokens = length * (text.sentences_fill if of_sentences else rates.PACKED_FILL)
        size = rates.PACKED_SEQUENCE_BYTES + rates.PACKED_POSITION_BYTES * length
        size += rates.EXAMPLE_BYTES * settings.examples_per_sequence
    else:
        sequence_tokens = min(example_tokens, length * text.fill)
        size = rates.SEQUENCE_BYTES + rates.POSITION_BYTES * length
    size += rates.TOKEN_BYTES * sequence_tokens
    if settings.masking == "static":
        size += rates.PREDICTION_BYTES * settings.predictions_per_sequence()
    if settings.compression == "gzip":
        size *= rates.GZIP_RATIO
    return tokens / sequence_tokens, tokens / sequence_tokens * size


def estimate_training(
    params: Params,
    name: str,
    settings: RecordSettings,
    sequences: float,
    dev_sequences: float,
    device: Device,
    devices: int,
) -> StageEstimate:
    """Estimate for one phase: its steps, and an evaluation on the dev records every so often."""
    config, training = (
        phase_config(params, name),
        training_settings(params.pretrain, params.phases[name]),
    )
    batch, length = training.batch_size, settings.max_seq_length
    predictions, examples = settings.predictions_per_sequence(), settings.examples_per_sequence
    flops = training_flops(config, batch, length, predictions, examples, settings.next_sentence)
    steps, _ = run_length(training, math.ceil(sequences))
    # In units of a training step: a forward pass is a third of forward and backward.
    evaluation = math.ceil(steps / training.evaluate_every) * dev_sequences / batch / 3
    peak = device.single if training.precision == "float32" else device.half
    microbatch = training.microbatch_size or math.ceil(batch / devices)
    optimizer, weights = OPTIMIZERS[training.optimizer], weights_size(config)
    update = optimizer.step_flops(config.parameter_table())
    more = f"{update / flops:.0%} more for {training.optimizer}, " if update else ""
    more += f"{evaluation / steps:.0%} more for dev evaluations"
    work = (steps + evaluation) * flops + steps * update
    mfu = device.speed / peak if device.speed else device.mfu
    least, most = ASSUMED_MFU if mfu is None else (mfu, mfu)
    reached = f"{most:.0%}" if least == most else f"{least:.0%} to {most:.0%}"
    return StageEstimate(
        f"pretrain {name}",
        work / (peak * devices * most),
        # A checkpoint holds weights and slots, as does a state that is kept; the last and the best
        # model hold the weights.
        (weights + slots_size(config, optimizer)) * (training.keep_checkpoints + is_kept(training))
        + 2 * weights,
        peak_memory(
            config,
            optimizer,
            Microbatch(
                sequences=microbatch,
                length=length,
                predictions=predictions,
                examples=examples if settings.next_sentence else 0,
                packed=settings.packing,
                item_bytes=4 if training.precision == "float32" else 2,
                gradient_checkpointing=training.gradient_checkpointing,
            ),
        ),
        f"{weights / 4e6:.0f} M parameters, {steps:,} steps of {flops / 1e12:.3g} TFLOP, "
        f"{more}, {work / 1e15:,.0f} PFLOP in all; "
        f"{reached} of {peak / 1e12:g} TFLOP/s ({device.basis}); memory per device, {microbatch} "
        "sequences at a time",
        work / (peak * devices * least) if least < most else None,
    )


def phase_config(params: Params, name: str) -> EncoderConfig:
    """Configuration of the model that a phase trains.

    Raises:
        UserError: the model or config.json that it starts from does not exist.
    """
    init, earlier = params.phases[name].init, list(params.phases)
    for other in earlier[: earlier.index(name)]:
        if init in (f"models/{other}", f"models/state/{other}"):
            return phase_config(params, other)
    if init == VOCAB:
        return new_config(params.vocab.size, params.pretrain.model.model_dump())
    file = Path(init)
    if file.suffix != ".json":
        names = ("config.json", "bert_config.json")
        # The name of one of several checkpoints ends in .index.
        folder = file.parent if file.suffix == ".index" else file
        files = [folder / each for each in names]
        file = next((each for each in files if each.exists()), files[0])
    return read_config(file)
