"""The downstream probe: labelled text is read right, F1 is F1, and what can be learnt is learnt."""

import csv
import io
import json
import random
from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.model.config import BertConfig
from lib.model.parameters import initial_values
from lib.params import ProbeTask, parse_params
from lib.probe.comparison import Run, as_frame, by_class, summary, table
from lib.probe.fine_tuning import FineTuner
from lib.probe.labelled import Example, read_examples
from lib.probe.scores import are_entities, entities, scores
from lib.probe.sequences import sentence_rows, shuffled_batches, text_rows
from lib.probe.task_data import read_task
from lib.run.errors import UserError
from lib.vocab.tokenizer import SPECIAL_TOKENS, WordPieceTokenizer

CLASSES = ProbeTask(
    kind="classification",
    data="data/labelled",
    text_field="text",
    label_field="label",
    model="models/main",
    baseline="data/vocab",
    epochs=6,
    batch_size=8,
    learning_rate=1e-2,
    max_seq_length=16,
    seeds=2,
)
TAGS = CLASSES.model_copy(update={"kind": "tagging", "text_field": 1, "label_field": -1})

# Without characters that end a line or cannot be written; not blank.
TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20
).filter(str.strip)
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6)


def delimited(rows: list, delimiter: str) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["number", "text", "label"])
    writer.writerows([number, *row] for number, row in enumerate(rows))
    return buffer.getvalue()


def read(folder, name: str, content: str | bytes, task: ProbeTask = CLASSES) -> list[Example]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_examples(path, task)


@given(rows=ROWS)
def test_texts_come_back_as_they_were_written(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("labelled")
    expected = [Example((text,), (label.strip(),)) for text, label in rows]
    lines = "".join(json.dumps({"label": y, "text": x}) + "\n" for x, y in rows)
    assert read(folder, "a.csv", "\ufeff" + delimited(rows, ",")) == expected
    assert read(folder, "a.tsv", delimited(rows, "\t")) == expected
    assert read(folder, "a.jsonl", lines) == expected


def test_text_of_several_lines_and_quotes(tmp_path):
    rows = [('two\nlines, "so"', "a"), ("x", "b")]
    assert read(tmp_path, "a.csv", delimited(rows, ",")) == [Example((x,), (y,)) for x, y in rows]
    # Many write quotes into TSV as they are.
    assert read(tmp_path, "a.tsv", 'text\tlabel\n"Nice" he said\ta\n"open\tb\n') == [
        Example(('"Nice" he said',), ("a",)),
        Example(('"open',), ("b",)),
    ]
    assert read(tmp_path, "a.jsonl", '{"text": "x", "label": 3}\n{"text": "y", "label": true}') == [
        Example(("x",), ("3",)),
        Example(("y",), ("true",)),
    ]


WORD = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=6)
SENTENCES = st.lists(
    st.lists(st.tuples(WORD, st.sampled_from(["O", "B-PER", "I-PER"])), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


@given(sentences=SENTENCES, gap=st.sampled_from([" ", "\t"]), end=st.sampled_from(["\n", "\r\n"]))
def test_columns_come_back_as_they_were_written(tmp_path_factory, sentences, gap, end):
    text = (end + end).join(
        end.join(gap.join([word, "_", tag]) for word, tag in sentence) for sentence in sentences
    )
    read_back = read(tmp_path_factory.mktemp("columns"), "a.conll", text, TAGS)
    assert [list(zip(x.words, x.labels, strict=True)) for x in read_back] == sentences


def test_what_is_no_sentence_is_passed_by(tmp_path):
    text = "-DOCSTART- -X- O\n\n# - O\nEU - B-ORG\n\n\n\n"
    assert read(tmp_path, "a.txt", text, TAGS) == [Example(("#", "EU"), ("O", "B-ORG"))]
    universal = (
        "# text = du lac\n1-2\tdu\t_\t_\n1\tde\t_\tADP\n2\tle\t_\tDET\n"
        "2.1\tx\t_\t_\n3\tlac\t_\tNOUN\n"
    )
    task = TAGS.model_copy(update={"text_field": 2, "label_field": 4})
    assert read(tmp_path, "a.conllu", universal, task) == [
        Example(("de", "le", "lac"), ("ADP", "DET", "NOUN"))
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nx,a\ny\n", "line 3: 1 fields, but the header has 2"),
        ("a.csv", 'text,label\n"a\nb",c\n"open,d\n', "line 4: not well-formed CSV"),
        ("a.csv", "text,class\nx,a\n", "line 2: no field `label`, there are: text, class"),
        ("a.csv", "text,label\nx, \n", "line 2: `label` should hold text; it holds ' '"),
        ("a.csv", b"text,label\nx,a\n\xff,b\n", "line 3: not UTF-8"),
        ("a.tsv", "text\tlabel\n\nx\ta\tb\n", "line 3: 3 fields, but the header has 2"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n[1]\n', "line 2: not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": 1.5}\n', "line 1: `label` should hold text"),
        ("a.jsonl", '{"text": null, "label": "a"}\n', "line 1: `text` should hold text"),
        ("a.xml", "<text>", "should be in a file that ends in .csv"),
    ],
)
def test_what_cannot_be_read_gives_one_line(tmp_path, name, content, message):
    with pytest.raises(UserError) as failure:
        read(tmp_path, name, content)
    assert str(failure.value).startswith(str(tmp_path / name))
    assert message in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb\n", "line 2: 1 columns, but the lines before have 2"),
        ("a\tO\n\t O\n", "line 2: an empty word"),
        ("a\nb\n", "line 1: there are 1 columns; the task's label_field is 2"),
    ],
)
def test_columns_that_cannot_be_read_give_one_line(tmp_path, content, message):
    task = TAGS.model_copy(update={"label_field": 2})
    with pytest.raises(UserError, match=r"a\.conll line \d") as failure:
        read(tmp_path, "a.conll", content, task)
    assert message in str(failure.value)


