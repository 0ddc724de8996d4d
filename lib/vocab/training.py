"""SentencePiece on counted words, and its pieces as those of WordPiece."""

import io
from collections.abc import Iterator, Mapping

import sentencepiece

from lib.run.errors import UserError
from lib.vocab.wordpiece import CONTINUATION
from lib.vocab.words import by_frequency

# Unigram training gives other pieces with another number of threads, so it is fixed.
_THREADS = 4
_WORD_START = "▁"
# What SentencePiece takes for a space, for an unknown character and for the end of a sentence.
_RESERVED = frozenset("▁▅\t\0")
# Bytes; two words of a hundred characters of four bytes have room.
_ROW_BYTES = 1 << 10
# More pieces than characters that SentencePiece asks for: its unknown piece and the word start.
_SMALLEST_SURPLUS = 16


def _rows(words: Mapping[str, int]) -> Iterator[str]:
    """`text TAB count` lines for SentencePiece, in an order that only the counts decide.

    A word that occurs more than once stands there twice in a row. Unigram training begins with
    substrings that are followed by different things in different places, and a whole word that
    were always followed by the end of its line would not be among them. (In running text this
    befalls many words that are always followed by a space.)
    """
    for word, count in by_frequency(words):
        if count % 2:
            yield f"{word}\t1"
        if count > 1:
            yield f"{word} {word}\t{count // 2}"


def train_sentencepiece(
    words: Mapping[str, int], algorithm: str, pieces: int, max_token_length: int
) -> bytes:
    """Trains a model of at most so many pieces; the same for the same counts.

    The words come from the tokenizer that will later use the pieces, and are not normalised by
    SentencePiece: where the two differ, words become [UNK]. Counted words give BPE the same merges
    as the text, in a fraction of its time and memory.

    Args:
        words: word -> count. Words with characters that SentencePiece reserves are passed by.
        algorithm: bpe (Sennrich et al., 2016) or unigram (Kudo, 2018).
        max_token_length: in characters.

    Returns:
        The serialised model.

    Raises:
        UserError: SentencePiece refuses.
    """
    usable = {word: count for word, count in words.items() if _RESERVED.isdisjoint(word)}
    characters = {character for word in usable for character in word}
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_rows(usable),
            model_writer=model,
            input_format="tsv",
            model_type=algorithm,
            vocab_size=max(pieces, len(characters) + _SMALLEST_SURPLUS),
            hard_vocab_limit=False,
            character_coverage=1.0,
            num_threads=_THREADS,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentencepiece_length=max_token_length,
            max_sentence_length=_ROW_BYTES,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as failure:
        raise UserError(f"vocab: SentencePiece cannot train: {failure}") from None
    return model.getvalue()


def word_pieces(model: bytes) -> list[str]:
    """The model's pieces in its own order (of merges, or by score), as pieces of WordPiece.

    `▁word` begins a word and becomes `word`; any other piece continues one: `##piece`. What is no
    text is left out: the unknown piece, control pieces, the bare word start.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [
        processor.id_to_piece(index)
        for index in range(processor.get_piece_size())
        if not (
            processor.is_control(index) or processor.is_unknown(index) or processor.is_unused(index)
        )
    ]
    return [
        piece[1:] if piece.startswith(_WORD_START) else CONTINUATION + piece
        for piece in pieces
        if piece != _WORD_START
    ]
