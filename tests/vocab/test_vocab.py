"""Vocabularies: where they come from, what they promise, what is measured of them."""

import json
import math
import re
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.samples.languages import LANGUAGES, made_text
from lib.vocab import words as words_module
from lib.vocab.alphabet import closed_alphabet, most_frequent_characters
from lib.vocab.characters import BasicTokenizer
from lib.vocab.conversion import from_characters, from_sentencepiece
from lib.vocab.directory import read_directory, read_vocabulary
from lib.vocab.existing import existing_tokenizer
from lib.vocab.export import write_tokenizer
from lib.vocab.extension import extend, read_extension
from lib.vocab.report import measure_fit, unreachable_tokens, write_frequencies, write_report
from lib.vocab.selection import CANDIDATE_RATIO, select_tokens
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer
from lib.vocab.training import train_sentencepiece, wordpiece_tokens
from lib.vocab.wordpiece import WordPiece
from lib.vocab.words import WordCounts, count_words
from stages.vocab import main

UNCASED, CASED = BasicTokenizer(True, True), BasicTokenizer(False, False)
BASIC = {"english": UNCASED, "tweets": UNCASED}


def made(basic: BasicTokenizer, words: dict[str, int], size: int, algorithm: str = "bpe", **other):
    coverage = other.pop("coverage", 1.0)
    trained = other.pop("trained", words)
    return from_sentencepiece(words, trained, basic, algorithm, size, coverage, 64)[0]


def counts_of(text: str, basic: BasicTokenizer) -> Counter[str]:
    return Counter(word for line in text.split("\n") for word in basic.words(line))


def greedy(word: str, vocabulary: set[str]) -> list[str]:
    """WordPiece as its definition reads, one character after the other."""
    pieces: list[str] = []
    while word:
        prefix = "##" if pieces else ""
        fitting = [end for end in range(1, len(word) + 1) if prefix + word[:end] in vocabulary]
        if not fitting:
            return ["[UNK]"]
        pieces.append(prefix + word[: max(fitting)])
        word = word[max(fitting) :]
    return pieces


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_of_the_training_text_is_unknown(language, algorithm):
    basic = BASIC.get(language, CASED)
    words = counts_of(made_text(language, 1500, 1), basic)
    vocabulary = made(basic, words, 900, algorithm)
    assert vocabulary[:5] == list(SPECIAL_TOKENS)
    assert len(set(vocabulary)) == len(vocabulary) <= 900
    pieces = set(vocabulary)
    assert not any("[UNK]" in greedy(word, pieces) for word in words)
    heldout = counts_of(made_text(language, 300, 2), basic)
    unknown = sum(count for word, count in heldout.items() if "[UNK]" in greedy(word, pieces))
    assert unknown <= 0.0005 * heldout.total()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["bpe", "unigram"]),
)
def test_any_text_can_be_spelt(texts, lowercase, strip_accents, algorithm):
    basic = BasicTokenizer(lowercase, strip_accents)
    words = counts_of("\n".join(texts), basic)
    if not words:
        return
    vocabulary = made(basic, words, 2000, algorithm)
    pieces = set(vocabulary)
    assert len(pieces) == len(vocabulary)
    assert not pieces & {"", "##"}
    tokenizer = WordPieceTokenizer(vocabulary, lowercase, strip_accents)
    for word in words:
        split = tokenizer.wordpiece.split(word)
        assert split is not None
        assert [vocabulary[number] for number in split] == greedy(word, pieces)
    assert not unreachable_tokens(tokenizer)


def test_exactly_the_size_when_the_text_fills_it():
    words = counts_of(made_text("turkish", 800, 1), CASED)
    for size in (300, 301, 477):
        for algorithm in ("bpe", "unigram"):
            assert len(made(CASED, words, size, algorithm)) == size


def test_a_small_text_gives_the_largest_vocabulary_that_it_can():
    words = counts_of("a small text, small indeed\n", UNCASED)
    vocabulary = made(UNCASED, words, 30_000)
    assert len(vocabulary) < 200 and len(vocabulary) % 8 == 0
    pieces = set(vocabulary)
    assert all(greedy(word, pieces) == [word] for word in words)
    unused = [piece for piece in vocabulary if piece.startswith("[unused")]
    assert unused == [f"[unused{number}]" for number in range(len(unused))]


