"""Shapes of JSON, Parquet and CSV that people have: what is read, and what errors say."""

import csv
import io
import json
import random

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.params import Preprocess
from lib.run.errors import UserError
from lib.text.reading import reader as reader_module
from lib.text.reading.raw_files import examine
from lib.text.reading.rejections import Rejections
from tests.helpers.raw_text import read

PAPER = {
    "id": "p1",
    "metadata": {"title": "On frogs", "a.b": "dotted"},
    "abstract": [{"text": "Frogs were counted."}],
    "body_text": [{"text": "We went twice."}, {"text": "It rained.", "section": "Methods"}],
    "keywords": ["frogs", ["ponds", None]],
    "pages": 7,
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("field", "documents"),
    [
        ("metadata.title", [["On frogs"]]),
        ("metadata.a.b", [["dotted"]]),
        ("body_text.text", [["We went twice.", "It rained."]]),
        ("body_text[].text", [["We went twice."], ["It rained."]]),
        (
            ["abstract.text", "body_text.text"],
            [["Frogs were counted.", "We went twice.", "It rained."]],
        ),
        (["metadata.title", "nowhere", "abstract.text"], [["On frogs", "Frogs were counted."]]),
        ("keywords", [["frogs", "ponds"]]),
    ],
)
def test_paths_into_nested_json(tmp_path, indent, several, field, documents):
    records = [PAPER, PAPER | {"id": "p2"}] if several else [PAPER]
    path = tmp_path / "x.json"
    path.write_text("\n".join(json.dumps(record, indent=indent) for record in records))
    assert read(path, field=field)[0] == documents * len(records)
    path.write_text("\ufeff" + json.dumps(records, indent=indent))
    assert read(path, field=field)[0] == documents * len(records)
    path.write_text(json.dumps({"data": records}, indent=indent))
    inner = [field] if isinstance(field, str) else field
    assert read(path, field=[f"data[].{each}" for each in inner])[0] == documents * len(records)


def test_records_without_one_of_several_fields_are_counted(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"title": "one"}\n{"title": "two", "body": "more"}\n')
    documents, _, counts = read(path, field=["title", "body", "bdy"])
    assert documents == [["one"], ["two", "more"]]
    assert counts["records_of_several_fields"] == counts["records_without_field_bdy"] == 2
    assert counts["records_without_field_body"] == 1 and counts["records_without_field_title"] == 0


def test_a_list_of_strings_can_be_a_document_or_many(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"texts": ["one", "two"]}')
    assert read(path, field="texts")[0] == [["one", "two"]]
    assert read(path, field="texts[]")[0] == [["one"], ["two"]]
    path.write_text('{"id1": {"text": "one"}, "id2": {"text": "two"}}')
    assert read(path, field="[].text")[0] == [["one"], ["two"]]
    path.write_text('["one", "two"]')
    assert read(path)[0] == [["one"], ["two"]]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": 5}, r"line 1 \(found the number 5, which is not a string\)"),
        ({"text": True}, r"found true, which is not a string"),
        ({"text": ["a", 5]}, r"found the number 5"),
        ({"text": {"en": "a", "fr": "b"}}, r"fields en, fr; add \.en to preprocess\.text_field"),
        ({"article": {"text": "a"}}, r"among: article; set preprocess\.text_field: article\.text"),
        ({"Text": "a"}, r"among: Text; set preprocess\.text_field: Text"),
        ({"data": [{"text": "a"}]}, r"set preprocess\.text_field: data\[\]\.text"),
        (
            {"n": 1, "articles": [{"body": "a", "by": {"name": "b"}}]},
            r"among: n, articles; there is text in articles\[\]\.body, articles\[\]\.by\.name\)",
        ),
        ({"body": "a"}, r"looked for `text` among: body\)"),
    ],
)
def test_an_error_says_what_is_there_and_what_to_set(tmp_path, record, message):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=message):
        read(path)


def test_parquet_columns_may_be_nested_lists_dictionaries_or_several(tmp_path):
    path = tmp_path / "x.parquet"
    table = pyarrow.table(
        {
            "plain": ["a", "b"],
            "list": [["c", "d"], ["e"]],
            "nested": [{"text": "f"}, {"text": "g"}],
            "few": pyarrow.array(["h", "h"]).dictionary_encode(),
            "dotted.name": ["i", "j"],
        }
    )
    pyarrow.parquet.write_table(table, path)
    assert read(path, field="list")[0] == [["c", "d"], ["e"]]
    assert read(path, field="nested.text")[0] == [["f"], ["g"]]
    assert read(path, field="few")[0] == [["h"], ["h"]]
    assert read(path, field="dotted.name")[0] == [["i"], ["j"]]
    assert read(path, field=["few", "plain"])[0] == [["h", "a"], ["h", "b"]]
    with pytest.raises(UserError, match=r"row 1 .*add \.text to preprocess\.text_field"):
        read(path, field="nested")


