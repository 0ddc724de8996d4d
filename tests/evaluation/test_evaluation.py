"""Hidden words, what is summed of them, intervals, breakdowns and pictures, by other ways."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.evaluation.baselines import Unigram
from lib.evaluation.breakdowns import Breakdowns
from lib.evaluation.masked_words import WordFinder, hidden_words
from lib.evaluation.metrics import OF_HOLES, DocumentSums, PieceScores
from lib.evaluation.nsp_pairs import pair_batches
from lib.evaluation.sequences import HoleBatch, HoleRows, first_documents, spelling_bits
from lib.records.settings import RecordSettings
from lib.report.charts.svg import draw_bars, draw_counts, draw_lines
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHARE, SEED = 0.15, 1


def tokenizer(*pieces: str, lowercase: bool = True) -> WordPieceTokenizer:
    """A vocabulary that can spell every word of small letters and digits, and has these pieces."""
    single = [*LETTERS, *(LETTERS.upper() if not lowercase else ""), *"0123456789.,"]
    spelt = [*single, *(f"##{one}" for one in single)]
    every = dict.fromkeys([*SPECIAL_TOKENS, *spelt, *pieces])
    return WordPieceTokenizer(list(every), lowercase, lowercase)


LARGE = tokenizer("The", "the", "bridge", "##ing", "river", "water", "##er", "stone")
SMALL = tokenizer(lowercase=False)


def shard(folder: Path, documents: list[str], number: int = 0) -> Path:
    path = folder / f"{number:05}.txt"
    path.write_bytes("".join(f"{document}\n\n" for document in documents).encode())
    return path


WORDS = ["The", "bridge", "over", "a", "river", "Watering", "stones", "3", "1987", "in", "Izmir"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Path]:
    """Two files of 60 documents of one to six sentences."""
    folder, draw = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)

    def document() -> str:
        sentences = [
            " ".join(draw.choice(WORDS, int(draw.integers(3, 20)))) + "."
            for _ in range(draw.integers(1, 7))
        ]
        return "\n".join(sentences)

    return [shard(folder, [document() for _ in range(60)], number) for number in range(2)]


def documents_of(shards: list[Path]) -> list[list[str]]:
    return [
        text.split("\n")
        for path in shards
        for text in path.read_text().removesuffix("\n\n").split("\n\n")
    ]


def batches(rows: HoleRows, shards: list[Path], most: int = 10**6) -> list[HoleBatch]:
    return list(rows.batches(shards, most))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=40)


@given(
    TEXT, st.booleans(), st.sampled_from(["", "[MASK]", " naïve\u0301x ", "\u212b;\u037e", "中文a"])
)
@settings(max_examples=150, deadline=None)
def test_the_pieces_of_the_words_are_those_of_the_text(text, lowercase, more):
    text += more
    own = LARGE if lowercase else SMALL
    words = WordFinder().words(text)
    assert [piece for word in words for piece in own.encode(word)] == own.encode(text)


@given(TEXT, TEXT)
@settings(max_examples=60, deadline=None)
def test_words_do_not_change_with_what_follows(one, two):
    finder = WordFinder()
    assert finder.words(one + " " + two) == finder.words(one) + finder.words(two)


def test_a_word_is_hidden_by_its_document_and_number_only():
    all_of_it = hidden_words(b"one document\n", 100_000, SHARE, SEED)
    assert (hidden_words(b"one document\n", 10, SHARE, SEED) == all_of_it[:10]).all()
    # Five standard deviations.
    assert abs(all_of_it.mean() - SHARE) < 5 * math.sqrt(SHARE * (1 - SHARE) / 100_000)
    other = hidden_words(b"another document\n", 100_000, SHARE, SEED)
    both = (all_of_it & other).mean()
    assert abs(both - SHARE**2) < 5 * math.sqrt(SHARE**2 / 100_000)
    # A larger share hides these and more.
    assert not (all_of_it & ~hidden_words(b"one document\n", 100_000, 0.3, SEED)).any()


def hidden_by_the_rule(shards: list[Path], most: int = 10**6) -> list[tuple[int, str]]:
    """(document, word) of every hidden word, from the text alone: words are \\w+ or a mark here."""
    found = []
    for number, sentences in enumerate(documents_of(shards)):
        whole = "".join(f"{sentence}\n" for sentence in sentences).encode()
        words = [word for one in sentences[:most] for word in re.findall(r"\w+|\.", one)]
        most -= min(most, len(sentences))
        hidden = hidden_words(whole, len(words), SHARE, SEED)
        found += [(number, word) for word, hide in zip(words, hidden, strict=True) if hide]
    return found


@pytest.mark.parametrize("own", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("length", [12, 32, 128])
def test_every_vocabulary_and_length_has_the_same_holes(shards, own, length):
    rows = HoleRows(own, length, SHARE, SEED)
    asked = []
    for batch in batches(rows, shards):
        pieces: dict[int, list[str]] = {}
        for number, label in zip(batch.numbers.flat, batch.labels.flat, strict=True):
            if number >= 0:
                pieces.setdefault(int(number), []).append(own.vocabulary[label])
        words = ["".join(pieces[n]).replace("##", "") for n in range(len(batch.documents))]
        assert [len(word) for word in words] == batch.characters.tolist()
        asked += zip(batch.documents.tolist(), words, strict=True)
    expected = hidden_by_the_rule(shards)
    if own is LARGE:
        expected = [(number, word.lower()) for number, word in expected]
    assert asked == expected
    assert rows.counts["words"] == len(expected) and rows.counts["documents"] == 120
    assert not rows.counts["masked_words_too_long"] + rows.counts["unknown_words"]


@given(
    st.lists(
        st.lists(st.text("ab .Z中é\u0301\u200d", min_size=1, max_size=60), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([8, 16]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_hole_is_lost_in_silence(tmp_path_factory, documents, length, lowercase):
    documents = [[line for line in lines if line.strip()] for lines in documents]
    documents = [lines for lines in documents if lines]
    if not documents:
        return
    folder = tmp_path_factory.mktemp("any")
    path = shard(folder, ["\n".join(lines) for lines in documents])
    finder, expected = WordFinder(), 0
    for lines in documents:
        words = sum(len(finder.words(line)) for line in lines)
        whole = "".join(f"{line}\n" for line in lines).encode()
        expected += int(hidden_words(whole, words, 0.5, SEED).sum())
    rows = HoleRows(LARGE if lowercase else SMALL, length, 0.5, SEED)
    asked = sum(len(batch.documents) for batch in batches(rows, [path]))
    assert asked == rows.counts["words"]
    assert (
        asked + rows.counts["masked_words_too_long"] + rows.counts["masked_words_without_tokens"]
        == expected
    )


def test_rows_are_the_text_with_words_taken_out(shards):
    for own, length in ((LARGE, 128), (SMALL, 200)):
        rows = HoleRows(own, length, SHARE, SEED)
        text = documents_of(shards)
        for batch in batches(rows, shards):
            ids = batch.input_ids.copy()
            places = np.nonzero(batch.numbers >= 0)
            assert (ids[places[0], batch.positions[places]] == own.mask_id).all()
            ids[places[0], batch.positions[places]] = batch.labels[places]
            owners = batch.documents[batch.numbers[:, 0]]
            for row, size in enumerate(batch.lengths):
                if not size:
                    continue
                assert ids[row, 0] == own.cls_id and ids[row, size - 1] == own.sep_id
                assert not ids[row, size:].any() and own.mask_id not in ids[row]
                inside = ids[row, 1 : size - 1].tolist()
                sentences = [own.encode(sentence) for sentence in text[owners[row]]]
                # Whole sentences one after the other, as every one of them fits into a row here.
                starts = range(len(sentences))
                runs = [
                    [piece for sentence in sentences[a:b] for piece in sentence]
                    for a in starts
                    for b in range(a + 1, len(sentences) + 1)
                ]
                assert inside in runs


def test_so_many_sentences_are_asked_whatever_the_vocabulary(shards):
    most = 77
    taken = [(document, count) for document, count in first_documents(shards, most)]
    assert sum(count for _, count in taken) == most
    characters = set()
    for own, length in ((LARGE, 16), (SMALL, 64)):
        rows = HoleRows(own, length, SHARE, SEED)
        characters.add(sum(int(batch.characters.sum()) for batch in rows.batches(shards, most)))
        assert rows.counts["words"] == len(hidden_by_the_rule(shards, most))
    assert len(characters) == 1


def test_words_longer_than_a_row_and_words_without_pieces_are_counted(tmp_path):
    # A mark alone is no word once accents are stripped.
    path = shard(tmp_path, ["a " + "b" * 30 + " c", "\u0301 \u0301"])
    rows = HoleRows(LARGE, 16, 0.999999, SEED)
    (batch,) = batches(rows, [path])
    assert len(batch.documents) == 2
    assert (
        rows.counts["masked_words_too_long"] == 1
        and rows.counts["masked_words_without_tokens"] == 2
    )


def scores(batch: HoleBatch, losses: np.ndarray) -> PieceScores:
    return PieceScores(losses, np.zeros(losses.shape), np.zeros(losses.shape))


@pytest.mark.parametrize("length", [12, 64])
def test_bits_a_character_do_not_depend_on_the_vocabulary(shards, length):
    """Of a model that pays three bits for every character, whatever pieces they stand in."""
    found = []
    for own in (LARGE, SMALL):
        sizes = np.array([len(piece.removeprefix("##")) for piece in own.vocabulary])
        sums = DocumentSums.of_holes()
        for batch in batches(HoleRows(own, length, SHARE, SEED), shards):
            sums.see(batch, scores(batch, 3 * math.log(2) * sizes[batch.labels]))
        metrics = sums.metrics(OF_HOLES)
        assert metrics["bits_per_character"] == pytest.approx(3)
        found.append(metrics["mlm_loss"])
    # A piece of the one costs more than a piece of the other: perplexities tell nothing here.
    assert found[0] > 1.05 * found[1]


def test_a_word_that_is_unknown_is_spelt(tmp_path):
    path = shard(tmp_path, ["中a é"])
    rows = HoleRows(SMALL, 16, 0.999999, SEED)
    (batch,) = batches(rows, [path])
    # 8 bits for each of three bytes, of one byte, of two bytes, and for each word's end.
    assert batch.spelling_bits.tolist() == [32, 0, 24]
    assert spelling_bits("a") == 16
    sums = DocumentSums.of_holes()
    hits = np.ones(batch.labels.shape)
    sums.see(batch, PieceScores(np.full(batch.labels.shape, math.log(2)), hits, hits))
    # A bit for each of three pieces, and the spelling; [UNK] is no word that is found.
    assert sums.total("bits") == pytest.approx(3 + 56)
    assert (sums.total("characters"), sums.total("words_right")) == (3, 1)
    assert rows.counts["unknown_words"] == 2


def test_unigram_in_closed_form(tmp_path):
    own = tokenizer("bridge")
    counts = np.zeros(len(own.vocabulary), int)
    counts[own.encode("a")[0]], counts[own.encode("bridge")[0]] = 30, 10
    path = shard(tmp_path, ["a bridge b"])
    unigram = Unigram(counts)
    (batch,) = batches(HoleRows(own, 16, 0.999999, SEED), [path])
    sums = DocumentSums.of_holes()
    sums.see(batch, unigram.score(batch))
    rows = len(own.vocabulary)
    logs = [math.log((count + 1) / (40 + rows)) for count in (30, 10, 0)]
    metrics = sums.metrics(OF_HOLES)
    assert metrics["mlm_loss"] == pytest.approx(-sum(logs) / 3)
    assert metrics["mlm_perplexity"] == pytest.approx(math.exp(-sum(logs) / 3))
    assert metrics["bits_per_character"] == pytest.approx(-sum(logs) / math.log(2) / 8)
    assert metrics["mlm_accuracy"] == metrics["word_accuracy"] == pytest.approx(1 / 3)
    # The five commonest are these two and the first three of those that never occur.
    assert metrics["mlm_accuracy_at_5"] == pytest.approx(2 / 3)
    assert unigram.top == own.encode("a")[0]


def test_a_word_is_right_only_when_all_of_it_is(shards):
    (batch, *_) = batches(HoleRows(SMALL, 64, SHARE, SEED), shards)
    draw = np.random.default_rng(0)
    hits = (draw.random(batch.labels.shape) < 0.7).astype(float)
    sums = DocumentSums.of_holes()
    sums.see(batch, PieceScores(hits, hits, hits))
    right = sum(all(hits[batch.numbers == number]) for number in range(len(batch.documents)))
    assert sums.total("words_right") == right
    assert sums.total("pieces") == (batch.numbers >= 0).sum()
    for document in np.unique(batch.documents):
        of_it = batch.documents == document
        assert sums.by_name["characters"][document] == batch.characters[of_it].sum()


def test_intervals_cover_the_truth_as_often_as_they_say():
    """200 test sets of 300 documents, of sizes and difficulties of their own."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 40, 20_000)
    means = draw.gamma(4, 1, 20_000)
    truth = (sizes * means).sum() / sizes.sum()
    covered = 0
    for number in range(200):
        chosen = draw.integers(0, len(sizes), 300)
        sums = DocumentSums.of_pairs()
        loss = sizes[chosen] * means[chosen]
        sums.add(np.arange(300), pairs=sizes[chosen], loss=loss, hits=0 * loss, random=0 * loss)
        low, high = sums.intervals({"nsp_loss": ("loss", "pairs")}, number, 200)["nsp_loss"]
        covered += low <= truth <= high
        assert low < sums.metrics({"nsp_loss": ("loss", "pairs")})["nsp_loss"] < high
    assert 0.90 <= covered / 200 <= 0.99