def write_texts(path, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(delimited(rows, ","), encoding="utf-8")


def test_given_parts_are_honoured(tmp_path):
    rows = [("one", "a"), ("two", "b")]
    write_texts(tmp_path / "x/train.csv", rows)
    write_texts(tmp_path / "x/more.csv", [("three", "a")])
    write_texts(tmp_path / "x/valid.csv", [("four", "a")])
    (tmp_path / "x/README.md").write_text("About it.")
    task = CLASSES
    # Without a test part, the dev part is one.
    assert [x.words for x in read_task(tmp_path / "x", task).test] == [("four",)]
    write_texts(tmp_path / "x/test/part.csv", [("five", "a")])
    data = read_task(tmp_path / "x", task)
    assert [x.words[0] for x in data.train] == ["one", "two", "three"]
    assert [x.words[0] for x in data.test] == ["five"]
    assert "the dev part is not used" in data.notes and "README.md" in data.notes[0]


def test_otherwise_each_example_goes_by_its_hash(tmp_path):
    rows = [(f"text {number % 400}", "ab"[number % 2]) for number in range(500)]
    write_texts(tmp_path / "test.csv", rows[:450])
    before = read_task(tmp_path / "test.csv", CLASSES)  # A single file is not the test part.
    assert 0.15 < len(before.test) / 450 < 0.25
    # Equal texts are on one side, and added ones move no other.
    assert not {x.words for x in before.train} & {x.words for x in before.test}
    write_texts(tmp_path / "test.csv", rows[::-1])
    after = read_task(tmp_path / "test.csv", CLASSES)
    assert {x.words for x in before.test} <= {x.words for x in after.test}
    assert {x.words for x in before.train} <= {x.words for x in after.train}


def test_a_task_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file for classification"):
        read_task(tmp_path, CLASSES)
    write_texts(tmp_path / "test.csv", [("x", "a")])
    with pytest.raises(UserError, match="no example for training"):
        read_task(tmp_path, CLASSES)
    write_texts(tmp_path / "train.csv", [("x", "a"), ("y", "a")])
    with pytest.raises(UserError, match="training has one label only"):
        read_task(tmp_path, CLASSES)


LABELS = st.sampled_from("abc")


@given(pairs=st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_f1_of_labels_is_that_of_its_definition(pairs):
    gold, answers = zip(*pairs, strict=True)
    found = scores([(x,) for x in gold], [(x,) for x in answers], of_entities=False)
    expected = {}
    for name in sorted({*gold, *answers}):
        right = sum(real == answer == name for real, answer in pairs)
        precision = right / answers.count(name) if name in answers else 0
        recall = right / gold.count(name) if name in gold else 0
        both = precision + recall
        expected[name] = 2 * precision * recall / both if both else 0
    assert found["f1_by_class"] == pytest.approx(expected)
    assert found["f1_macro"] == pytest.approx(sum(expected.values()) / len(expected))
    accuracy = sum(real == answer for real, answer in pairs) / len(pairs)
    assert found["accuracy"] == found["f1_micro"] == pytest.approx(accuracy)


def conlleval(tags: list[str]) -> set[tuple[str, int, int]]:
    """Chunks by the two tables of the shared tasks' script: where one ends, where one starts."""
    ends = {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")}
    starts = {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")}
    parts = [(tag[0], tag[2:]) for tag in tags]
    chunks, start = set(), None
    before, kind_before = "O", ""
    for place, (letter, kind) in enumerate([*parts, ("O", "")]):
        changes = kind_before != kind
        if start is not None and ((before, letter) in ends or (before != "O" and changes)):
            chunks.add((kind_before, start, place - 1))
            start = None
        if (before, letter) in starts or (letter != "O" and changes):
            start = place
        before, kind_before = letter, kind
    return chunks


BIO = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=9)


@given(sentences=st.lists(st.tuples(BIO, BIO), min_size=1, max_size=4))
def test_entities_are_those_of_conlleval(sentences):
    cut = [(one[: len(two)], two[: len(one)]) for one, two in sentences]
    gold, answers = zip(*cut, strict=True)
    for tags in chain(gold, answers):
        assert set(entities(tags)) == conlleval(tags)
    real = Counter(kind for tags in gold for kind, _, _ in conlleval(tags))
    found = Counter(kind for tags in answers for kind, _, _ in conlleval(tags))
    right = Counter(kind for x, y in cut for kind, _, _ in conlleval(x) & conlleval(y))
    precision = right.total() / found.total() if found else 0
    recall = right.total() / real.total() if real else 0
    both = precision + recall
    result = scores(gold, answers, of_entities=True)
    assert result["f1_micro"] == pytest.approx(2 * precision * recall / both if both else 0)
    assert set(result["f1_by_class"]) == {*real, *found}


def test_entities_counted_by_hand():
    gold = ["B-PER", "I-PER", "O", "B-LOC", "O", "B-ORG", "I-ORG"]
    answers = ["B-PER", "I-PER", "O", "B-ORG", "O", "B-ORG", "O"]
    # One of three is right; three are found: the second has another type, the third another end.
    result = scores([gold], [answers], of_entities=True)
    assert result["f1_micro"] == pytest.approx(1 / 3)
    # PER 1; ORG 0 of 2 found, 1 real; LOC 0.
    assert result["f1_macro"] == pytest.approx(1 / 3)
    assert result["accuracy"] == pytest.approx(5 / 7)
    assert list(entities(["S-X", "B-X", "E-X", "I-X", "O", "E-X", "I-Y"])) == [
        ("X", 0, 0),
        ("X", 1, 2),
        ("X", 3, 3),
        ("X", 5, 5),
        ("Y", 6, 6),
    ]
    assert are_entities(["O", "B-PER", "S-x-y"]) and are_entities("BIO")
    assert not are_entities(["O"]) and not are_entities(["NOUN", "O"])


WORDS = ["red", "blue", "green", "big", "small", "house", "tree", "izmir", "ankara", "in", "the"]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS, *"abcdefghijklmnopqrstuvwxyz"]
VOCABULARY += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
TOKENIZER = WordPieceTokenizer(list(dict.fromkeys(VOCABULARY)), True, True)
SIZES = BertConfig(
    len(TOKENIZER.vocabulary), 16, 1, 2, 32, "gelu", 0.1, 0.1, 16, initializer_range=0.1
)


def test_every_word_of_a_sentence_has_its_first_piece_in_some_row():
    words = ("red", "zzz", "\u200d", "house", "y" * 40, "in", "a", "qq")
    example = Example(words, tuple("abcdefgh"))
    (rows,) = sentence_rows([example], TOKENIZER, 8)
    assert [label for row in rows for label in row.labels] == list(example.labels)
    firsts = [int(row.ids[column]) for row in rows for column in row.columns]
    # Of the word without a piece it is [UNK].
    assert firsts == [(TOKENIZER.encode(word) or [TOKENIZER.unk_id])[0] for word in words]
    for row in rows:
        assert len(row.ids) <= 8
        assert row.ids[0] == TOKENIZER.cls_id and row.ids[-1] == TOKENIZER.sep_id
    assert len(rows) > 1


def test_a_text_is_one_row():
    texts = ["red house", "", "a " * 50, "in\nthe"]
    rows = text_rows([Example((text,), ("x",)) for text in texts], TOKENIZER, 16)
    assert [list(row.ids[1:-1]) for row in rows] == [TOKENIZER.encode(t)[:14] for t in texts]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own():
    rows = text_rows(
        [Example((f"a {'b ' * (n % 9)}",), (str(n),)) for n in range(70)], TOKENIZER, 16
    )
    orders = [
        [[row.labels[0] for row in batch] for batch in shuffled_batches(rows, 8, seed, epoch)]
        for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0))
    ]
    for order in orders:
        assert sorted(chain(*order), key=int) == [str(number) for number in range(70)]
        assert sorted(map(len, order)) == [6] + [8] * 8
    assert orders[0] == orders[3] and orders[0] != orders[1] and orders[0] != orders[2]


