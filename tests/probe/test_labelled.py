"""Reading of labelled text: every format, and one line for every error."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.params import ProbeTask
from lib.probe.labelled import Example, read_examples
from lib.run.errors import UserError
from tests.helpers.labelled import CLASSIFICATION, TAGGING, delimited

# Not blank, and without characters that end a line or cannot be encoded.
TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20
).filter(str.strip)
TEXTS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6)


def read(
    folder: Path, name: str, content: str | bytes, task: ProbeTask = CLASSIFICATION
) -> list[Example]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_examples(path, task)


@given(texts=TEXTS)
def test_every_format_gives_the_texts_that_were_written(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("labelled")
    expected = [Example((text,), (label.strip(),)) for text, label in texts]
    lines = "".join(json.dumps({"label": y, "text": x}) + "\n" for x, y in texts)
    assert read(folder, "a.csv", "\ufeff" + delimited(texts, ",")) == expected
    assert read(folder, "a.tsv", delimited(texts, "\t")) == expected
    assert read(folder, "a.jsonl", lines) == expected


def test_quoted_fields_and_labels_that_are_not_strings(tmp_path):
    texts = [('two\nlines, "so"', "a"), ("x", "b")]
    assert read(tmp_path, "a.csv", delimited(texts, ",")) == [Example((x,), (y,)) for x, y in texts]
    # Many TSV files have unescaped quotes.
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
def test_columns_give_the_sentences_that_were_written(tmp_path_factory, sentences, gap, end):
    text = (end + end).join(
        end.join(gap.join([word, "_", tag]) for word, tag in sentence) for sentence in sentences
    )
    read_back = read(tmp_path_factory.mktemp("columns"), "a.conll", text, TAGGING)
    assert [list(zip(x.words, x.labels, strict=True)) for x in read_back] == sentences


def test_comments_and_document_markers_are_skipped(tmp_path):
    text = "-DOCSTART- -X- O\n\n# - O\nEU - B-ORG\n\n\n\n"
    assert read(tmp_path, "a.txt", text, TAGGING) == [Example(("#", "EU"), ("O", "B-ORG"))]
    conllu = (
        "# text = du lac\n1-2\tdu\t_\t_\n1\tde\t_\tADP\n2\tle\t_\tDET\n"
        "2.1\tx\t_\t_\n3\tlac\t_\tNOUN\n"
    )
    task = TAGGING.model_copy(update={"text_field": 2, "label_field": 4})
    assert read(tmp_path, "a.conllu", conllu, task) == [
        Example(("de", "le", "lac"), ("ADP", "DET", "NOUN"))
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nx,a\ny\n", "line 3: 1 fields, but the header has 2"),
        ("a.csv", 'text,label\n"a\nb",c\n"open,d\n', "line 4: not well-formed CSV"),
        ("a.csv", "text,class\nx,a\n", "line 2: no field `label`, only: text, class"),
        ("a.csv", "text,label\nx, \n", "line 2: `label` should be text, not ' '"),
        ("a.csv", b"text,label\nx,a\n\xff,b\n", "line 3: not UTF-8 (in an unknown encoding)"),
        ("a.tsv", "text\tlabel\n\nx\ta\tb\n", "line 3: 3 fields, but the header has 2"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n[1]\n', "line 2: not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": 1.5}\n', "line 1: `label` should be text, not 1.5"),
        ("a.jsonl", '{"text": null, "label": "a"}\n', "line 1: `text` should be text, not None"),
        ("a.xml", "<text>", "should be in a file that ends in .csv"),
    ],
)
def test_unreadable_texts_are_refused_in_one_line(tmp_path, name, content, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, name, content)
    assert str(error.value).startswith(str(tmp_path / name))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb\n", "line 2: 1 columns, but the lines before have 2"),
        ("a\tO\n\t O\n", "line 2: empty word"),
        ("a\nb\n", "line 1: 1 columns, so the task's label_field cannot be 2"),
    ],
)
def test_unreadable_columns_are_refused_with_their_line(tmp_path, content, message):
    task = TAGGING.model_copy(update={"label_field": 2})
    with pytest.raises(UserError, match=r"a\.conll line \d") as error:
        read(tmp_path, "a.conll", content, task)
    assert message in str(error.value)
