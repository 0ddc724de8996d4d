"""The sections of a model card on training data, tokenizer and training."""

from lib.params import Pretrain, Records
from lib.report.card.facts import CardFacts, NamedModel
from lib.report.card.markdown import bullets, in_words, table
from lib.run.phases import overridden


def model_name(model: NamedModel) -> str:
    """The name of a model with its revision and licence, as far as they are known."""
    details = [
        *([f"revision {model.revision}"] if model.revision else []),
        *([f"licence {model.license}"] if model.license else []),
    ]
    return f"`{model.name}`" + (f" ({', '.join(details)})" if details else "")


def training_data(facts: CardFacts) -> str:
    """The text: files, what was dropped, what was kept, how it was cleaned and split."""
    corpus, split, settings = facts.corpus, facts.split, facts.params.preprocess
    formats = ", ".join(f"{count:,} {name}" for name, count in corpus["formats"].items())
    rows: list[tuple[str, object]] = [
        ("files", f"{corpus['files']:,} ({formats})"),
        ("MD5 of these files, as DVC computes it", corpus["input_md5"]),
        ("documents read", corpus["documents_in"]),
        ("characters read", corpus["characters_in"]),
    ]
    rows += [(f"rejected: {in_words(key)}", count) for key, count in corpus["rejected"].items()]
    rows += [
        (f"dropped: {label}", corpus[key])
        for key, label in (
            ("records_without_text", "records without text"),
            ("headings_left_out", "headings"),
            ("documents_empty", "documents that are empty after cleaning"),
        )
        if corpus.get(key)
    ]
    rows.append(("dropped: exact duplicates", corpus["documents_duplicate"]))
    if settings.near_duplicates is None:
        rows.append(("dropped: near duplicates", "not searched for"))
    else:
        label = f"dropped: near duplicates (similarity {settings.near_duplicates} or more)"
        rows.append((label, corpus.get("documents_near_duplicate", "not counted")))
    rows += [
        ("documents kept", corpus["documents"]),
        ("sentences kept", corpus["sentences"]),
        ("characters kept", corpus["characters"]),
    ]
    rows += [
        (f"{part} documents", split[key]["documents"])
        for key, part in (("train", "training"), ("dev", "development"), ("test", "test"))
    ]
    parts = [table(("text", ""), rows)]
    if facts.external_examples:
        parts.insert(
            0,
            f"It was trained on external examples (`{facts.external_examples}`; their number is in "
            "the section Training), whose text is not known here. The table below describes "
            "another text, which the figures of the vocabulary and the evaluation come from.",
        )
    if corpus["edits"]:
        edits = [(in_words(key), count) for key, count in corpus["edits"].items()]
        parts.append(table(("cleaning edit", "times"), edits))
    return "\n\n".join([*parts, _cleaning(facts)])


def _cleaning(facts: CardFacts) -> str:
    """The cleaning options that are on."""
    values = facts.params.preprocess.clean.model_dump()
    shown = []
    for key, value in values.items():
        if value in ("keep", False) or key.endswith("placeholder") or key == "merge_placeholders":
            continue
        placeholder = values.get(f"{key.removesuffix('s')}_placeholder")
        by = f" by `{placeholder}`" if value == "replace" else ""
        shown.append(in_words(key) + ("" if value is True else f": {value}{by}"))
    return f"Cleaning besides white space and control characters: {'; '.join(shown) or 'none'}."


def tokenizer(facts: CardFacts) -> str:
    """The vocabulary: origin, size, normalisation, and how well it fits the text."""
    settings, vocabulary = facts.params.vocab, facts.vocabulary
    base = model_name(facts.vocabulary_base) if facts.vocabulary_base else ""
    sentences = f"{facts.sample['train_sampled']:,} sentences of training text"
    source = {
        "sentencepiece": f"SentencePiece ({settings.algorithm}), trained on {sentences} and "
        "converted to WordPiece",
        "characters": f"the single characters of {sentences}",
        "file": f"{base}, unchanged",
        "model": f"unchanged, from {base}",
        "extend": f"from {base}, with {vocabulary['new_words']:,} words of {sentences} added",
    }[settings.source]
    rows = [
        (
            in_words(key),
            *(_fit(key, vocabulary[text].get(key)) for text in ("train", "heldout")),
        )
        for key in (
            "tokens_per_word",
            "tokens_per_character",
            "unknown_character_fraction",
            "unknown_word_fraction",
        )
    ]
    rules = [
        f"vocabulary: {source}; {vocabulary['size']:,} entries, of which "
        f"{vocabulary['unused_entries']:,} are unused",
        f"lower case: {'yes' if settings.lowercase else 'no'}",
        f"accents stripped: {'yes' if settings.strip_accents else 'no'}",
    ]
    return f"{bullets(rules)}\n\n{table(('measure', 'training text', 'held-out text'), rows)}"


def _fit(key: str, value: float | None) -> str:
    if value is None:
        return "no text"
    return f"{value:.3%}" if key.endswith("fraction") else f"{value:.3f}"


