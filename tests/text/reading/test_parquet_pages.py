"""Values of Parquet columns against pyarrow's own reader, and the memory that they take."""

import dataclasses
import io
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data import shapes
from lib.text.reading import parquet_pages as pages_module
from lib.text.reading import tables as tables_module
from lib.text.reading.parquet_pages import (
    TooLong,
    column_values,
    footer_bytes,
    is_readable,
    read_footer,
)
from lib.text.reading.tables import _text_column
from tests.conftest import ROOT
from tests.helpers.raw_text import read

CODECS = ["NONE", "SNAPPY", "GZIP", "BROTLI", "ZSTD"]


def values_of(data: bytes, path: str = "text", limit: int = 1 << 30) -> list:
    stream = io.BytesIO(data)
    table = pyarrow.parquet.ParquetFile(stream)
    leaf = _text_column(table, (path,))
    level = table.schema.column(leaf).max_definition_level
    found = []
    for group in range(table.num_row_groups):
        column = table.metadata.row_group(group).column(leaf)
        assert is_readable(column)
        found += column_values(stream, column, level, limit)
    return found


def written(array: pyarrow.Array, **options) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({"n": range(len(array)), "text": array}), stream, **options
    )
    return stream.getvalue()


some_text = st.one_of(st.none(), st.sampled_from(["", "ğüş", "a" * 40]), st.text(max_size=300))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(some_text, max_size=60),
    st.integers(1, 9),
    st.sampled_from(CODECS),
    st.booleans(),
    st.sampled_from(["1.0", "2.0"]),
    st.sampled_from([1, 200, 1 << 20]),
    st.sampled_from([7, 1000]),
    st.booleans(),
)
def test_values_are_those_of_pyarrow(texts, times, codec, dictionary, version, page, group, large):
    texts = texts * times
    data = written(
        pyarrow.array(texts, "string"),
        compression=codec,
        use_dictionary=dictionary,
        data_page_version=version,
        data_page_size=page,
        dictionary_pagesize_limit=page,
        write_batch_size=3,
        row_group_size=group,
    )
    expected = [text if text is None else text.encode() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr(pages_module, "_LARGE_BYTES", 10)
        assert values_of(data) == expected


@pytest.mark.parametrize("codec", CODECS)
def test_large_pages_are_read_in_parts(monkeypatch, codec):
    monkeypatch.setattr(pages_module, "_LARGE_BYTES", 1 << 16)
    texts = [f"{n} " * (30_000 + n) for n in range(12)] + [None, "x" * 200_000, "é"]
    for dictionary in (True, False):
        data = written(pyarrow.array(texts), compression=codec, use_dictionary=dictionary)
        assert values_of(data) == [text if text is None else text.encode() for text in texts]
    some = values_of(data, limit=100_000)
    assert some[-3:] == [None, TooLong(200_000, b"x" * 512), "é".encode()]
    assert some[9] == texts[9].encode() or isinstance(some[9], TooLong)


def test_a_snappy_page_that_is_not_in_blocks_is_read_as_a_whole(monkeypatch):
    monkeypatch.setattr(pages_module, "_LARGE_BYTES", 10)
    monkeypatch.setattr(pages_module, "_SNAPPY_BLOCK", 50_000)
    texts = [f"{n} " * 20_000 for n in range(5)]
    data = written(pyarrow.array(texts), compression="SNAPPY")
    assert values_of(data) == [text.encode() for text in texts]


def test_a_field_in_structs_is_read_and_one_in_lists_left_to_arrow(tmp_path):
    rows = [
        {"doc": {"text": "one"}},
        {"doc": None},
        {"doc": {"text": None}},
        {"doc": {"text": "two"}},
    ]
    table = pyarrow.Table.from_pylist(rows)
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(table, path)
    assert values_of(path.read_bytes(), "doc.text") == [b"one", None, None, b"two"]
    assert read(path, field="doc.text")[0] == [["one"], ["two"]]
    pyarrow.parquet.write_table(pyarrow.table({"text": [["a", "b"], [], None, ["c"]]}), path)
    assert _text_column(pyarrow.parquet.ParquetFile(path), ("text",)) is None
    assert read(path)[0] == [["a", "b"], ["c"]]


def test_damage_is_noticed(tmp_path):
    texts = [f"Text {n} of some." for n in range(400)]
    data = written(pyarrow.array(texts), row_group_size=100, compression="ZSTD")
    path = tmp_path / "x.parquet"
    start = pyarrow.parquet.ParquetFile(io.BytesIO(data)).metadata.row_group(2).column(1)
    position = start.dictionary_page_offset
    for size in (1, 40):
        path.write_bytes(data[:position] + b"\xff" * size + data[position + size :])
        found, rejections, _ = read(path, skip=True)
        assert found == [[text] for text in texts[:200]]
        assert rejections.counts == {"corrupt_parquet": 1}
        assert rejections.bytes == {"corrupt_parquet": round(len(data) / 2)}


def test_a_footer_of_very_many_columns_is_read_without_arrow(tmp_path, monkeypatch):
    rows = [{"a": n, "doc": {"x": [n], "text": f"text {n}"}, "text": f"own {n}"} for n in range(50)]
    rows[7] = {"a": 7, "doc": None, "text": None}
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=20)
    table = pyarrow.parquet.ParquetFile(path)
    usual = {field: read(path, field=field)[0] for field in ("text", "doc.text")}
    with path.open("rb") as stream:
        assert footer_bytes(stream) == table.metadata.serialized_size
        for name in ("text", "doc.text"):
            footer = read_footer(stream, name)
            leaf = _text_column(table, (name,))
            assert footer.names == ["a", "doc", "text"]
            assert footer.max_definition == table.schema.column(leaf).max_definition_level
            for group, chunk in enumerate(footer.chunks):
                column = table.metadata.row_group(group).column(leaf)
                for field in dataclasses.fields(chunk):
                    assert getattr(chunk, field.name) == getattr(column, field.name), field.name
        assert not read_footer(stream, "doc.x").chunks and not read_footer(stream, "no").chunks
    monkeypatch.setattr(tables_module, "_FOOTER_BYTES", 0)
    assert {field: read(path, field=field)[0] for field in usual} == usual
    assert read(path, skip=True, field="doc.x")[1].counts == {"wide_parquet": 1}