def test_intervals_are_the_same_every_time_and_narrow_with_more_documents():
    def width(documents: int) -> float:
        draw = np.random.default_rng(1)
        sums = DocumentSums.of_pairs()
        values = draw.random(documents)
        sums.add(np.arange(documents), pairs=np.ones(documents), loss=values, hits=values)
        found = sums.intervals({"nsp_loss": ("loss", "pairs")}, SEED)
        assert found == sums.intervals({"nsp_loss": ("loss", "pairs")}, SEED)
        low, high = found["nsp_loss"]
        # In standard errors of a mean.
        return (high - low) / (values.std() / math.sqrt(documents))

    assert width(100) == pytest.approx(2 * 1.96, rel=0.1)
    assert width(1600) == pytest.approx(2 * 1.96, rel=0.1)


def test_pairs_are_whole_documents_of_test_text(shards):
    settings = RecordSettings(32, 5, short_seq_prob=0.0)
    found = list(pair_batches(shards, LARGE, settings, SHARE, 100, SEED))
    labels = np.concatenate([batch.labels for batch in found])
    owners = np.concatenate([batch.documents for batch in found])
    assert len(labels) == 100 and 0.3 < labels.mean() < 0.9
    assert (np.diff(owners) >= 0).all()
    text = [
        {word for sentence in sentences for word in LARGE.encode(sentence)}
        for sentences in documents_of(shards)
    ]
    rows = np.concatenate([batch.features["input_ids"][: len(batch.labels)] for batch in found])
    segments = np.concatenate([b.features["segment_ids"][: len(b.labels)] for b in found])
    special = [LARGE.cls_id, LARGE.sep_id, LARGE.pad_id, LARGE.mask_id]
    alien = 0
    for row, segment, owner, label in zip(rows, segments, owners, labels, strict=True):
        for part in (0, 1) if not label else (0,):
            pieces = set(row[segment == part].tolist()) - set(special)
            # A tenth of a seventh of the pieces is replaced by any piece.
            alien += len(pieces - text[owner])
    assert alien < 0.05 * (rows > 4).sum()