def test_the_smallest_size_is_told_and_works():
    words = counts_of(made_text("turkish", 50, 1), CASED)
    with pytest.raises(UserError, match=r"vocab\.size: 20 cannot hold") as caught:
        made(CASED, words, 20)
    smallest = int(re.search(r"at least (\d+)", str(caught.value))[1])
    vocabulary = made(CASED, words, smallest)
    assert len(vocabulary) == smallest
    assert not any("[UNK]" in greedy(word, set(vocabulary)) for word in words)
    with pytest.raises(UserError):
        made(CASED, words, smallest - 1)


def test_characters_that_sentencepiece_reserves_are_covered_all_the_same():
    words = Counter({"a▁b": 5, "▅x": 3, "plain": 9, "▁": 2})
    pieces = set(made(CASED, words, 100))
    assert all("[UNK]" not in greedy(word, pieces) for word in words)


def test_coverage_leaves_out_the_rarest_characters_only():
    characters = {"e": 900, "a": 90, "z": 9, "q": 1}
    assert most_frequent_characters(characters, 1.0) == characters
    assert list(most_frequent_characters(characters, 0.99)) == ["e", "a"]
    assert list(most_frequent_characters(characters, 0.995)) == ["e", "a", "z"]
    words = {"ea": 500, "zq": 1, "ae": 400}
    vocabulary = made(CASED, words, 50, coverage=0.99)
    assert not any("q" in piece for piece in vocabulary if piece not in SPECIAL_TOKENS)


def test_words_left_out_of_training_can_be_spelt():
    words = {"hello": 10, "xyzzy": 10}
    vocabulary = set(made(CASED, words, 100, trained={"hello": 10}))
    assert "hello" in vocabulary and "xyzzy" not in vocabulary
    assert greedy("xyzzy", vocabulary) == ["x", "##y", "##z", "##z", "##y"]


def test_both_forms_but_one_for_what_stands_alone():
    assert closed_alphabet("aş.中", CASED) == ["a", "##a", "ş", "##ş", ".", "中"]


def test_characters_by_frequency():
    words = {"中": 5, "国": 3, "龘": 2, "ab": 4}
    assert from_characters(words, CASED, 100, 3) == [
        *SPECIAL_TOKENS,
        *["中", "a", "##a", "b", "##b", "国"],
        *[f"[unused{number}]" for number in range(5)],
    ]
    with pytest.raises(UserError, match=r"set at least 11, or raise vocab\.min_frequency"):
        from_characters(words, CASED, 10, 3)


# --- which pieces are kept


def tokens(words: dict[str, int], vocabulary: list[str]) -> int:
    pieces = set(vocabulary)
    return sum(count * len(greedy(word, pieces)) for word, count in words.items())


@pytest.mark.parametrize("language", ["turkish", "tweets"])
def test_selection_saves_tokens_on_text_that_it_has_not_seen(language):
    basic = BASIC.get(language, CASED)
    words = counts_of(made_text(language, 3000, 1), basic)
    heldout = counts_of(made_text(language, 500, 2), basic)
    letters = closed_alphabet(sorted({letter for word in words for letter in word}), basic)
    pieces = wordpiece_tokens(train_sentencepiece(words, "bpe", 1000, 64))
    candidates = [piece for piece in pieces if len(piece.removeprefix("##")) > 1]
    room = int(len(candidates) / CANDIDATE_RATIO)
    chosen = select_tokens(candidates, letters, words, room)
    assert len(chosen) == room
    assert chosen == [piece for piece in candidates if piece in set(chosen)]
    by_rank = [*letters, *candidates[:room]]
    assert tokens(words, [*letters, *chosen]) < tokens(words, by_rank)
    assert tokens(heldout, [*letters, *chosen]) < tokens(heldout, by_rank)


def test_what_saves_nothing_goes_first():
    letters = ["a", "b", "c", "##a", "##b", "##c"]
    words = {"abc": 10, "abca": 1}
    # `ab` is never used beside `abc`; `abca` saves one token, `abc` two a time.
    assert select_tokens(["ab", "abca", "abc"], letters, words, 2) == ["abca", "abc"]
    assert select_tokens(["ab", "abca", "abc"], letters, words, 1) == ["abc"]
    assert select_tokens(["ab"], letters, words, 5) == ["ab"]


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=12),
    st.lists(st.text("abcd", min_size=1, max_size=9), min_size=1, max_size=8),
)
def test_splitting_follows_its_definition(texts, words):
    vocabulary = sorted({"a", "##a", *texts, *(f"##{text}" for text in texts[::2])})
    wordpiece = WordPiece({piece: number for number, piece in enumerate(vocabulary)})
    for word in words:
        split = wordpiece.split(word)
        found = ["[UNK]"] if split is None else [vocabulary[number] for number in split]
        assert found == greedy(word, set(vocabulary))
        start = [word[:end] for end in range(len(word), 0, -1) if word[:end] in vocabulary]
        assert wordpiece.longest_prefix(word) == (start[0] if start else None)