MEASURE = """
import sys
from collections import Counter
from pathlib import Path
from lib.text.reading.fields import TextFields
from lib.text.reading.formats import read_documents
from lib.text.reading.raw_files import examine
from lib.text.reading.reader import Chunk, ReadOptions
from lib.text.reading.rejections import Rejections
rejections, characters = Rejections("", True), 0
options = ReadOptions("line", TextFields((sys.argv[2],)))
file = examine(Path(sys.argv[1]), "auto", "line", rejections)
for batch in read_documents(Chunk(file), options, rejections, Counter()):
    characters += sum(len(line) for lines in batch for line in lines)
# Unlike ru_maxrss, this starts at zero for a new program.
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
print(characters, rejections.counts.total(), peak)
"""


def measured(path: Path, field: str = "text") -> tuple[int, int, int]:
    """Characters, rejections, and peak memory in MiB of a process that reads a file."""
    command = [sys.executable, "-c", MEASURE, path, field]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    characters, rejections, peak = map(int, done.stdout.split())
    return characters, rejections, peak


@pytest.mark.slow
def test_a_small_file_of_gigabytes_of_text_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "x.parquet"
    array = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 3000, "int32"), ["ab " * 300_000]
    )
    pyarrow.parquet.write_table(
        pyarrow.table({"text": array}), path, compression="zstd", store_schema=False
    )
    assert path.stat().st_size < 10_000
    characters, rejections, peak = measured(path)
    assert characters == 3000 * 900_000 and rejections == 0 and peak < 300


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "nested", "wide"])
def test_long_cells_and_many_columns_are_read_in_bounded_memory(tmp_path, kind):
    path = tmp_path / f"x.{kind if kind in ('csv', 'tsv', 'jsonl') else 'parquet'}"
    megabytes = 300
    cells = [f"{text}" for text in shapes.cells(30)] * (megabytes // 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "cells", lambda _: iter(cells))
        match kind:
            case "csv" | "tsv":
                shapes.write_separated(path, "," if kind == "csv" else "\t", megabytes)
            case "jsonl":
                shapes.write_json_lines(path, megabytes)
            case "parquet":
                shapes.write_parquet(path, megabytes)
            case "nested":
                shapes.write_nested_parquet(path, megabytes)
            case _:
                shapes.write_wide_parquet(path, 200_000)
    field = "doc.text" if kind == "nested" else "text"
    characters, rejections, peak = measured(path, field)
    expected = 3 * 1000 if kind == "wide" else sum(map(len, cells))
    assert characters > 0.95 * expected and rejections == 0 and peak < 200