def test_breakdowns_add_up_to_the_whole(shards):
    own = SMALL
    counts = np.arange(len(own.vocabulary)) ** 2
    breakdowns, sums = Breakdowns(counts, 64), DocumentSums.of_holes()
    draw = np.random.default_rng(0)
    every = []
    for batch in batches(HoleRows(own, 64, SHARE, SEED), shards):
        losses = draw.random(batch.labels.shape)
        said = PieceScores(losses, (losses < 0.2).astype(float), np.ones(losses.shape))
        breakdowns.see(batch, said)
        sums.see(batch, said)
        for row, column in np.argwhere(batch.numbers >= 0):
            number = batch.numbers[row, column]
            size = (batch.numbers == number).sum()
            begins = column == 0 or batch.numbers[row, column - 1] != number
            every.append(
                {
                    "kind": "whole word"
                    if size == 1
                    else "first piece"
                    if begins
                    else "later piece",
                    "digits": len(str(counts[batch.labels[row, column]]).lstrip("0")),
                    "position": batch.positions[row, column],
                    "tokens": -(-batch.lengths[row] // 4) * 4,
                    "loss": losses[row, column],
                }
            )
    tables, expected = breakdowns.tables(), pd.DataFrame(every)
    for name in ("by_frequency", "by_position", "by_length", "by_token_type"):
        table = tables[name]
        assert table["pieces"].sum() == sums.total("pieces")
        assert (table["pieces"] * table["mlm_loss"]).sum() == pytest.approx(sums.total("loss"))
        assert (table["pieces"] * table["mlm_accuracy"]).sum() == pytest.approx(sums.total("hits"))
    for name, column, key in (
        ("by_token_type", "piece", "kind"),
        ("by_position", "position", "position"),
        ("by_length", "tokens", "tokens"),
    ):
        means = expected.groupby(key)["loss"].mean()
        found = tables[name].set_index(column)["mlm_loss"]
        assert found.to_dict() == pytest.approx(means.to_dict())
    by_digits = expected.groupby("digits")["loss"].mean()
    assert tables["by_frequency"]["mlm_loss"].tolist() == pytest.approx(by_digits.tolist())
    first = tables["by_frequency"]["times_in_training"].tolist()
    assert first[-1] == "10000-99999" and "10-99" in first


def test_pictures_are_the_same_bytes_and_well_formed(tmp_path):
    def draw(folder: Path) -> None:
        folder.mkdir()
        draw_lines(
            folder / "a.svg", "Loss & <more>", "x", "y", {"a": ([1, 2], [3, 4]), "b": ([1], [2])}
        )
        draw_bars(folder / "b.svg", "Bars", "x", "y", ["1-9", "10-99"], [2.0, 3.0], ["5", "6"])
        draw_counts(
            folder / "c.svg", "Pairs", "x", "y", ("one", "two"), np.array([[1, 2], [3, 40]])
        )

    draw(tmp_path / "one")
    draw(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        text = "".join(root.itertext())
        assert not re.search(r"20\d\d-\d\d|Matplotlib v", text)
    assert "Loss & <more>" in "".join(
        ElementTree.parse(tmp_path / "one/a.svg").getroot().itertext()
    )