# --- counting


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=20), st.booleans(), st.integers(1, 40))
def test_counts_are_those_of_the_basic_tokenizer(tmp_path_factory, texts, lowercase, limit):
    lines = [text.replace("\n", " ").replace("\r", " ") for text in texts]
    assume(not any(token in line for token in SPECIAL_TOKENS for line in lines))
    path = tmp_path_factory.mktemp("counts") / "text.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    basic = BasicTokenizer(lowercase, lowercase)
    counted = count_words(path, basic, limit, 1)
    assert counted.words == Counter(word for line in lines for word in basic.words(line))
    assert counted.characters == sum(map(len, lines))
    assert counted.sentences == len(lines)
    short = [line for line in lines if len(line) <= limit]
    assert counted.long_sentences == len(lines) - len(short)
    assert counted.without_long_sentences() == Counter(
        word for line in short for word in basic.words(line)
    )


def test_special_tokens_in_text_are_no_words(tmp_path):
    (tmp_path / "t").write_text("a [MASK] b [mask]\n[SEP]\n", encoding="utf-8")
    assert count_words(tmp_path / "t", UNCASED, None, 1).words == Counter(
        {"a": 1, "b": 1, "[": 1, "mask": 1, "]": 1}
    )


def test_the_same_bytes_in_five_runs_and_for_any_number_of_workers(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text(made_text("turkish", 600, 1), encoding="utf-8")
    monkeypatch.setattr(words_module, "_MIN_CHUNK_BYTES", 1 << 12)
    for algorithm in ("bpe", "unigram"):
        vocabularies = []
        for workers in (1, 1, 1, 2, 5):
            counted = count_words(text, CASED, None, workers)
            vocabularies.append(made(CASED, counted.words, 400, algorithm))
        assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


# --- what is there already


def test_directories_as_people_have_them(tmp_path):
    vocabulary = [*SPECIAL_TOKENS, "a", "##a", "é"]
    write_tokenizer(tmp_path, vocabulary, False, False, 128)
    files = read_directory(tmp_path)
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, False, False)
    (tmp_path / "vocab.txt").unlink()  # as transformers 5 writes it
    files = read_directory(tmp_path)
    assert files.path.name == "tokenizer.json"
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, False, False)
    google = tmp_path / "google"
    google.mkdir()
    (google / "vocab.txt").write_text("\r\n".join([*vocabulary, ""]), encoding="utf-8")
    files = read_directory(google)
    assert (files.vocabulary, files.lowercase, files.strip_accents) == (vocabulary, None, None)
    assert existing_tokenizer("model", google, UNCASED).vocabulary == vocabulary
    assert existing_tokenizer("file", google / "vocab.txt", CASED).vocabulary == vocabulary


