"""vocab: data/sample -> data/vocab, a vocabulary and its tokenizer files."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib.params import Vocab, load_params
from lib.run.atomic import new_directory
from lib.run.contracts import check_metrics
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import SAMPLE, VOCAB
from lib.run.pool import worker_count
from lib.run.stage import run_stage
from lib.text.names import some_of
from lib.vocab.byte_bpe import train_byte_bpe
from lib.vocab.characters import BasicTokenizer
from lib.vocab.counts import TOKEN_COUNTS, write_tokens_per_word
from lib.vocab.extension import Extension, extend, no_extension, write_extension
from lib.vocab.library_extension import extend_library
from lib.vocab.library_tokenizer import LibraryTokenizer
from lib.vocab.report import (
    VocabularyFit,
    count_tokens,
    measure_fit,
    unreachable_tokens,
    write_frequencies,
    write_report,
)
from lib.vocab.script_changes import (
    meaningful_zero_width,
    normalization_notes,
    unspaced_note,
    zero_width_note,
)
from lib.vocab.sources import existing_tokenizer, from_characters, from_sentencepiece
from lib.vocab.tokenizer import Tokenizer
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from lib.vocab.words import WordCounts, count_words

_RESULTS = Path("results/vocab")
# BERT's. The folder of each model states its own.
_MAX_LENGTH = 512


@dataclass
class _Vocabulary:
    """A vocabulary, with the SentencePiece model or the extension that it comes from, if any."""

    tokenizer: Tokenizer
    model: bytes | None = None
    extension: Extension | None = None


def main(sample: Path = SAMPLE, base: Path | None = None, vocab: Path = VOCAB) -> None:
    """Makes or imports a vocabulary, and measures how well it fits the text.

    SAMPLE is the folder that sample5M wrote, BASE what the vocabulary is made from (the sample, a
    vocab.txt, a tokenizer.json or a model's folder; by default vocab.base), VOCAB the folder to
    write.
    """
    params = load_params()
    check_metrics("sample5M")
    settings = params.vocab
    base = base or Path(settings.base)
    workers = worker_count(params.cluster.workers)
    basic = BasicTokenizer(settings.lowercase, settings.strip_accents)
    existing = None
    if settings.source not in ("sentencepiece", "characters"):
        existing = existing_tokenizer(settings.source, base, basic)

    def count(zero_width: tuple[str, ...]) -> dict[str, WordCounts]:
        longest = settings.max_sentence_length
        return {
            name: count_words(sample / f"{name}.txt", basic, longest, workers, zero_width)
            for name in ("train", "heldout")
        }

    counts = count(existing.zero_width if existing else ())
    if not counts["train"].words:
        raise UserError(f"{sample / 'train.txt'}: no words to make a vocabulary from; add text")
    if isinstance(existing, LibraryTokenizer):
        made = _of_library(settings, existing, counts["train"])
    elif settings.makes_byte_bpe:
        files, tokens = train_byte_bpe(
            sample / "train.txt",
            settings.size,
            settings.lowercase,
            settings.strip_accents,
            settings.max_token_length,
            settings.max_sentence_length,
        )
        made = _Vocabulary(LibraryTokenizer(files, tokens))
    else:
        zero_width: tuple[str, ...] = ()
        if not existing and (zero_width := meaningful_zero_width(counts["train"])):
            counts = count(zero_width)
        made = _make_vocabulary(settings, existing, basic, counts["train"], zero_width)
    tokenizer, extension = made.tokenizer, made.extension
    vocabulary = tokenizer.vocabulary
    fits = {
        name: measure_fit(
            tokenizer,
            counted,
            # Of WordPiece's, the counts are the sums over all words.
            count_tokens(tokenizer, sample / f"{name}.txt")
            if isinstance(tokenizer, LibraryTokenizer)
            else None,
        )
        for name, counted in counts.items()
    }
    with new_directory(vocab) as temporary:
        tokenizer.write(temporary, _MAX_LENGTH, segments=True)
        if made.model:
            (temporary / "sentencepiece.model").write_bytes(made.model)
        write_extension(temporary, extension or no_extension(vocabulary))
        # For the unigram baseline of evaluate: line i is the count of id i.
        (temporary / TOKEN_COUNTS).write_text(
            "".join(f"{count}\n" for count in fits["train"].counts), encoding="utf-8"
        )
    facts = {
        "size": len(vocabulary),
        "alphabet": sum(len(token) == 1 for token in vocabulary),
        "unused_entries": sum(token.startswith("[unused") for token in vocabulary),
        **(
            {"unreachable_tokens": len(unreachable_tokens(tokenizer))}
            if isinstance(tokenizer, WordPieceTokenizer)
            else {}
        ),
        "new_words": len(extension.new_tokens) if extension else 0,
        "sentences_too_long": counts["train"].long_sentences,
    }
    metrics = {name: result.metrics for name, result in fits.items()}
    write_metrics(_RESULTS / "metrics.json", {**facts, **metrics})
    write_frequencies(_RESULTS / "frequencies.csv", fits["train"].counts)
    write_tokens_per_word(_RESULTS / "tokens_per_word.csv", fits["train"].words_by_tokens)
    write_report(_RESULTS / "report.md", tokenizer, facts, fits)
    _print_summary(settings, made, fits, counts["train"])


def _of_library(settings: Vocab, existing: LibraryTokenizer, counts: WordCounts) -> _Vocabulary:
    """A tokenizer that the library runs, as it is or extended."""
    if settings.source != "extend":
        return _Vocabulary(existing)
    tokenizer, extension = extend_library(
        existing, counts.words, settings.size, settings.min_frequency
    )
    return _Vocabulary(tokenizer, extension=extension)


def _make_vocabulary(
    settings: Vocab,
    existing: Tokenizer | None,
    basic: BasicTokenizer,
    counts: WordCounts,
    zero_width: tuple[str, ...],
) -> _Vocabulary:
    """Makes a WordPiece vocabulary of the sample, or extends an existing one."""
    assert existing is None or isinstance(existing, WordPieceTokenizer)
    model = extension = None
    if settings.source == "sentencepiece":
        vocabulary, model = from_sentencepiece(
            counts.words,
            counts.without_long_sentences(),
            basic,
            settings.algorithm,
            settings.size,
            settings.character_coverage,
            settings.max_token_length,
            zero_width,
        )
    elif existing is None:
        vocabulary = from_characters(
            counts.words, basic, settings.size, settings.min_frequency, zero_width
        )
    elif settings.source != "extend":
        return _Vocabulary(existing)
    else:
        zero_width = existing.zero_width
        vocabulary, extension = extend(
            existing, counts.words, settings.size, settings.min_frequency
        )
    tokenizer = WordPieceTokenizer(
        vocabulary, basic.lowercase, basic.strip_accents, zero_width=zero_width
    )
    return _Vocabulary(tokenizer, model, extension)


def _print_summary(
    settings: Vocab,
    made: _Vocabulary,
    fits: Mapping[str, VocabularyFit],
    counts: WordCounts,
) -> None:
    """Prints the vocabulary's size, how well it fits, and what a user should know about it.

    Args:
        counts: of the training text.
    """
    size = len(made.tokenizer.vocabulary)
    if settings.source == "sentencepiece" and size < settings.size:
        print(
            f"vocab: the sample is too small for vocab.size {settings.size}; the largest "
            f"vocabulary that it allows has {size} entries"
        )
    if made.extension:
        new_words = [token.token for token in made.extension.new_tokens]
        if not new_words:
            print(
                "vocab: no new words: vocab.size leaves no room, or no word that is divided into "
                f"several tokens occurs {settings.min_frequency} times (vocab.min_frequency)"
            )
        else:
            print(f"vocab: {len(new_words):,} new words: {some_of(new_words, 8)}")
    train, heldout = fits["train"].metrics, fits["heldout"].metrics
    print(
        f"vocab: {size:,} entries; tokens per word: {train['tokens_per_word']:.3f} in training "
        f"text, {heldout['tokens_per_word']:.3f} in held-out text; characters under [UNK]: "
        f"{train['unknown_character_fraction']:.3%} and "
        f"{heldout['unknown_character_fraction']:.3%}",
        flush=True,
    )
    tokenizer = made.tokenizer
    unknown = train["unknown_character_fraction"]
    for note in (
        *normalization_notes(counts, tokenizer.lowercase, tokenizer.strip_accents),
        zero_width_note(counts, tokenizer.zero_width),
        unspaced_note(counts, unknown),
    ):
        if note:
            print(f"vocab: note: {note}", file=sys.stderr)


if __name__ == "__main__":
    # Here, because the processes of the worker pool import this module and do not need it.
    from lib.train.base_models import check_base_models

    run_stage(main, before=check_base_models)