def learnable(kind: str, count: int, seed: int) -> list[Example]:
    """The colour of a thing is its class; a town is a place."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        colour, town = draw.choice(["red", "blue", "green"]), draw.choice(["izmir", "ankara"])
        words = ["the", draw.choice(["big", "small"]), colour, draw.choice(["house", "tree"])]
        words = [*words, "in", town] if draw.random() < 0.7 else words
        if kind == "classification":
            found.append(Example((" ".join(words),), (colour,)))
        else:
            tags = tuple("B-LOC" if w == town else "B-COL" if w == colour else "O" for w in words)
            found.append(Example(tuple(words), tags))
    return found


@pytest.mark.parametrize("task", [CLASSES, TAGS], ids=lambda task: task.kind)
def test_what_can_be_learnt_is_learnt_and_always_the_same(task):
    train, test = learnable(task.kind, 160, 1), learnable(task.kind, 60, 2)
    if task.kind == "tagging":
        rows, test_rows = (list(chain(*sentence_rows(x, TOKENIZER, 16))) for x in (train, test))
    else:
        rows, test_rows = (text_rows(x, TOKENIZER, 16) for x in (train, test))
    classes = sorted({label for example in train for label in example.labels})
    tuner = FineTuner(SIZES, task, classes, TOKENIZER.pad_id)
    start, calls = initial_values(SIZES, 1), []
    gold = [row.labels for row in test_rows]
    losses = [tuner.train(start, rows, 1, lambda: calls.append(1))]
    answers = tuner.answers(test_rows)
    found = scores(gold, answers, of_entities=task.kind == "tagging")
    assert found["f1_macro"] > 0.95 and losses[0] < 0.3
    assert len(calls) == 6 * 20
    # Another run in between leaves no trace; another seed is another run.
    losses += [tuner.train(start, rows, seed, lambda: None) for seed in (2, 1)]
    assert losses[0] == losses[2] != losses[1]
    again = FineTuner(SIZES, task, classes, TOKENIZER.pad_id)
    assert again.train(start, rows, 1, lambda: None) == losses[0]
    assert again.answers(test_rows) == answers


def test_a_loss_that_is_no_number_stops_the_run():
    task = CLASSES.model_copy(update={"learning_rate": 1e30})
    rows = text_rows(learnable("classification", 32, 1), TOKENIZER, 16)
    tuner = FineTuner(replace(SIZES, initializer_range=0.9), task, ["blue", "green", "red"], 0)
    start = {name: array * np.float32(1e30) for name, array in initial_values(SIZES, 1).items()}
    with pytest.raises(UserError, match="not a number in epoch 1; lower learning_rate"):
        tuner.train(start, rows, 1, lambda: None)


def test_the_table_has_means_and_sample_deviations():
    def run(model: str, seed: int, score: float, **by_class: float) -> Run:
        values = dict.fromkeys(("f1_macro", "f1_micro", "accuracy"), score)
        return Run(model, seed, {**values, "f1_by_class": by_class, "train_loss": 0.5})

    runs = [run("model", 1, 0.5, a=1.0), run("model", 2, 0.7, a=0.5, b=0.5), run("other", 1, 0.9)]
    means = summary(runs)
    assert means["model"]["f1_macro"] == pytest.approx(0.6)
    # Two values 0.2 apart: the root of 2 x 0.1² / (2 - 1).
    assert means["model"]["f1_macro_sd"] == pytest.approx(0.02**0.5)
    assert by_class(runs).values.tolist() == [["model", "a", 0.75], ["model", "b", 0.25]]
    assert means["other"]["accuracy_sd"] is None
    assert table(means).loc["model", "f1_macro"] == "0.600 ± 0.141"
    assert table(means).loc["other", "accuracy"] == "0.900"
    assert as_frame(runs)["f1_micro"].tolist() == [0.5, 0.7, 0.9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "parsing"}, "'classification' or 'tagging'"),
        ({"label_field": 2}, "label_field should be the name of a field"),
        ({"kind": "tagging"}, "text_field should be the number of a column"),
        ({"baseline": "models/main/"}, "baseline should be another one than model"),
        ({"seeds": 0}, "greater than or equal to 1"),
        ({"epoch": 3}, "did you mean `epochs`"),
    ],
)
def test_a_wrong_task_gives_one_line(values, changes, message):
    values["probe"]["tasks"]["mood"] = CLASSES.model_dump() | changes
    with pytest.raises(UserError) as failure:
        parse_params(values)
    assert "probe.tasks.mood" in str(failure.value) and message in str(failure.value)


def test_there_is_no_task_to_begin_with(values):
    assert parse_params(values).probe.tasks == {}