def edit(path: Path, change) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_what_is_no_berts_tokenizer_is_refused(tmp_path):
    def refused(change, message):
        write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a"], True, True, 128)
        change()
        with pytest.raises(UserError, match=message) as caught:
            existing_tokenizer("model", tmp_path, UNCASED)
        assert "\n" not in str(caught.value)

    path, config = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    refused(
        lambda: [(tmp_path / "vocab.txt").unlink(), path.unlink()],
        "missing, and so is tokenizer.json",
    )
    refused(lambda: edit(path, lambda values: values["model"].update(type="BPE")), "WordPiece")
    refused(lambda: edit(path, lambda values: values.pop("normalizer")), "WordPiece")
    refused(
        lambda: edit(path, lambda values: values["normalizer"].update(clean_text=False)),
        "clean_text",
    )
    refused(
        lambda: edit(
            path, lambda values: values["added_tokens"].append({"content": "[USER]", "id": 99})
        ),
        r"\[USER\]",
    )
    refused(
        lambda: edit(config, lambda values: values.update(do_lower_case=False)),
        "do_lower_case is false, but in tokenizer.json it is true",
    )
    refused(
        lambda: (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n"),
        r"vocab\.txt: .*\[MASK\]",
    )
    refused(lambda: shutil.rmtree(tmp_path), "no such folder")


def test_switches_of_another_kind_than_the_models_are_refused(tmp_path):
    write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a"], True, False, 128)
    with pytest.raises(UserError, match=r"vocab\.strip_accents: true, but .* has false"):
        existing_tokenizer("extend", tmp_path, UNCASED)
    with pytest.raises(UserError, match=r"vocab\.lowercase: false, but .* has true"):
        existing_tokenizer("model", tmp_path, CASED)


def test_files_that_are_no_vocabulary(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00a")
    for name, message in (("empty.txt", "empty"), ("binary.txt", "UTF-8"), ("none.txt", "no such")):
        with pytest.raises(UserError, match=message):
            read_vocabulary(tmp_path / name)
    with pytest.raises(UserError, match="folder"):
        read_vocabulary(tmp_path)


# --- new words


BASE = [
    *SPECIAL_TOKENS,
    "[unused0]",
    *[form + letter for letter in "abcdeilnorstuvwh" for form in ("", "##")],
    *["the", "nurse", "##ion", "co", "##vid", "lo", "##w"],
    "[unused1]",
]
NEWS = {"covid": 50, "covids": 20, "wuhan": 30, "the": 100, "nurse": 40, "🦠": 9, "lion": 2}


def test_new_words_take_unused_rows_first_and_no_id_moves():
    base = WordPieceTokenizer(list(dict.fromkeys(BASE)), True, True)
    size = len(base.vocabulary) + 1
    vocabulary, extension = extend(base, NEWS, size, 3)
    # covid saves one token 50 + 20 times, wuhan four 30 times, and 🦠 is known 9 times.
    assert [token.token for token in extension.new_tokens] == ["wuhan", "covid", "covids"]
    assert [token.id for token in extension.new_tokens] == [5, len(base.vocabulary) - 1, size - 1]
    assert len(vocabulary) == size
    for number, piece in enumerate(base.vocabulary):
        assert vocabulary[number] == piece or piece.startswith("[unused")
    uses = Counter(
        piece for word in NEWS for piece in greedy(word, set(base.vocabulary)) * NEWS[word]
    )
    for token in extension.new_tokens:
        before = [base.vocabulary[number] for number in token.base_ids]
        assert before == greedy(token.token, set(base.vocabulary))
        shares = [math.log(NEWS[token.token] / uses[piece]) for piece in before]
        assert token.log_fraction == pytest.approx(sum(shares) / len(shares), abs=1e-6)
        assert token.log_fraction <= 0


def test_an_unknown_word_becomes_known_and_rare_ones_stay():
    base = WordPieceTokenizer(list(dict.fromkeys(BASE)), True, True)
    vocabulary, extension = extend(base, NEWS, 1000, 3)
    words = {token.token: token.base_ids for token in extension.new_tokens}
    assert words["🦠"] == (base.unk_id,)
    assert "lion" not in words and "the" not in words
    assert len(vocabulary) == len(base.vocabulary) + len(words) - 2


def test_too_small_a_size_for_extending():
    base = WordPieceTokenizer(list(dict.fromkeys(BASE)), True, True)
    rows = len(base.vocabulary)
    with pytest.raises(UserError, match=rf"set {rows} to use only its 2 \[unusedN\] entries"):
        extend(base, NEWS, rows - 1, 3)
    _, extension = extend(base, NEWS, rows, 3)
    assert len(extension.new_tokens) == 2


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.text("abco", min_size=1, max_size=5), st.integers(1, 20), max_size=12),
    st.integers(0, 4),
)
def test_each_new_word_is_the_one_that_saves_most(words, room):
    base = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##a", "ab", "b", "##b", "##c", "##ab"], 1, 1)
    rows = len(base.vocabulary)
    vocabulary, extension = extend(base, words, rows + room, 1)

    def cost(pieces: list[str]) -> int:
        splits = {word: greedy(word, set(pieces)) for word in words}
        return sum(
            count * (2 if splits[word] == ["[UNK]"] else len(splits[word]))
            for word, count in words.items()
        )

    assert vocabulary[:rows] == base.vocabulary
    assert [token.token for token in extension.new_tokens] == vocabulary[rows:]
    before = [cost(vocabulary[:end]) for end in range(rows, len(vocabulary) + 1)]
    assert all(later < earlier for earlier, later in pairwise(before))
    if extension.new_tokens:
        best = min(cost([*base.vocabulary, word]) for word in words)
        assert before[1] == best
    elif room:
        assert min([cost([*base.vocabulary, word]) for word in words], default=0) >= before[0] or (
            all(word in base.vocabulary for word in words)
        )


# --- numbers