values = st.recursive(
    st.one_of(st.integers(), st.text(max_size=5), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
records = st.builds(
    lambda text, more: more | {"text": text},
    st.text('aé😀"\\,[]{}\n', min_size=1, max_size=9).filter(lambda text: text.strip()),
    st.dictionaries(st.text(max_size=3), values, max_size=3),
)


@settings(max_examples=40)
@given(st.lists(records, min_size=1, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_json_is_read_the_same_in_blocks_of_any_size(tmp_path_factory, found, indent, as_array):
    path = tmp_path_factory.mktemp("json") / "x.json"
    texts = [record["text"].strip().split("\n") for record in found]
    expected = [[line.strip() for line in lines if line.strip()] for lines in texts]
    written = [json.dumps(record, indent=indent, ensure_ascii=False) for record in found]
    data = json.dumps(found, indent=indent) if as_array else "\n".join(written)
    path.write_text(data, encoding="utf-8")
    for size in (1, 7, 1 << 18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader_module, "BLOCK_BYTES", size)
            assert read(path)[0] == expected


def test_what_is_not_json_is_text(tmp_path):
    for number, text in enumerate(
        ("[Applause] We begin.", "{ int x;\n}", '["Yes," he said]', "{{cite web}}", "[1] A note.")
    ):
        path = tmp_path / str(number)
        path.write_text(text)
        assert examine(path, "auto", "line", Rejections("", False)).format == "text"


def test_json_that_is_damaged_or_huge_is_rejected_where_it_is(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    good = '[{"text": "one"}, {"text": "two"}, '
    monkeypatch.setattr("lib.text.reading.json_records.MAX_VALUE", 10_000)
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 100)
    for rest, reason in (
        ('{"text": three}' + " " * 99 + "]", "malformed_json"),
        ('{"text": "' + "x" * 30_000 + '"}]', "json_value_too_long"),
    ):
        path.write_text(good + rest)
        found, rejections, _ = read(path, skip=True)
        assert found == [["one"], ["two"]] and rejections.counts == {reason: 1}
        with pytest.raises(UserError, match="value 3"):
            read(path)
    path.write_bytes(b'[{"text": "caf\xe9"}, {"text": "b"}]')
    found, rejections, _ = read(path, skip=True)
    assert found == [["b"]] and rejections.counts == {"invalid_unicode": 1}


# --- Separated values

ROWS = [
    ["id", "text", "stars"],
    ["1", 'A quote: "here", and; more.', "5"],
    ["2", "Plain. Row.", "4"],
    ["3", "Two\nlines | with\ta tab.", "3"],
    ["4", "It's a 5\" pipe.", "3"],
]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("backslash", [False, True])
@pytest.mark.parametrize("all_quoted", [False, True])
def test_dialects_are_found_out(tmp_path, suffix, delimiter, quote, backslash, all_quoted):
    rows = [row.copy() for row in ROWS]
    if quote == "'" and not all_quoted:
        return  # These quotes cannot be distinguished from apostrophes.
    stream = io.StringIO()
    writer = csv.writer(
        stream,
        delimiter=delimiter,
        quotechar=quote,
        doublequote=not backslash,
        escapechar="\\" if backslash else None,
        quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL,
    )
    writer.writerows(rows)
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(b"\xef\xbb\xbf" + stream.getvalue().encode())
    expected = [[line.strip() for line in row[1].split("\n")] for row in rows[1:]]
    assert read(path)[0] == expected
    # Set rather than found out; without a header, the column has a number.
    dialect = {"delimiter": delimiter, "quote": quote, "header": False}
    dialect["escape"] = "backslash" if backslash else "none"
    assert read(path, field="2", dialect=dialect)[0] == [["text"], *expected]
    assert read(path, field="2", dialect={"header": False})[0] == [["text"], *expected]
    both = [[row[0], *lines] for row, lines in zip(rows[1:], expected, strict=True)]
    assert read(path, field=["id", "text"])[0] == both


def test_apostrophes_and_commas_in_text_do_not_make_a_dialect(tmp_path):
    draw = random.Random(1)
    rows = [f"{n};'tis {draw.random()}, isn't it; 'no', she said" for n in range(50)]
    path = tmp_path / "x.csv"
    path.write_text("text\n" + "\n".join(row.replace(",", "") for row in rows))
    assert read(path)[0] == [[row.replace(",", "")] for row in rows]
    path.write_text("id,text,more\n" + "\n".join(row.replace(";", ",", 1) for row in rows[:9]))
    with pytest.raises(
        UserError, match=r"line 2 \(4 fields, but the first row has 3; read with delimiter ,"
    ):
        read(path)


def test_errors_of_tables_name_what_was_found(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id;body\n1;One. Two.\n")
    with pytest.raises(UserError, match=r"among: id, body\) with delimiter ;"):
        read(path)
    path.write_text("1;One. Two.\n2;Three.\n")
    with pytest.raises(UserError, match=r"without a header, set preprocess\.csv\.header: false"):
        read(path)
    assert read(path, field="2", dialect={"header": False})[0] == [["One. Two."], ["Three."]]
    path.write_text("text,n\nok,1\nOne, two.,1\n")
    with pytest.raises(UserError, match=r"line 3 \(3 fields, but the first row has 2"):
        read(path)


def test_spaces_after_delimiters_and_around_names_are_no_part_of_fields(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('id, text, stars\n1, "One, two; three.", 5\n2, Plain., 4\n')
    assert read(path)[0] == [["One, two; three."], ["Plain."]]
    path.write_text("id,text ,stars\n1, a ,2\n")
    assert read(path)[0] == [["a"]]


def test_errors_of_json_say_where_the_line_is_wrong(tmp_path):
    path = tmp_path / "x.jsonl"
    for line, problem in {
        "{'text': 'a'}": r"Expecting property name enclosed in double quotes, column 2",
        '{"text": "a"},': r"Extra data, column 14",
        '{"text": "a"': r"Expecting ',' delimiter, column 13",
    }.items():
        path.write_text('{"text": "one"}\n' + line + "\n")
        with pytest.raises(UserError, match=rf"line 2 \({problem}\): not JSON"):
            read(path)


def test_objects_one_after_another_in_a_line(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"text": "a", "n": {}}{"text": "b {"} {"text": "c"}')
    assert read(path)[0] == [["a"], ["b {"], ["c"]]
    path.write_text('{"text": "a } {"}\n{"text": "b"}\n')
    assert examine(path, "auto", "line", Rejections("", True)).format == "jsonl"


def test_the_delimiter_line_of_excel_is_no_header(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes("\ufeffsep=;\r\nid;text\r\n1;a, b, c\r\n2;d;e\r\n".encode())
    found, rejections, _ = read(path, skip=True)
    assert found == [["a, b, c"]] and rejections.counts == {"malformed_csv": 1}
    with pytest.raises(UserError, match=r"line 4 \(3 fields"):
        read(path)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
def test_missing_values_are_not_documents(tmp_path, name):
    values = ["nan", "NULL", "", "   ", "N/A", "None", "\\N", "nan.", "Nan came home."]
    path = tmp_path / name
    if name == "x.jsonl":
        lines = [json.dumps({"text": value}) for value in values]
        lines += ['{"text": NaN}', '{"text": null}']
    else:
        delimiter = "," if name == "x.csv" else "\t"
        lines = [delimiter.join(row) for row in (("id", "text"), *(("1", v) for v in values))]
    path.write_text("\n".join(lines))
    found, rejections, counts = read(path)
    assert found == [["nan."], ["Nan came home."]] and not rejections.counts
    assert counts["records_without_text"] == (9 if name == "x.jsonl" else 7)


def test_settings_of_fields_and_tables_are_checked():
    assert Preprocess(text_field="a.b").text_fields == ("a.b",)
    assert Preprocess(text_field=["a", "b"]).text_fields == ("a", "b")
    assert Preprocess(text_field=2, csv={"header": False}).text_fields == ("2",)
    for wrong in (
        {"text_field": []},
        {"text_field": ["data[].a", "b"]},
        {"csv": {"header": False}},
        {"csv": {"delimiter": ";;"}},
        {"csv": {"quote": ""}},
    ):
        with pytest.raises(ValueError, match="should"):
            Preprocess(**wrong)
