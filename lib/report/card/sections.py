"""The sections of a model card that say how the model was made."""

from lib.report.card.facts import CardFacts, NamedModel
from lib.report.card.markdown import bullets, in_words, table


def model_name(model: NamedModel) -> str:
    details = [
        *([f"revision {model.revision}"] if model.revision else []),
        *([f"licence {model.license}"] if model.license else []),
    ]
    return f"`{model.name}`" + (f" ({', '.join(details)})" if details else "")


def training_data(facts: CardFacts) -> str:
    corpus, split, settings = facts.corpus, facts.split, facts.params.preprocess
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in corpus["formats"].items())
    rows: list[tuple[str, object]] = [
        ("files", f"{corpus['files']:,} ({kinds})"),
        ("MD5 of these files, as DVC counts it", corpus["input_md5"]),
        ("documents read", corpus["documents_in"]),
        ("characters read", corpus["characters_in"]),
    ]
    rows += [(f"left out: {in_words(key)}", number) for key, number in corpus["rejected"].items()]
    rows += [
        (f"left out: {what}", corpus[key])
        for key, what in (
            ("records_without_text", "records without text"),
            ("headings_left_out", "headings"),
            ("documents_empty", "documents empty after cleaning"),
        )
        if corpus.get(key)
    ]
    rows.append(("dropped: documents equal to another", corpus["documents_duplicate"]))
    if settings.near_duplicates is None:
        rows.append(("dropped: documents similar to another", "not looked for"))
    else:
        what = f"dropped: documents similar to another ({settings.near_duplicates} or more)"
        rows.append((what, corpus["documents_near_duplicate"]))
    rows += [
        ("documents kept", corpus["documents"]),
        ("sentences kept", corpus["sentences"]),
        ("characters kept", corpus["characters"]),
    ]
    rows += [
        (f"documents for {purpose}", split[part]["documents"])
        for part, purpose in (("train", "training"), ("dev", "development"), ("test", "tests"))
    ]
    parts = [table(("text", ""), rows)]
    if facts.made_elsewhere:
        parts.insert(
            0,
            f"It was trained on examples made elsewhere (`{facts.made_elsewhere}`; how many, see "
            "below), whose text is not known here. The text in this table is another: the "
            "vocabulary's figures and the held-out numbers are from it.",
        )
    if corpus["edits"]:
        edits = [(in_words(key), number) for key, number in corpus["edits"].items()]
        parts.append(table(("edits of the cleaning", "times"), edits))
    return "\n\n".join([*parts, _cleaning(facts)])


def _cleaning(facts: CardFacts) -> str:
    """The switches of the cleaning that are on."""
    values = facts.params.preprocess.clean.model_dump()
    shown = []
    for key, value in values.items():
        if value in ("keep", False) or key.endswith("placeholder") or key == "merge_placeholders":
            continue
        placeholder = values.get(f"{key.removesuffix('s')}_placeholder")
        by = f" by `{placeholder}`" if value == "replace" else ""
        shown.append(in_words(key) + ("" if value is True else f": {value}{by}"))
    return f"Cleaning beyond white space and control characters: {'; '.join(shown) or 'none'}."


def tokenizer(facts: CardFacts) -> str:
    settings, vocabulary = facts.params.vocab, facts.vocabulary
    base = model_name(facts.vocabulary_base) if facts.vocabulary_base else ""
    sentences = f"{facts.sample['train_sampled']:,} sentences of training text"
    source = {
        "sentencepiece": f"pieces of SentencePiece ({settings.algorithm}), trained on {sentences} "
        "and made into WordPiece",
        "characters": f"single characters of {sentences}",
        "file": f"taken from {base} as it is",
        "model": f"that of {base}",
        "extend": f"that of {base}, with {vocabulary['new_words']:,} words of {sentences} added",
    }[settings.source]
    rows = [
        (
            in_words(measure),
            *(_share(measure, vocabulary[text].get(measure)) for text in ("train", "heldout")),
        )
        for measure in ("tokens_per_word", "tokens_per_character", "unknown_word_fraction")
    ]
    rules = [
        f"vocabulary: {source}; {vocabulary['size']:,} rows, {vocabulary['unused_entries']:,} of them "
        "unused",
        f"lower case: {'yes' if settings.lowercase else 'no'}",
        f"accents stripped: {'yes' if settings.strip_accents else 'no'}",
    ]
    return f"{bullets(rules)}\n\n{table(('measure', 'training text', 'held-out text'), rows)}"


def _share(measure: str, value: float | None) -> str:
    if value is None:
        return "no text"
    return f"{value:.3%}" if measure.endswith("fraction") else f"{value:.3f}"


def training(facts: CardFacts) -> str:
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
        "row length",
        "steps",
        "rows a step",
        "peak learning rate",
        "warm-up",
        "examples seen",
        "tokens seen",
        "epochs",
    )
    total = sum(phase.tokens for phase in facts.phases)
    together = f"Tokens seen, padding not counted: {total:,}.\n\n"
    return f"{table(heading, phases)}\n\n{together}{bullets(_settings(facts))}"


def _warmup(steps_or_fraction: float) -> object:
    return steps_or_fraction if steps_or_fraction >= 1 else f"{steps_or_fraction:g} of the steps"


def _settings(facts: CardFacts) -> list[str]:
    records, training, params = facts.params.records, facts.phases[-1].settings, facts.params
    if records.masking == "dynamic":
        masks = "anew whenever an example comes up"
        masks += f"; {records.dupe_factor} pairings of the text" if records.dupe_factor > 1 else ""
    else:
        masks = f"once in each of {records.dupe_factor} copies of the text"
    pairs = (
        f"sentence pairs, {records.random_next_prob:g} of them random"
        if records.next_sentence
        else "single segments, no next sentence prediction"
    )
    clipping = f"at norm {training.clip_norm:g}" if training.clip_norm else "nowhere"
    correction = "with" if training.bias_correction else "without"
    if facts.made_elsewhere:
        examples = [
            f"masking and examples: as whoever made `{facts.made_elsewhere}` chose",
            f"seeds: split {params.split.seed}, training {training.seed}",
        ]
    else:
        examples = [
            f"masking: {records.masked_lm_prob:g} of the tokens, "
            f"{'whole words' if records.whole_word_mask else 'single pieces'}, {masks}",
            f"examples: {pairs}; {records.short_seq_prob:g} of the documents cut into shorter "
            f"ones; {'several in a row' if records.packing else 'one in a row'}",
            f"seeds: sample {params.sample5M.seed}, split {params.split.seed}, records "
            f"{records.seed}, training {training.seed}",
        ]
    return [
        f"optimizer: {training.optimizer} (betas {training.adam_beta1:g} and "
        f"{training.adam_beta2:g}, epsilon {training.adam_epsilon:g}, weight decay "
        f"{training.weight_decay:g}, {correction} bias correction, gradients clipped {clipping})",
        f"schedule: {training.schedule} down to {training.end_learning_rate:g} after the warm-up",
        f"precision: {training.precision}; label smoothing {training.label_smoothing:g}",
        *examples,
    ]
