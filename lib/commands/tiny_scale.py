"""A recipe in minutes on two cores: a small model, few steps, a small sample, the same shape.

Stages, phases and their shares of the steps, the kind of vocabulary, the lengths of rows, masking,
packing, optimizer and schedule stay what they are.
"""

from typing import Any

from lib.params import Params

# The base of recipes that go on from a model: the smoke run's, which `make tiny-base` puts here.
TINY_BASE = "models/base/tiny"
_BASES = "models/base/"

_STEPS = 600  # Of all phases together.
_ROWS = 16  # In a step of the phase with most of them.
_MICROBATCHES = 4
_HIDDEN, _LAYERS, _HEADS = 64, 2, 2
# What a model so small learns by. Rates for large models would leave it where it is.
_RATES = {"adamw": 2e-3, "lamb": 1e-2, "novograd": 5e-3}
_MOST = {
    "sample5M": {"sentences": 20_000, "heldout_sentences": 1000},
    "split": {"lines_per_shard": 2000},
    "pretrain": {"shuffle_buffer": 2000},
    "evaluate": {"max_examples": 500},
}
_VOCABULARY = 2000


def shrunk(params: Params) -> dict[str, Any]:
    """The keys to change, nested as in params.yaml.

    The text is not cut: that is up to who gives it.
    """
    values = params.model_dump()
    changes: dict[str, Any] = {
        section: {key: min(most, values[section][key]) for key, most in keys.items()}
        for section, keys in _MOST.items()
    }
    vocab, pretrain, phases = values["vocab"], values["pretrain"], values["phases"]
    changes["vocab"] = _base(vocab, "base")
    if vocab["source"] in ("sentencepiece", "characters"):
        changes["vocab"]["size"] = min(_VOCABULARY, vocab["size"])
    changes["phases"] = {name: _base(phase, "init") for name, phase in phases.items()}
    # Compiling would take longer than the steps, and so would half precision on most CPUs.
    changes["pretrain"] |= {"xla": False, "precision": "float32", "distribution": "one"}
    changes["pretrain"]["model"] = _model(pretrain["model"])
    places = [
        (pretrain, changes["pretrain"]),
        *((phases[name], changes["phases"][name]) for name in phases),
    ]
    _shrink_training(params, places)
    return changes


def _base(section: dict[str, Any], key: str) -> dict[str, Any]:
    return {key: TINY_BASE} if section[key].startswith(_BASES) else {}


def _model(model: dict[str, Any]) -> dict[str, Any]:
    hidden = min(_HIDDEN, model["hidden_size"])
    return {
        "num_hidden_layers": min(_LAYERS, model["num_hidden_layers"]),
        "hidden_size": hidden,
        "num_attention_heads": min(_HEADS, model["num_attention_heads"]),
        "intermediate_size": hidden * model["intermediate_size"] // model["hidden_size"],
    }


def _shrink_training(params: Params, places: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Adds what changes in `pretrain` and in each phase.

    Everything is multiplied by the same factor wherever it stands, so that the phases' ratios stay.

    Args:
        places: `pretrain` first, then each phase: what it holds, and the changes to add to.
    """
    runs = [params.training(name) for name in params.phases]
    # Epochs of a text whose size is not known: shares, too.
    total = sum(run.steps or run.epochs or 0 for run in runs)
    counted = all(run.steps for run in runs)
    fewer = min(1.0, _STEPS / total) if counted else _STEPS / total
    batch = max(run.batch_size for run in runs)
    rows = min(_ROWS, batch)
    micro = params.pretrain.microbatch_size
    microbatches = min(_MICROBATCHES, rows, batch // micro) if micro else 1
    faster = max(1.0, _RATES[params.pretrain.optimizer] / max(run.learning_rate for run in runs))

    for held, changes in places:
        for key in ("steps", "epochs"):
            if held.get(key) is not None:
                changes["steps"] = max(20, round(held[key] * fewer))
        if held.get("epochs") is not None:
            changes["epochs"] = None
        if held.get("batch_size") is not None:
            each = rows // microbatches
            share = round(held["batch_size"] * rows / batch / each)
            changes["batch_size"] = each * max(1, share)
        for key in ("learning_rate", "end_learning_rate"):
            if held.get(key) is not None:
                changes[key] = float(f"{held[key] * faster:.3g}")
        warmup = held.get("warmup_steps")
        if warmup is not None and warmup >= 1:
            changes["warmup_steps"] = max(1, round(warmup * fewer)) if counted else 0.1
    changes = places[0][1]
    if micro:
        changes["microbatch_size"] = rows // microbatches
    if counted and fewer < 1:
        held = places[0][0]
        for key in ("log_every", "evaluate_every", "checkpoint_every", "save_model_every"):
            if held[key]:
                least = 1 if key == "save_model_every" else _STEPS // 10
                changes[key] = min(held[key], max(least, round(held[key] * fewer)))
