"""What each stage will take: arithmetic on params.yaml and the rates of `lib.commands.plan_rates`.

docs/planning.md has the formulas in words, and how good they are.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from lib.commands import plan_rates as rates
from lib.commands.plan_rates import Device, Text
from lib.model.config import BertConfig, read_config
from lib.model.flops import training_flops
from lib.model.parameters import parameter_table
from lib.params import VOCAB, Params, Pretrain
from lib.records.settings import RecordSettings
from lib.train.initial_weights import of_params

MEASURED = "measured"


@dataclass(frozen=True)
class Line:
    """A stage: wall seconds, bytes on disk, bytes of memory, and what these rest on."""

    stage: str
    seconds: float
    disk: float
    memory: float
    basis: str


def plan(
    params: Params, raw: float, text: Text, device: Device, devices: int, cores: int
) -> list[Line]:
    """The stages in their order.

    Args:
        raw: bytes of the raw text, unpacked.
        devices: accelerators that train together.
        cores: of the machine that prepares the data.

    Raises:
        UserError: what a phase or the vocabulary starts from is not there.
    """
    corpus, megabytes = raw * text.corpus, raw / 1e6
    sample = min(corpus, params.sample5M.sentences * text.sentence)
    workers = cores if params.cluster.workers == "auto" else params.cluster.workers

    def data(stage: str, seconds: float, disk: float, processes: int = workers) -> Line:
        memory = rates.STAGE_MEMORY[stage.split()[0]] * processes
        return Line(stage, seconds * megabytes / processes, disk, memory, MEASURED)

    lines = [
        data("preprocess", text.preprocess, corpus + raw * text.kept),
        data("sample5M", text.sample, sample, 1),
    ]
    if params.vocab.source == "sentencepiece":
        seconds, memory = (each * sample for each in rates.VOCABULARY[params.vocab.algorithm])
        lines.append(Line("vocab", seconds, 2e6, memory, "measured on 94 MB, in proportion"))
    lines.append(data("split", text.split, corpus))
    for name, phase in params.phases.items():
        made = RecordSettings.from_params(params.records, phase.max_seq_length)
        held_out = params.split.dev_fraction, params.split.test_fraction
        rows, disk = rows_and_bytes(raw * (1 - sum(held_out)), text, made)
        dev_rows, _ = rows_and_bytes(raw * held_out[0], text, made.held_out())
        _, held_out_disk = rows_and_bytes(raw * sum(held_out), text, made.held_out())
        seconds = text.tokenize + made.dupe_factor * text.copy
        lines += [
            data(f"records {name}", seconds, disk + held_out_disk),
            training_line(params, name, made, rows, dev_rows, device, devices),
        ]
    return lines


def rows_and_bytes(raw: float, text: Text, made: RecordSettings) -> tuple[float, float]:
    """Rows of the records of so many bytes of raw text, and the bytes of their files."""
    tokens = raw * text.tokens * made.dupe_factor
    length = made.max_seq_length
    if made.packing:
        in_row = length * rates.PACKED_FILL
        size = rates.PACKED_ROW + rates.PACKED_CELL * length
        size += rates.EXAMPLE * made.examples_per_sequence
    else:
        in_row = min(text.example, length * text.fill)
        size = rates.ROW + rates.CELL * length
    size += rates.TOKEN * in_row
    if made.masking == "static":
        size += rates.PREDICTION * made.predictions_per_sequence()
    if made.compression == "gzip":
        size *= rates.GZIP
    return tokens / in_row, tokens / in_row * size


def training_line(
    params: Params,
    name: str,
    made: RecordSettings,
    rows: float,
    dev_rows: float,
    device: Device,
    devices: int,
) -> Line:
    """A phase of training: its steps, and a look at all dev rows every `evaluate_every`."""
    config, training = config_of(params, name), params.training(name)
    batch, length = training.batch_size, made.max_seq_length
    predictions, examples = made.predictions_per_sequence(), made.examples_per_sequence
    flops = training_flops(config, batch, length, predictions, examples, made.next_sentence)
    steps, _ = training.length(math.ceil(rows))
    # A forward pass is a third of forward and backward.
    looks = math.ceil(steps / training.evaluate_every) * dev_rows / batch / 3
    peak = device.single if training.precision == "float32" else device.half
    parameters = sum(math.prod(parameter.shape) for parameter in parameter_table(config))
    rows_at_once = training.microbatch_size or math.ceil(batch / devices)
    return Line(
        f"pretrain {name}",
        (steps + looks) * flops / (peak * devices * device.share),
        # Checkpoints have weights and two slots; the last model and the best one weights.
        parameters * (12 * training.keep_checkpoints + 8),
        20 * parameters + activations(config, training, rows_at_once, length),
        f"{parameters / 1e6:.0f} M parameters, {steps:,} steps of {flops / 1e12:.3g} TFLOP, "
        f"{looks / steps:.0%} more for dev rows; {device.share:.0%} of {peak / 1e12:g} TFLOP/s "
        f"{device.basis}; memory on a device",
    )


def activations(config: BertConfig, training: Pretrain, rows: int, length: int) -> float:
    """Bytes of what a microbatch keeps for its backward pass.

    For 16 bits: Korthikanti et al. (2022), Reducing Activation Recomputation in Large Transformer
    Models, equation 1, and section 5 for recomputation; twice that for 32.
    """
    size, heads = config.hidden_size, config.num_attention_heads
    of_layer = rows * length * (34 * size + 5 * heads * length)
    kept = 2 * rows * length * size
    layers = config.num_hidden_layers
    total = kept * layers + of_layer if training.gradient_checkpointing else of_layer * layers
    return total * (2 if training.precision == "float32" else 1)


def config_of(params: Params, name: str) -> BertConfig:
    """The sizes of the model that a phase trains.

    Raises:
        UserError: it starts from something that is not there.
    """
    init, earlier = params.phases[name].init, list(params.phases)
    for other in earlier[: earlier.index(name)]:
        if init == f"models/{other}":
            return config_of(params, other)
    if init == VOCAB:
        return of_params(params.pretrain.model, params.vocab.size)
    file = Path(init)
    if file.suffix != ".json":
        names = ("config.json", "bert_config.json")
        file = next((file / each for each in names if (file / each).exists()), file / names[0])
    return read_config(file)
