"""Tiny scale: the changes that turn any recipe into a run of minutes on two cores.

What makes up the recipe stays: stages, phases and their fractions of the steps, the kind of
vocabulary, sequence lengths, masking, packing, optimizer and schedule. The model, the number of
steps and the sample shrink, and initial weights are those from which a model learns in few steps.
"""

from typing import Any

from lib.model.optimizers import OPTIMIZERS
from lib.params import Params
from lib.run.phases import training_settings

# Replaces the base model of recipes that continue from one: the model of `make smoke`, which
# `make tiny-base` copies here.
TINY_BASE = "models/base/tiny"
_BASES = "models/base/"

_STEPS = 600  # Of all phases together.
_BATCH_SIZE = 16  # Of the phase with the largest batches.
_MICROBATCHES = 4
_HIDDEN, _LAYERS, _HEADS = 64, 2, 2
_MAXIMUMS = {
    "sample5M": {"sentences": 20_000, "heldout_sentences": 1000},
    "split": {"lines_per_shard": 2000},
    "pretrain": {"shuffle_buffer": 2000},
    "evaluate": {"max_examples": 500},
}
_VOCABULARY = 2000


def tiny_changes(params: Params) -> dict[str, Any]:
    """The keys to change, nested as in params.yaml.

    The text is not shortened: its size is the user's choice.
    """
    values = params.model_dump()
    changes: dict[str, Any] = {
        section: {key: min(maximum, values[section][key]) for key, maximum in keys.items()}
        for section, keys in _MAXIMUMS.items()
    }
    vocab, pretrain, phases = values["vocab"], values["pretrain"], values["phases"]
    changes["vocab"] = _tiny_base(vocab, "base")
    if changes["vocab"]:  # The tokenizer of the tiny base lower-cases, as that of `make smoke`.
        changes["vocab"] |= {"lowercase": True, "strip_accents": True}
    # The size of a vocabulary of single characters is a maximum: Chinese text has more than 2,000.
    if vocab["source"] == "sentencepiece":
        changes["vocab"]["size"] = min(_VOCABULARY, vocab["size"])
    changes["phases"] = {name: _tiny_base(phase, "init") for name, phase in phases.items()}
    # XLA would compile for longer than the steps take; half precision is slower on most CPUs.
    changes["pretrain"] |= {"xla": False, "precision": "float32", "distribution": "one"}
    changes["pretrain"]["model"] = _tiny_model(pretrain["model"])
    # Test loss of nemo-wikitext2 on WikiText-2: 5.38 nats; from `normal` weights 5.97, unigram 5.91
    changes["pretrain"]["initialization"] = "neighbors"
    sections = [
        (pretrain, changes["pretrain"]),
        *((phases[name], changes["phases"][name]) for name in phases),
    ]
    _shrink_training(params, sections)
    return changes


def _tiny_base(section: dict[str, Any], key: str) -> dict[str, Any]:
    return {key: TINY_BASE} if section[key].startswith(_BASES) else {}


def _tiny_model(model: dict[str, Any]) -> dict[str, Any]:
    hidden = min(_HIDDEN, model["hidden_size"])
    return {
        "num_hidden_layers": min(_LAYERS, model["num_hidden_layers"]),
        "hidden_size": hidden,
        "num_attention_heads": min(_HEADS, model["num_attention_heads"]),
        "intermediate_size": hidden * model["intermediate_size"] // model["hidden_size"],
    }


def _shrink_training(params: Params, sections: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Adds the changes of `pretrain` and of each phase.

    A key is multiplied by the same factor in all of them, so that the ratios of the phases stay.

    Args:
        sections: `pretrain` first, then each phase: its current values, and the changes to add to.
    """
    runs = [training_settings(params.pretrain, params.phases[name]) for name in params.phases]
    # The steps of an epoch are not known before there are records, so where any phase counts in
    # epochs, steps and epochs alike are taken as relative lengths.
    total = sum(run.steps or run.epochs or 0 for run in runs)
    in_steps = all(run.steps for run in runs)
    step_factor = min(1.0, _STEPS / total) if in_steps else _STEPS / total
    batch = max(run.batch_size for run in runs)
    tiny_batch = min(_BATCH_SIZE, batch)
    microbatch = params.pretrain.microbatch_size
    microbatches = min(_MICROBATCHES, tiny_batch, batch // microbatch) if microbatch else 1
    highest_rate = max(run.learning_rate for run in runs)
    # With the learning rates of large models, one this small would hardly learn.
    tiny_rate = OPTIMIZERS[params.pretrain.optimizer].tiny_learning_rate
    rate_factor = max(1.0, tiny_rate / highest_rate)

    for current, changes in sections:
        for key in ("steps", "epochs"):
            if current.get(key) is not None:
                changes["steps"] = max(20, round(current[key] * step_factor))
        if current.get("epochs") is not None:
            changes["epochs"] = None
        if current.get("batch_size") is not None:
            # A multiple of the microbatches, in proportion to the phase's own batch size.
            unit = tiny_batch // microbatches
            units = round(current["batch_size"] * tiny_batch / batch / unit)
            changes["batch_size"] = unit * max(1, units)
        for key in ("learning_rate", "end_learning_rate"):
            if current.get(key) is not None:
                changes[key] = float(f"{current[key] * rate_factor:.3g}")
        for key in ("warmup_steps", "decay_steps"):
            length = current.get(key)
            if length is not None and length >= 1:
                changes[key] = max(1, round(length * step_factor)) if in_steps else 0.1
    current, changes = sections[0]
    if microbatch:
        changes["microbatch_size"] = tiny_batch // microbatches
    if in_steps and step_factor < 1:
        for key in ("log_every", "evaluate_every", "checkpoint_every", "save_model_every"):
            if current[key]:
                minimum = 1 if key == "save_model_every" else _STEPS // 10
                changes[key] = min(current[key], max(minimum, round(current[key] * step_factor)))
