"""Phases that start from the state in which another phase ended, not only from its weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.model.config import config_from_record
from lib.params import Pretrain
from lib.run.errors import UserError
from lib.train.initial_weights import InitialModel, refuse_too_few_segments
from lib.train.saving import checkpoint, kept_state, run_record
from lib.train.saving.identity import Identity, recorded_model
from lib.train.saving.tokenizer_files import digests_of
from lib.train.workers import Workers
from lib.vocab.tokenizer import Tokenizer

# Settings of which the state is a function: another one would need another state.
_SAME = ("optimizer", "model")
# The order of the records is a function of these.
_ORDER = ("seed", "shuffle_buffer", "mixture")
_KEY = "earlier"


@dataclass(frozen=True)
class Earlier:
    """Training before the first step of a run; nothing unless it starts from a state.

    Attributes:
        steps: optimizer steps; those of the run are counted on for dropout and bias correction.
        sequences: position in the order of the run's records at which its first step begins; below
            0 if the records changed within the run (`make continue`).
        skipped: how many of the steps were skipped.
    """

    steps: int = 0
    sequences: int = 0
    skipped: int = 0

    @classmethod
    def recorded(cls, record: Mapping[str, Any], default: "Earlier | None" = None) -> "Earlier":
        """What `record` returned, out of the record of a run; `default` if it is not there."""
        return cls(**record[_KEY]) if _KEY in record else default or cls()

    def record(self) -> dict[str, dict[str, int]]:
        """An entry for the record of a run."""
        return {_KEY: asdict(self)}

    def of_chief(self, workers: Workers) -> "Earlier":
        """The same on all workers."""
        values = np.array([self.steps, self.sequences, self.skipped], np.float64)
        return Earlier(*map(int, workers.broadcast({_KEY: values})[_KEY]))


def read_initial_state(
    settings: Pretrain,
    phase: str,
    init: Path,
    length: int,
    segments: int,
    tokenizer: Tokenizer,
) -> InitialModel:
    """Reads the model of the state from which a phase starts, and checks that the state fits it.

    Args:
        settings, phase, length, segments: see `lib.train.initial_weights.read_initial_model`.
        init: folder of the state (`lib.train.saving.kept_state`).
    """
    where = f"phases.{phase}.init: {init}"
    if not kept_state.has_state(init):
        raise UserError(
            f"{where}: no state is kept of that phase, because its learning rate has fallen; set "
            f"its schedule to constant, or start from its weights: models/{init.name}"
        )
    (step,) = checkpoint.steps(init)
    record = run_record.read(init)
    damage = checkpoint.damage(init, step) if record else f"{run_record.RECORD} is damaged"
    if damage:
        raise UserError(
            f"{where}: damaged ({damage}); get it again (dvc checkout {init}), or run the phase "
            "that writes it"
        )
    here = settings.model_dump(mode="json")
    for name in _SAME:
        before, now = record["settings"].get(name), here[name]
        if name == "model" and before is not None:
            before = recorded_model(before, now)
        if before != now:
            keys = [key for key in now if before.get(key) != now[key]] if name == "model" else []
            named, old, new = f"pretrain.{name}", before, now
            if keys:
                named, old, new = f"{named}.{keys[0]}", before.get(keys[0]), now[keys[0]]
            raise UserError(
                f"{where}: was trained with {named} {old}, which is now {new}; set it back, run "
                f"the phase that writes the state again, or start from its weights: "
                f"models/{init.name}"
            )
    config = config_from_record(record["config"])
    if digests_of(config, tokenizer) != record["tokenizer"]:
        raise UserError(
            f"{where}: was trained with another vocabulary than data/vocab; run the phase that "
            "writes the state again, or give vocab.source and vocab.base its vocabulary"
        )
    refuse_too_few_segments(config, segments, where)
    if length > config.max_position_embeddings:
        raise UserError(
            f"phases.{phase}.max_seq_length: {length} is more than the "
            f"{config.max_position_embeddings} positions of {init}; shorten it, or start from the "
            f"weights, whose positions can be extended: models/{init.name}"
        )
    arrays = kept_state.arrays(init)
    weights = {each.name: arrays[each.name] for each in config.parameter_table()}
    note = f"starts from the state of {init}: weights and optimizer slots after {step:,} steps"
    return InitialModel(config, weights, False, (note,))


def earlier_training(init: Path, identity: Identity, workers: int) -> Earlier:
    """What was trained before a state, for a run that starts from it.

    The order of the records goes on where the state stopped if it is the same order: of the same
    records and seed, with the same shuffle buffer and number of workers. Otherwise it begins.
    """
    record = run_record.read(init)
    before = Earlier.recorded(record)
    same = record["inputs"]["records"] == identity.inputs["records"]
    same &= all(record["settings"].get(key) == identity.settings[key] for key in _ORDER)
    same &= kept_state.number(init, "workers") == workers
    read = before.sequences + record["total_steps"] * record["settings"]["batch_size"]
    return Earlier(
        before.steps + record["total_steps"],
        read if same else 0,
        int(kept_state.number(init, "skipped/total")),
    )
