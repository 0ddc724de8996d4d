"""What a finished run has to say, in one screen: `python -m lib.commands.summary`."""

import json
import sys
from pathlib import Path
from typing import Any

from lib.params import load_params
from lib.run.errors import UserError

_RESULTS = Path("results")


def _read(name: str) -> Any:
    path = _RESULTS / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the pipeline first: dvc repro") from None


def summary() -> str:
    """Data, vocabulary, examples, held-out numbers beside their baselines, holes, what next.

    Raises:
        UserError: a stage has not run yet.
    """
    params = load_params()
    phase = params.evaluate.phase
    text = _read("preprocess/metrics.json")
    shards = _read("split/metrics.json")
    vocab = _read("vocab/metrics.json")
    records = _read(f"records/{phase}/metrics.json")["train"]
    training = _read(f"pretrain/{phase}/metrics.json")
    numbers = _read("evaluate/metrics.json")
    holes = _read("evaluate/fill_mask.json")
    lines = [
        "",
        f"Read         {params.preprocess.input}: {text['files']:,} files, {text['documents']:,} "
        f"documents, {text['sentences']:,} sentences, {text['characters']:,} characters",
        f"             ({text['documents_duplicate']:,} duplicates dropped; "
        f"{shards['dev']['documents']:,} dev and {shards['test']['documents']:,} test documents "
        "held out)",
        f"Vocabulary   {vocab['size']:,} pieces, {vocab['heldout']['tokens_per_word']:.2f} a word, "
        f"{vocab['heldout']['unknown_word_fraction']:.2%} of words unknown in held-out text",
        f"Examples     {records['examples']:,} of {params.phases[phase].max_seq_length} tokens, "
        f"{records['fill']:.0%} full",
        f"Trained      {training['parameters']:,} parameters, {training['steps']:,} steps, "
        f"{training['epochs']:.1f} epochs",
        "",
        f"{'Held out':<26}{'model':>10}{'baseline':>10}",
        f"{'  bits a character':<26}{numbers['bits_per_character']:>10.3f}"
        f"{numbers['bits_per_character_unigram']:>10.3f}  piece frequencies",
        f"{'  MLM loss (nats)':<26}{numbers['mlm_loss']:>10.3f}"
        f"{numbers['mlm_loss_unigram']:>10.3f}  piece frequencies",
        f"{'  MLM accuracy':<26}{numbers['mlm_accuracy']:>10.1%}"
        f"{numbers['mlm_accuracy_top_token']:>10.1%}  always the commonest piece",
    ]
    if "nsp_accuracy" in numbers:
        lines.append(
            f"{'  next sentence accuracy':<26}{numbers['nsp_accuracy']:>10.1%}"
            f"{numbers['nsp_accuracy_majority']:>10.1%}  always the commoner answer"
        )
    if "mlm_loss_initial" in numbers:
        lines.append(
            f"  (the model it started from: {numbers['bits_per_character_initial']:.3f} bits a "
            f"character, MLM loss {numbers['mlm_loss_initial']:.3f}, accuracy "
            f"{numbers['mlm_accuracy_initial']:.1%})"
        )
    for hole in holes:
        guesses = ", ".join(
            f"{guess} {probability:.0%}"
            for guess, probability in zip(hole["guesses"], hole["probabilities"], strict=True)
        )
        lines += [
            "",
            f"  {hole['sentence']}",
            f"    hidden: {hole['word']}   model: {guesses}   by frequency: "
            f"{hole['unigram_guess']}",
        ]
    model = Path("models", phase).resolve()
    lines += [
        "",
        f"The model is in {model}; transformers loads it as it is. To try next:",
        "",
        "  dvc exp run -S records.dupe_factor=2          one change: only what it touches runs",
        "  make experiments                              and how the runs compare",
        "  dvc add data/raw && dvc exp run -S preprocess.input=data/raw    your own text",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        print(summary())
    except UserError as error:
        sys.exit(f"summary: error: {error}")
