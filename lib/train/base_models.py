"""Check of base models before any work: `vocab.base`, and each `phases.*.init` that is a model.

It runs at the start of every stage up to pretrain, so at the start of whichever stage runs first,
and without TensorFlow. It opens what these keys name, describes it in a line or two, and refuses
what vocab or pretrain would refuse hours later, and weights that are not finite:

    phases.main.init: models/base/x: Hugging Face, 30,522 embeddings for 30,522 tokens, 12 x 768
    (layers x hidden size), attention heads: 12, positions: 512, segments: 2, MLM head, NSP head,
    pooler, uncased

A check that has passed is not repeated as long as the files, the parameters that it depends on and
its own code are the same: `.scratch/base_models.json` has a digest of them. Nothing depends on the
check: vocab and pretrain read the same files with the same functions, and refuse the same.

The models of this project's own phases are not base models.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from lib.checkpoints.formats import detect_format, open_checkpoint
from lib.checkpoints.huggingface import config_path
from lib.checkpoints.tensor_bundle import INDEX
from lib.checkpoints.tensors import HEADS, NSP_HEADS, OpenCheckpoint
from lib.model.config import architecture_of, read_config
from lib.params import SAMPLE, SHARDS, Params, load_params
from lib.records.importing.examples import find_examples, has_next_sentence, phase_folder
from lib.run import fingerprint
from lib.run.atomic import write_text
from lib.run.code_digest import ROOT
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.paths import MODELS, SAVED_MODELS, STATES, VOCAB
from lib.run.stage import scratch
from lib.train.initial_weights import (
    folder_of,
    model_notes,
    names_config,
    refuse_short_model,
    refuse_too_few_segments,
    tokenizer_files,
)
from lib.train.new_token_embeddings import needed_extension
from lib.vocab.characters import BasicTokenizer
from lib.vocab.directory import TokenizerFiles
from lib.vocab.extension import digest, free_ids, no_extension
from lib.vocab.library_extension import library_free_ids
from lib.vocab.library_tokenizer import LibraryTokenizer
from lib.vocab.sources import existing_tokenizer
from lib.vocab.tokenizer import Tokenizer

_STAMP = "base_models.json"
# Packages that have the code of the check.
_CODE = ("checkpoints", "model", "train", "vocab")


def check_base_models() -> None:
    """Checks the base models of params.yaml and prints what they are, unless that was done before.

    Raises:
        UserError: params.yaml is not valid, or a base model cannot be used with it.
    """
    params = load_params()
    models = {
        name: Path(phase.init)
        for name, phase in params.phases.items()
        if _is_from_outside(params, Path(phase.init))
        and not _comes_later(f"phases.{name}.init", Path(phase.init))
    }
    base: Path | None = Path(params.vocab.base)
    if params.vocab.base == SAMPLE or _comes_later("vocab.base", Path(params.vocab.base)):
        base = None
    if not models and base is None:
        return
    paths = [*models.values(), *([base] if base else [])]
    stamp = scratch() / _STAMP
    key = _digest(params, paths)
    if stamp.is_file() and stamp.read_bytes() == key.encode():
        return
    opened = {
        name: checked for name, path in models.items() if (checked := _open(params, name, path))
    }
    tokenizer = _base_tokenizer(params, base)
    lines = []
    for name, checkpoint in opened.items():
        lines += _check_model(params, name, models[name], checkpoint, tokenizer)
    # Once per model, although several phases may start from it.
    for checkpoint in {models[name]: checkpoint for name, checkpoint in opened.items()}.values():
        for parameter in checkpoint.parameters:  # Each is checked as it is read.
            checkpoint.read(parameter)
    if base and tokenizer and base not in [folder_of(models[name]) for name in opened]:
        lines.append(f"vocab.base: {base}: {len(tokenizer.vocabulary):,} tokens")
    for line in lines:
        print(line, flush=True)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_text(stamp, key)


def _is_from_outside(params: Params, init: Path) -> bool:
    """Whether a phase's `init` is neither the vocabulary nor a model that a phase makes."""
    own = [folder / name for name in params.phases for folder in (MODELS, SAVED_MODELS, STATES)]
    from_scratch = init.resolve() == VOCAB.resolve()
    return not from_scratch and not any(init.is_relative_to(folder) for folder in own)


def _comes_later(key: str, path: Path) -> bool:
    """Whether a path that does not exist is one that DVC provides: pulled, or made by a stage.

    A machine that only trains may have pulled what this stage needs and no more.
    """
    if path.exists():
        return False
    for each in (path, *path.parents):
        pointer = Path(f"{each}.dvc")
        if pointer.is_file():
            missing = f"{path} is not there yet, so it is not checked"
            print(f"{key}: {missing}; `dvc pull {each}` gets it", flush=True)
            return True
    return _is_output(path)


