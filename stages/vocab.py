"""vocab: data/sample -> data/vocab, a WordPiece vocabulary and its tokenizer files."""

from pathlib import Path

from lib.params import load_params
from lib.run.atomic import new_directory
from lib.run.metrics import write_metrics
from lib.run.stage import run_stage
from lib.vocab.characters import BasicTokenizer
from lib.vocab.conversion import convert, covered
from lib.vocab.export import write_tokenizer
from lib.vocab.report import count_pieces, fit
from lib.vocab.tokenizer import WordPieceTokenizer
from lib.vocab.training import train_sentencepiece


def main(sample: Path, vocab: Path) -> None:
    """Trains SentencePiece on the sampled sentences and converts it to a WordPiece vocabulary.

    SAMPLE is the folder that sample5M wrote, VOCAB the folder to write.
    """
    params = load_params()
    settings = params.vocab
    basic = BasicTokenizer(settings.lowercase, settings.strip_accents)
    model, alphabet = train_sentencepiece(
        sample / "train.txt", basic, settings.algorithm, settings.size, settings.character_coverage
    )
    vocabulary = convert(
        model, covered(model, alphabet, settings.character_coverage), basic, settings.size
    )
    tokenizer = WordPieceTokenizer(vocabulary, settings.lowercase, settings.strip_accents)
    metrics: dict[str, object] = {"size": len(vocabulary), "alphabet": len(alphabet)}
    with new_directory(vocab) as temporary:
        write_tokenizer(
            temporary,
            vocabulary,
            settings.lowercase,
            settings.strip_accents,
            params.pretrain.model.max_position_embeddings,
        )
        (temporary / "sentencepiece.model").write_bytes(model)
        for name in ("train", "heldout"):
            text = sample / f"{name}.txt"
            counts = count_pieces(tokenizer, text)
            metrics[name] = fit(tokenizer, counts, text)
            if name == "train":
                # The unigram baseline of evaluate: line i is the count of id i.
                (temporary / "piece_counts.txt").write_text(
                    "".join(f"{count}\n" for count in counts), encoding="utf-8"
                )
    write_metrics(Path("results/vocab/metrics.json"), metrics)
    if len(vocabulary) < settings.size:
        print(
            f"vocab: the sample is too small for vocab.size {settings.size}; its largest "
            f"vocabulary has {len(vocabulary)} rows"
        )
    print(f"vocab: {len(vocabulary):,} rows, {len(alphabet):,} characters")


if __name__ == "__main__":
    run_stage(main)
