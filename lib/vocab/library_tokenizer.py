"""Any tokenizer that a tokenizer.json describes, run by the library `tokenizers`.

The ids are the library's. It is given each distinct span of the text once (see `SpanCache`), or
whole lines where they cannot be cut (`lib.vocab.library_spans`) or hardly any span was seen before.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from lib.run.atomic import write_text
from lib.vocab.library_files import LibraryFiles, backend, changes_letters, vocabulary_listing
from lib.vocab.library_spans import cuts_at_spaces, ends_plain, newlines_separate, span_finder
from lib.vocab.names import CONFIG, TOKENIZER, VOCABULARY
from lib.vocab.tokenizer import CONTINUES_WORD, SpanCache, Tokenizer, chunks_ending_with
from lib.vocab.word_marks import WordMarks, continues_by_offsets

# A word before a span that begins with a space: so it is in the middle of a line.
_CONTEXT = "x"
# Put before a space at the beginning of a line, which has no word before it.
_LINE_START = "\x1f"

# If more than this fraction of many spans is new, as in scripts without spaces, lines are faster.
_MAX_UNSEEN, _MANY_SPANS = 0.5, 1000
# Spans per text, and in all, that the library encodes at once.
_GROUP_SPANS, _BATCH_SPANS = 50, 50_000

_chunks = chunks_ending_with("\n")


class LibraryTokenizer(Tokenizer):
    """A tokenizer that the library `tokenizers` runs.

    `continuation` is None: `encode_marked_lines` marks the tokens that continue a word.
    """

    continuation = None

    def __init__(self, files: LibraryFiles, vocabulary: list[str]) -> None:
        self.files = files
        self.vocabulary = vocabulary
        self._backend = backend(files.content)
        ids = {token: number for number, token in enumerate(vocabulary)}
        special = {name: ids[token] for name, token in files.special.items()}
        self.pad_id, self.cls_id, self.sep_id, self.mask_id = (
            special[name] for name in ("pad", "cls", "sep", "mask")
        )
        self.unk_id = special.get("unk", -1)
        self.lowercase, self.strip_accents = changes_letters(self._backend)
        self._words = WordMarks(files.content, vocabulary)
        self._context_length = len(self._backend.encode(_CONTEXT, add_special_tokens=False).ids)
        self._cache = _new_cache()
        self._find_spans = span_finder(files.content)
        self._separator = "\n" if newlines_separate(files.content) else None
        self._slow_lines = self._find_slow_lines()

    def _find_slow_lines(self) -> re.Pattern[str]:
        """A pattern for lines that are not cut into spans."""
        if not cuts_at_spaces(self.files.content):
            return re.compile(r"[\s\S]+")
        across = [
            re.escape(each["content"])
            for each in self.files.content["added_tokens"]
            if each["rstrip"] or len(self._find_spans(each["content"])) > 1
        ]
        return re.compile("^.*(?:" + "|".join([_LINE_START, *across]) + ").*$", re.MULTILINE)

    def _chunks(self, text: str) -> Iterator[str]:
        return _chunks(text)

    def _encode_chunk(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        ids, ends = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        tokens = start = 0
        for lines in self._slow_lines.finditer(text):
            parts = [
                self._by_spans(text[start : lines.start()]),
                self._by_lines(text[lines.start() : lines.end()]),
            ]
            start = lines.end()
            for own_ids, own_ends in parts:
                ids.append(own_ids)
                ends.append(own_ends + tokens)
                tokens += len(own_ids)
        own_ids, own_ends = self._by_spans(text[start:])
        return np.concatenate([*ids, own_ids]), np.concatenate([*ends, own_ends + tokens])

    def _by_spans(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        if self._cache.is_full():
            self._cache = _new_cache()
        cache = self._cache
        marked = text.replace("\n ", f"\n{_LINE_START} ")
        spans = self._find_spans(_LINE_START + marked if text.startswith(" ") else marked)
        unseen = [span for span in dict.fromkeys(spans) if span not in cache]
        if len(unseen) > max(_MANY_SPANS, _MAX_UNSEEN * len(spans)):
            return self._by_lines(text)
        self._learn(unseen)
        return cache.gather(spans)

    def _learn(self, spans: list[str]) -> None:
        """Adds the ids of new spans to the cache."""
        normal = self._words.is_normal(spans, "".join(spans)).tolist()
        together: list[str] = []
        alone: list[str] = []
        for span, is_normal in zip(spans, normal, strict=True):
            fits = self._separator is not None or (span.startswith(" ") and ends_plain(span))
            (together if fits and is_normal else alone).append(span)
        for start in range(0, len(together), _BATCH_SPANS):
            alone += self._learn_together(together[start : start + _BATCH_SPANS])
        if not alone:
            return
        inside = np.array([span.startswith(" ") for span in alone], bool)
        texts = [
            _CONTEXT + span if is_inside else span.removeprefix(_LINE_START)
            for span, is_inside in zip(alone, inside.tolist(), strict=True)
        ]
        ids, lengths = self._encode_texts(texts)
        # The ids of the context are left out.
        skipped = inside * self._context_length
        first = np.cumsum(lengths) - lengths
        kept = np.arange(len(ids)) >= np.repeat(first + skipped, lengths)
        self._cache.add(alone, ids[kept], lengths - skipped)

    def _learn_together(self, spans: list[str]) -> list[str]:
        """Has the library encode many spans in few texts, which takes a fifth of the time.

        Returns:
            The spans whose tokens could not be found in these texts.
        """
        separator = self._separator
        context, gap = (_CONTEXT, 0) if separator is None else ("", len(separator))
        starts = range(0, len(spans), _GROUP_SPANS)
        groups = [spans[start : start + _GROUP_SPANS] for start in starts]
        texts = [
            context + (separator or "").join(group).replace(_LINE_START, "") for group in groups
        ]
        ids, tokens = self._library_ids(texts)
        marks = self._words.marks(texts, ids, tokens)
        sizes = self._words.sizes(spans)
        sizes -= [span.startswith(_LINE_START) for span in spans]
        # Positions in all texts, one after the other. [spans], [tokens]
        group = np.arange(len(spans)) // _GROUP_SPANS
        text_size = np.bincount(group, sizes + gap).astype(np.int64) + len(context)
        text_start = np.cumsum(text_size) - text_size
        ends = np.cumsum(sizes + gap) - gap + len(context) * (group + 1)
        shift = np.repeat(text_start, tokens)
        own = np.searchsorted(ends, marks.starts + shift, "right")  # span of each token
        own = np.minimum(own, len(spans) - 1)
        inside = np.repeat(marks.is_known, tokens) & (marks.starts + shift >= (ends - sizes)[own])
        # Tokens that cross the end of a span leave some of its neighbour uncovered.
        covered = np.bincount(own[inside], (marks.ends - marks.starts)[inside], len(spans))
        is_known = covered == sizes
        kept = inside & is_known[own]
        marked = np.where(marks.continues, ids | CONTINUES_WORD, ids)[kept]
        lengths = np.bincount(own[kept], minlength=len(spans))[is_known]
        self._cache.add([spans[n] for n in np.flatnonzero(is_known)], marked, lengths)
        return [spans[n] for n in np.flatnonzero(~is_known)]

    def _by_lines(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        lines = text.split("\n")
        ids, lengths = self._encode_texts(lines)
        return ids, np.cumsum(lengths)[:-1]

    def _encode_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """ids: int32 [tokens], marked; lengths: int64 [texts], tokens per text."""
        ids, lengths = self._library_ids(texts)
        known = self._words.marks(texts, ids, lengths)
        ids = np.where(known.continues, ids | CONTINUES_WORD, ids)
        first = np.cumsum(lengths) - lengths
        for index in np.flatnonzero(~known.is_known).tolist():
            encoding = self._backend.encode(texts[index], add_special_tokens=False)
            marks = continues_by_offsets(texts[index], encoding.offsets)
            own = np.array(encoding.ids, np.int32)
            ids[first[index] : first[index] + lengths[index]] = np.where(
                marks, own | CONTINUES_WORD, own
            )
        return ids, lengths

    def _library_ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """ids: int32 [tokens], without marks; lengths: int64 [texts], tokens per text."""
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        found = [each.ids for each in encodings]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        return np.fromiter(chain.from_iterable(found), np.int32, int(lengths.sum())), lengths

    def encode_with_offsets(
        self, text: str, continued: bool = False
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a line, and the characters that each stands for, as (start, end).

        Args:
            continued: the text is the rest of a line, after a token boundary.
        """
        context = ""
        if continued:
            # As the library goes on after an added token, unless there is a space.
            context = _CONTEXT if text.startswith(" ") else self.vocabulary[self.mask_id]
        encoding = self._backend.encode(context + text, add_special_tokens=False)
        pairs = [
            (number, (max(start - len(context), 0), end - len(context)))
            for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if not context or end > len(context)
        ]
        return [number for number, _ in pairs], [offsets for _, offsets in pairs]

    def encode_words(self, words: Sequence[str]) -> Iterator[list[int]]:
        for start in range(0, len(words), 1 << 14):
            texts = [f"{_CONTEXT} {word}" for word in words[start : start + (1 << 14)]]
            for found in self._backend.encode_batch_fast(texts, add_special_tokens=False):
                yield found.ids[self._context_length :]

    def id_of(self, token: str) -> int | None:
        """The id that the library gives a token."""
        found: int | None = self._backend.token_to_id(token)
        return found

    def text_of(self, token: str) -> str:
        text: str = self._backend.decoder.decode([token]) if self._backend.decoder else token
        return text.strip()

    def write(self, directory: Path, max_length: int, segments: bool, listing: bool = True) -> None:
        write_library_tokenizer(directory, self.files, max_length, segments)
        if listing:
            write_text(directory / VOCABULARY, vocabulary_listing(self.vocabulary))


def _new_cache() -> SpanCache:
    """A cache to which spans are added before they are looked up."""
    return SpanCache(lambda span: ())


def write_library_tokenizer(
    directory: Path, files: LibraryFiles, max_length: int, segments: bool
) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    inputs = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    config = {
        **{f"{name}_token": token for name, token in files.special.items()},
        "clean_up_tokenization_spaces": False,
        "model_input_names": inputs,
        "model_max_length": max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, content in ((TOKENIZER, files.content), (CONFIG, config)):
        write_text(directory / name, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