def _is_output(path: Path) -> bool:
    """Whether a path is an output of a stage that users added to dvc.yaml."""
    if not Path("dvc.yaml").is_file():
        return False
    try:
        stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
        outs = [
            str(next(iter(out)) if isinstance(out, Mapping) else out)
            for stage in stages.values()
            for out in stage.get("do", stage).get("outs", [])
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    return any(path.is_relative_to(out) for out in outs)


def _digest(params: Params, paths: Iterable[Path]) -> str:
    """Digest of what the check depends on; of files in base models, of size and time of change."""
    code = [path for name in _CODE for path in sorted((ROOT / "lib" / name).glob("*.py"))]
    files = []
    for path in paths:
        folder = folder_of(path)
        inside = sorted(folder.iterdir()) if path.is_dir() or path.suffix == INDEX else []
        for file in [path, *inside]:
            if file.is_file():
                found = file.stat()
                files.append([str(file), found.st_size, found.st_mtime_ns, found.st_ino])
            else:
                files.append([str(file), file.is_dir(), file.is_symlink()])
    return fingerprint.of_values(
        {
            "code": [fingerprint.of_file(path) for path in code],
            "files": files,
            "vocab": params.vocab.model_dump(),
            "next_sentence": params.records.next_sentence,
            "source": params.records.source,
            "heads": params.pretrain.init_missing_heads,
            "phases": {
                name: [phase.init, phase.max_seq_length] for name, phase in params.phases.items()
            },
        }
    )


def _next_sentence(params: Params, phase: str) -> bool:
    """Whether a phase predicts next sentences: whether its external examples, if any, have labels.

    False if these cannot be read; it is the stage records that refuses them.
    """
    if params.records.source == SHARDS:
        return params.records.next_sentence
    try:
        return has_next_sentence(find_examples(phase_folder(Path(params.records.source), phase))[0])
    except (UserError, OSError):
        return False


def _open(params: Params, name: str, init: Path) -> OpenCheckpoint | None:
    """The model of a phase, names and shapes checked; None if it is a config file, also checked."""
    next_sentence = _next_sentence(params, name)
    segments = 2 if next_sentence else 1
    if names_config(name, init, VOCAB):
        config = read_config(init)
        refuse_short_model(name, params.phases[name].max_seq_length, config, init)
        refuse_too_few_segments(config, segments, f"phases.{name}.init: {init}")
        return None
    # First the plainest reason, then the one whose way out would only lead to another refusal.
    if found := config_path(folder_of(init)):
        architecture_of(read_object(found), str(found))
    tokenizer_files(init)
    config = open_checkpoint(init, True, HEADS).config
    refuse_too_few_segments(config, segments, f"phases.{name}.init: {init}")
    unneeded = () if next_sentence else NSP_HEADS
    return open_checkpoint(init, params.pretrain.init_missing_heads, unneeded)


def _base_tokenizer(params: Params, base: Path | None) -> Tokenizer | None:
    """The tokenizer that `vocab.base` gives, or that is extended; None if one is made from text."""
    if base is None:
        return None
    settings = params.vocab
    if settings.source != "file" and base.is_file():
        raise UserError(f"vocab.base: {base} is a file; name its folder, {base.parent}")
    basic = BasicTokenizer(settings.lowercase, settings.strip_accents)
    tokenizer = existing_tokenizer(settings.source, base, basic)
    if settings.source == "extend":
        if isinstance(tokenizer, LibraryTokenizer):
            library_free_ids(tokenizer.files.content, tokenizer.vocabulary, settings.size)
        else:
            free_ids(tokenizer.vocabulary, settings.size)
    return tokenizer


def _check_model(
    params: Params,
    name: str,
    init: Path,
    checkpoint: OpenCheckpoint,
    tokenizer: Tokenizer | None,
) -> list[str]:
    """Checks a model's tokenizer; returns the lines that describe the model."""
    files = tokenizer_files(init)
    config = checkpoint.config
    if tokenizer and not _may_be_extended(params, files, tokenizer):
        vocabulary = no_extension(tokenizer.vocabulary)
        needed_extension(config.vocab_size, files, tokenizer, vocabulary, folder_of(init))
    length = params.phases[name].max_seq_length
    tokens = f" for {len(files.vocabulary):,} tokens" if files else ""
    if files and files.added:
        tokens += f" ({len(files.added):,} added)"
    parts = {parameter.part for parameter in config.parameter_table()}
    heads = [head for head in HEADS if head in parts and head not in checkpoint.missing_heads]
    notes = model_notes(checkpoint, init, length, _next_sentence(params, name))
    if files and len(set(files.vocabulary)) < len(files.vocabulary):
        twice = len(files.vocabulary) - len(set(files.vocabulary))
        notes.append(
            f"repeated lines in its vocabulary: {twice:,}, of equal tokens the last counts"
        )
    described = (
        f"phases.{name}.init: {init}: {detect_format(init)}, {config.vocab_size:,} embeddings"
        f"{tokens}, {config.num_hidden_layers} x {config.hidden_size} (layers x hidden size), "
        f"attention heads: {config.num_attention_heads}, positions: "
        f"{config.max_position_embeddings:,}, segments: {config.segments}, "
        f"{', '.join(heads) or 'no heads'}{_case(files)}"
    )
    return [described, *([f"phases.{name}.init: note: {'; '.join(notes)}"] if notes else [])]


def _may_be_extended(params: Params, files: TokenizerFiles | None, base: Tokenizer) -> bool:
    """Whether a model may already have the vocabulary that `vocab.source: extend` is to make.

    Only pretrain can compare these. Such a vocabulary has the base's tokens at their ids, except
    for [unusedN] entries.
    """
    if params.vocab.source != "extend":
        return False
    if files is None:
        return True
    if digest(files.vocabulary) == digest(base.vocabulary):
        return False
    pairs = zip(files.vocabulary, base.vocabulary, strict=False)
    return len(files.vocabulary) >= len(base.vocabulary) and all(
        theirs == own or own.startswith("[unused") for theirs, own in pairs
    )


def _case(files: TokenizerFiles | None) -> str:
    if files is None:
        return ", no vocabulary"
    if files.lowercase is None:
        return ", case not stated"
    if not files.lowercase:
        return ", cased" if not files.strip_accents else ", cased, accents stripped"
    return ", uncased" if files.strip_accents else ", uncased, accents kept"
