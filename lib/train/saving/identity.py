"""What identifies a training run: its inputs, the settings that determine its result, its code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.params import Pretrain
from lib.run import fingerprint
from lib.run.code_digest import ROOT, listing

# Raised by hand when checkpoints of an older version must not be resumed.
_FORMAT = 6
# Settings that decide what is logged and saved, but not the weights: they may change within a run.
INTERVALS = ("log_every", "evaluate_every", "max_dev_sequences", "save_model_every")
_NO_DIFFERENCE = (
    "checkpoint_every",
    "checkpoint_minutes",
    "checkpoint_dir",
    "keep_checkpoints",
    "tensorboard",
    "tpu",
)
# Settings that decide the number of steps and their learning rates, and nothing else.
RATES = (
    "steps",
    "epochs",
    "learning_rate",
    "end_learning_rate",
    "schedule",
    "power",
    "warmup_steps",
    "decay_steps",
)
# Settings with which a run may be continued on purpose: they change neither data nor state.
CONTINUABLE = (*RATES, "weight_decay", "clip_norm")


@dataclass(frozen=True)
class Identity:
    """What identifies a run.

    Attributes:
        inputs: digests of its records, initial weights and vocabulary; the format of checkpoints.
        settings: those that determine the weights.
        code: digest of the training code.
    """

    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    code: str

    @property
    def digest(self) -> str:
        """Of everything but the code, hexadecimal."""
        return fingerprint.of_values({**self.inputs, "settings": dict(self.settings)})

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"{self.digest}-{self.code[:12]}"


def identify(settings: Pretrain, records: str, init: Path, vocab: Path) -> Identity:
    """The identity of the run that is started now.

    Args:
        records: digest of the records.
        init: file or folder of the initial weights.
        vocab: folder of the vocabulary.
    """
    return Identity(
        {
            "format": str(_FORMAT),
            "records": records,
            "init": fingerprint.of_path(init),
            "vocab": fingerprint.of_path(vocab),
        },
        settings.model_dump(mode="json", exclude={*INTERVALS, *_NO_DIFFERENCE}),
        training_code(),
    )


def recorded_model(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """`pretrain.model` in the settings of a recorded run, with all keys that it has now.

    Earlier versions had BERT only; the keys that they did not have do not apply to it.
    """
    return {**now, "architecture": "bert", **before}


def training_code() -> str:
    """Digest of the code that trains, hexadecimal; comments and docstrings do not count."""
    return fingerprint.of_values(listing(ROOT, "pretrain"))
