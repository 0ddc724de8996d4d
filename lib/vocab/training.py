"""SentencePiece training on word counts, and conversion of its pieces to WordPiece tokens."""

import io
from collections.abc import Iterator, Mapping

import sentencepiece

from lib.run.errors import UserError
from lib.vocab.wordpiece import CONTINUATION
from lib.vocab.words import by_frequency

# Fixed, because unigram training gives different pieces with a different number of threads.
_THREADS = 4
_WORD_START = "▁"
# SentencePiece's own characters for a space, an unknown character and the end of a sentence.
_RESERVED = frozenset("▁▅\t\0")
# In bytes: enough for two words of a hundred four-byte characters.
_MAX_LINE_BYTES = 1 << 10
# SentencePiece needs more pieces than characters: for its unknown piece and the word start.
_MIN_EXTRA_PIECES = 16


def _training_lines(words: Mapping[str, int]) -> Iterator[str]:
    """`text TAB count` lines for SentencePiece, in an order determined by the counts alone.

    A word that occurs more than once is written twice on its line: {the: 5} gives "the TAB 1" and
    "the the TAB 2". Unigram training starts from substrings that occur with different neighbours. A
    whole word that is always followed by the end of its line would not be among them. (In running
    text the same happens to many words that are always followed by a space.)
    """
    for word, count in by_frequency(words):
        if count % 2:
            yield f"{word}\t1"
        if count > 1:
            yield f"{word} {word}\t{count // 2}"


def train_sentencepiece(
    words: Mapping[str, int], algorithm: str, size: int, max_token_length: int
) -> bytes:
    """Trains a SentencePiece model of at most `size` pieces, deterministically.

    The words come from the tokenizer that will use the tokens, and SentencePiece does not normalize
    them: wherever the two normalizations differed, words would become [UNK]. With word counts BPE
    finds the same merges as with the text, in a fraction of the time and memory.

    Args:
        words: word -> count. Words with characters that SentencePiece reserves are skipped.
        algorithm: bpe (Sennrich et al., 2016) or unigram (Kudo, 2018).
        max_token_length: in characters.

    Returns:
        The serialized model.

    Raises:
        UserError: SentencePiece fails.
    """
    usable = {word: count for word, count in words.items() if _RESERVED.isdisjoint(word)}
    characters = {character for word in usable for character in word}
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_training_lines(usable),
            model_writer=model,
            input_format="tsv",
            model_type=algorithm,
            vocab_size=max(size, len(characters) + _MIN_EXTRA_PIECES),
            hard_vocab_limit=False,
            character_coverage=1.0,
            num_threads=_THREADS,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentencepiece_length=max_token_length,
            max_sentence_length=_MAX_LINE_BYTES,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as failure:
        raise UserError(f"vocab: SentencePiece cannot train: {failure}") from None
    return model.getvalue()


def wordpiece_tokens(model: bytes) -> list[str]:
    """The pieces of a SentencePiece model as WordPiece tokens, in the model's order.

    That is the order of the merges (BPE) or of the scores (unigram). The marker for a word's start
    becomes its opposite, a marker for a word's continuation:

        <unk>   ▁low   er     ▁        ▁n   est
        (none)  low    ##er   (none)   n    ##est

    The unknown piece, control pieces and the bare word start are left out.
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
