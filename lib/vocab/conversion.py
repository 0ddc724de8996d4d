"""SentencePiece pieces -> a WordPiece vocabulary without holes."""

from collections import Counter

import sentencepiece

from lib.run.errors import UserError
from lib.vocab.characters import BasicTokenizer
from lib.vocab.tokenizer import SPECIAL_TOKENS
from lib.vocab.training import closed_alphabet

_WORD_START = "▁"
_MULTIPLE = 8


def word_piece(piece: str) -> str:
    """`▁word` begins a word and becomes `word`; any other piece continues one: `##piece`."""
    return piece[1:] if piece.startswith(_WORD_START) else f"##{piece}"


def _pieces(model: bytes) -> list[str]:
    """The model's pieces in its own order (merge order or score), as WordPiece rows."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [
        processor.id_to_piece(index)
        for index in range(processor.get_piece_size())
        if not (
            processor.is_control(index) or processor.is_unknown(index) or processor.is_unused(index)
        )
    ]
    return [word_piece(piece) for piece in pieces if piece != _WORD_START]


def convert(model: bytes, alphabet: Counter[str], basic: BasicTokenizer, size: int) -> list[str]:
    """The vocabulary: special tokens, the closed alphabet, then pieces, best first.

    The plain conversion leaves holes: a letter seen only inside words has no row of its own, and
    a word that needs it becomes [UNK]. Hence the alphabet comes first and in both forms.

    Args:
        alphabet: count of each character that must be covered.
        size: rows wanted. A sample that cannot fill them gives fewer (a multiple of eight, the
            last ones `[unusedN]`): thousands of rows that nothing uses would only slow training.

    Raises:
        UserError: `size` does not hold the special tokens and the alphabet.
    """
    letters = closed_alphabet(alphabet, basic)
    smallest = len(SPECIAL_TOKENS) + len(letters)
    if size < smallest:
        raise UserError(
            f"vocab.size: {size} cannot hold the {len(alphabet)} characters of the "
            f"sample; set at least {smallest}, or lower vocab.character_coverage"
        )
    rows = dict.fromkeys([*SPECIAL_TOKENS, *letters, *_pieces(model)])
    vocabulary = list(rows)[:size]
    full = size if len(rows) >= size else min(size, -(-len(rows) // _MULTIPLE) * _MULTIPLE)
    vocabulary += [f"[unused{number}]" for number in range(full - len(vocabulary))]
    return vocabulary


def covered(model: bytes, alphabet: Counter[str], character_coverage: float) -> Counter[str]:
    """The characters that the vocabulary must spell: all, or those that the model kept."""
    if character_coverage == 1:
        return alphabet
    kept = {character for piece in _pieces(model) for character in piece.removeprefix("##")}
    return Counter({character: count for character, count in alphabet.items() if character in kept})