def training(facts: CardFacts) -> str:
    """The phases of training as a table, and the settings of the last one."""
    phases = [
        (
            phase.name,
            phase.max_seq_length,
            phase.steps,
            phase.settings.batch_size,
            f"{phase.settings.learning_rate:g}",
            _warmup(phase.settings.warmup_steps),
            phase.examples,
            phase.tokens,
            f"{phase.epochs:.2f}",
        )
        for phase in facts.phases
    ]
    heading = (
        "phase",
        "sequence length",
        "steps",
        "batch size",
        "peak learning rate",
        "warm-up steps",
        "examples seen",
        "tokens seen",
        "epochs",
    )
    total = sum(phase.tokens for phase in facts.phases)
    together = f"Tokens seen, without padding: {total:,}.\n\n"
    changes = [
        f"Changed within phase {phase.name} {after.replace('_', ' ')}: "
        + "; ".join(f"{in_words(name)} {values}" for name, values in changed.items())
        for phase in facts.phases
        for after, changed in phase.changes.items()
    ]
    return f"{table(heading, phases)}\n\n{together}{bullets([*_settings(facts), *changes])}"


def _warmup(steps_or_fraction: float) -> object:
    in_steps = steps_or_fraction >= 1 or not steps_or_fraction
    return steps_or_fraction if in_steps else f"{steps_or_fraction:g} of all steps"


def _schedule(training: Pretrain) -> str:
    if training.schedule == "constant":
        return "constant after the warm-up"
    end = f"{training.schedule} decay to {training.end_learning_rate:g}"
    length = training.decay_steps
    if length is None:
        return f"{end} after the warm-up"
    last = f"{length} steps" if length >= 1 else f"{length:.3g} of all steps"
    return f"constant after the warm-up, then {end} over the last {last}"


def _masked_fraction(facts: CardFacts) -> str:
    """Of the training records: one number, or if phases differ, one per phase."""
    section, phases = facts.params.records, facts.params.phases
    rates = {
        phase.name: overridden(section, phases[phase.name]).masked_lm_prob for phase in facts.phases
    }
    if len(set(rates.values())) == 1:
        return f"{next(iter(rates.values())):g}"
    return ", ".join(f"{rate:g} (phase {name})" for name, rate in rates.items())


def _replacements(records: Records) -> str:
    fractions = records.mask_replace_prob, records.random_replace_prob
    if fractions == (0.8, 0.1):  # BERT's own
        return ""
    kept = max(0.0, 1 - sum(fractions))
    return (
        f"; {fractions[0]:g} of them replaced by [MASK], {fractions[1]:g} by random tokens, "
        f"{kept:g} kept"
    )


def _settings(facts: CardFacts) -> list[str]:
    records, training, params = facts.params.records, facts.phases[-1].settings, facts.params
    if records.masking == "dynamic":
        masks = "drawn again each time an example is used"
        masks += f"; {records.dupe_factor} pairings of the text" if records.dupe_factor > 1 else ""
    else:
        copies = records.dupe_factor
        masks = f"drawn once in each of {copies} copies of the text" if copies > 1 else "drawn once"
    if records.next_sentence:
        pairs = f"sentence pairs, {records.random_next_prob:g} of them with a random second segment"
    else:
        cut = "of whole sentences" if records.whole_sentences else "cut at any token"
        pairs = f"single segments {cut}, no next sentence prediction"
    clipping = (
        f"gradients clipped at norm {training.clip_norm:g}"
        if training.clip_norm
        else "no gradient clipping"
    )
    correction = "with" if training.bias_correction else "without"
    if facts.external_examples:
        examples = [
            f"masking and examples: as in `{facts.external_examples}`",
            f"seeds: split {params.split.seed}, training {training.seed}",
        ]
    else:
        packing = "several packed into one sequence" if records.packing else "one per sequence"
        examples = [
            f"masking: {_masked_fraction(facts)} of the tokens, "
            f"{'whole words' if records.whole_word_mask else 'single tokens'}, {masks}"
            f"{_replacements(records)}",
            f"examples: {pairs}; {records.short_seq_prob:g} of the documents cut into shorter "
            f"examples; {packing}",
            f"seeds: sample {params.sample5M.seed}, split {params.split.seed}, records "
            f"{records.seed}, training {training.seed}",
        ]
    optimizer = training.optimizer
    if optimizer == "muon":
        optimizer += (
            f" for the layers' matrices (momentum {training.muon_momentum:g}), adamw for all else"
        )
    return [
        f"optimizer: {optimizer} (betas {training.adam_beta1:g} and "
        f"{training.adam_beta2:g}, epsilon {training.adam_epsilon:g}, weight decay "
        f"{training.weight_decay:g}, {correction} bias correction, {clipping})",
        f"schedule: {_schedule(training)}",
        f"precision: {training.precision}; label smoothing {training.label_smoothing:g}",
        *examples,
    ]