def test_the_numbers_are_those_of_counting_by_hand():
    tokenizer = WordPieceTokenizer(
        [*SPECIAL_TOKENS, "a", "##b", "ab", "c", "[unused0]", "C", "##."], True, True
    )
    counted = WordCounts(
        Counter({"ab": 4, "abb": 3, "x": 2, "c" * 101: 1, "c": 10}), characters=200
    )
    result = measure_fit(tokenizer, counted)
    assert result.metrics == {
        "words": 20,
        "distinct_words": 5,
        "tokens": 4 + 6 + 2 + 1 + 10,
        "tokens_per_word": 23 / 20,
        "tokens_per_character": 23 / 200,
        "whole_word_fraction": 14 / 20,
        "unknown_word_fraction": 2 / 19,
        "unknown_token_fraction": 3 / 23,
        "words_too_long": 1,
        "unused_tokens": 12 - 4,
    }
    assert result.counts.tolist() == [0, 3, 0, 0, 0, 0, 3, 7, 10, 0, 0, 0]
    assert result.most_split == [("abb", 3, ["ab", "##b"])]
    assert result.unknown == [("x", 2)]
    assert unreachable_tokens(tokenizer) == ["C", "##."]


def test_report_and_plot(tmp_path):
    words = counts_of(made_text("turkish", 500, 1), CASED)
    tokenizer = WordPieceTokenizer(made(CASED, words, 300), False, False)
    fits = {
        "train": measure_fit(tokenizer, WordCounts(words)),
        "heldout": measure_fit(tokenizer, WordCounts()),
    }
    write_frequencies(tmp_path / "f.csv", fits["train"].counts)
    heading, *rows = (tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()
    assert heading == "log10_rank,log10_fraction"
    points = [tuple(map(float, row.split(","))) for row in rows]
    used = int((fits["train"].counts > 0).sum())
    assert points[0][0] == 0 and points[-1][0] == pytest.approx(math.log10(used), abs=1e-4)
    most = fits["train"].counts.max() / fits["train"].counts.sum()
    assert points[0][1] == pytest.approx(math.log10(most), abs=1e-4)
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))
    write_report(tmp_path / "r.md", tokenizer, {"size": 300}, fits)
    report = (tmp_path / "r.md").read_text(encoding="utf-8")
    word, count, pieces = fits["train"].most_split[0]
    assert f"| `{word}` | {count:,} | {' '.join(f'`{piece}`' for piece in pieces)} |" in report


# --- the stage


def test_the_stage_with_every_source(tmp_path, monkeypatch, values):
    monkeypatch.chdir(tmp_path)
    Path("data/sample").mkdir(parents=True)
    Path("data/sample/train.txt").write_text(made_text("turkish", 400, 1), encoding="utf-8")
    Path("data/sample/heldout.txt").write_text(made_text("turkish", 100, 2), encoding="utf-8")

    def run(source: str, base: str = "data/sample", **changes) -> list[str]:
        values["vocab"] |= {
            "source": source,
            "base": base,
            "size": 400,
            "lowercase": False,
            "strip_accents": False,
            **changes,
        }
        Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        main(Path("data/sample"), Path(base), Path("data/vocab"))
        vocabulary = read_vocabulary(Path("data/vocab/vocab.txt"))
        metrics = json.loads(Path("results/vocab/metrics.json").read_text(encoding="utf-8"))
        counts = Path("data/vocab/token_counts.txt").read_text(encoding="utf-8").split()
        assert metrics["size"] == len(vocabulary) == len(counts)
        assert sum(map(int, counts)) == metrics["train"]["tokens"]
        assert metrics["train"]["words"] > metrics["heldout"]["words"] > 0
        if source != "file":
            assert metrics["train"]["unknown_word_fraction"] == 0
        tokenizer = WordPieceTokenizer.load(Path("data/vocab"))
        lines = Path("data/sample/heldout.txt").read_text(encoding="utf-8")
        assert len(tokenizer.encode(lines)) == metrics["heldout"]["tokens"]
        report = Path("results/vocab/report.md").read_text(encoding="utf-8")
        assert report.startswith("# Vocabulary")
        return vocabulary

    pieces = run("sentencepiece")
    assert len(pieces) == 400
    shutil.copytree("data/vocab", "models/base")
    assert run("model", "models/base") == pieces
    Path("some.txt").write_text("".join(f"{piece}\n" for piece in pieces[:200]), encoding="utf-8")
    assert run("file", "some.txt") == pieces[:200]
    extended = run("extend", "models/base", size=410)
    assert extended[:400] == pieces and len(extended) == 410
    extension = read_extension(Path("data/vocab"))
    assert [token.token for token in extension.new_tokens] == extended[400:]
    assert all(len(piece.removeprefix("##")) == 1 for piece in run("characters")[5:70])
    Path("data/sample/train.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"data/sample/train\.txt: no words"):
        run("sentencepiece")
