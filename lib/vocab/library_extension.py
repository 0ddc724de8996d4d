"""Extension of a tokenizer.json with domain words, each an added token.

The library looks for added tokens before it does anything else, so that all other text is split as
before. An added word is matched as a whole (`single_word`) and takes the space before it
(`lstrip`). With covid added:

    text      a covid case,  covids
    before    a Ġcov id Ġcase ,  Ġcov ids
    after     a covid Ġcase ,  Ġcov ids
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lib.run.errors import UserError
from lib.vocab.extension import Extension, NewToken, digest, free_ids, new_token
from lib.vocab.library_files import LibraryFiles
from lib.vocab.library_tokenizer import LibraryTokenizer
from lib.vocab.settings import MAX_WORD_LENGTH

_UNUSED = re.compile(r"\[unused\d+\]")
# Characters that the library takes for parts of a word, so that `single_word` finds its ends.
_is_word = re.compile(r"[^\W_]+").fullmatch


def extend_library(
    base: LibraryTokenizer, words: Mapping[str, int], size: int, min_frequency: int
) -> tuple[LibraryTokenizer, Extension]:
    """Adds the words that save the most tokens; every token of the base keeps its id.

    Args:
        words: counts of the sample's words.
        size: maximum size. `[unusedN]` entries are replaced first, then new entries are appended.
        min_frequency: minimum count of a new word.

    Raises:
        UserError: `size` is smaller than the base.
    """
    ids = library_free_ids(base.files.content, base.vocabulary, size)
    known = set(base.vocabulary)
    splits = dict(zip(words, base.encode_words(list(words)), strict=True))
    candidates = [
        (-count * (len(splits[word]) - 1), word)
        for word, count in words.items()
        if count >= min_frequency
        and len(splits[word]) > 1
        and len(word) <= MAX_WORD_LENGTH
        and _is_word(word)
        and word not in known
    ]
    chosen = [word for _, word in sorted(candidates)[: len(ids)]]
    uses: Counter[int] = Counter()
    for word, count in words.items():
        for token_id in splits[word]:
            uses[token_id] += count
    new_tokens = [
        new_token(new_id, word, splits[word], words, uses)
        for new_id, word in zip(ids, chosen, strict=False)
    ]
    vocabulary = list(base.vocabulary)
    entries = {each["id"]: each for each in base.files.content["added_tokens"]}
    for token in new_tokens:
        entries[token.id] = _entry(token, base.lowercase or base.strip_accents)
        vocabulary[token.id : token.id + 1] = [token.token]
    content = {
        **base.files.content,
        "added_tokens": [entries[number] for number in sorted(entries)],
    }
    extended = LibraryTokenizer(LibraryFiles(content, base.files.special), vocabulary)
    for token in new_tokens:
        if extended.id_of(token.token) != token.id:
            raise UserError(
                f"vocab.source: extend: the library gives {token.token!r:.60} the id "
                f"{extended.id_of(token.token)}, not {token.id}; use the vocabulary as it is "
                "(source: model)"
            )
    return extended, Extension(len(base.vocabulary), digest(base.vocabulary), tuple(new_tokens))


def library_free_ids(content: Mapping[str, Any], vocabulary: list[str], size: int) -> list[int]:
    """The ids for new tokens in a vocabulary that may have `size` entries, in order of their use.

    Raises:
        UserError: `size` is smaller than the vocabulary.
    """
    unused = [
        each["id"]
        for each in content["added_tokens"]
        if _UNUSED.fullmatch(each["content"]) and each["content"] not in content["model"]["vocab"]
    ]
    return free_ids(vocabulary, size, sorted(unused))


def _entry(token: NewToken, normalized: bool) -> dict[str, Any]:
    """The entry of a new token in `added_tokens`."""
    return {
        "id": token.id,
        "content": token.token,
        "single_word": True,
        "lstrip": True,
        "rstrip": False,
        # In lower-cased text, if the base lower-cases: then the word was counted there.
        "normalized": normalized,
        "special": False,
    }
