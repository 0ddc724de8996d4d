"""Raw files of every format and compression, cut anywhere, damaged in every way."""

import bz2
import csv
import gzip
import html
import io
import json
import lzma
import os
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.text import documents as documents_module
from lib.text.reading.formats import FORMATS, cut_rule
from lib.text.reading.raw_files import examine
from lib.text.reading.rejections import REASONS, BadInputError, Rejections, after_lines
from tests.conftest import ROOT
from tests.helpers.raw_text import between_cuts, read

TEXTS = [f"Article {n} has ünï çode.\nIts second line, “{n}”, is here." for n in range(700)]


DOCUMENTS = [text.split("\n") for text in TEXTS]


def separated(texts: list[str], delimiter: str) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(["id", "text", "likes"])
    writer.writerows([number, text, 3] for number, text in enumerate(texts))
    return stream.getvalue().encode()


def parquet(texts: list[str]) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({"n": list(range(len(texts))), "text": texts}), stream
    )
    return stream.getvalue()


def json_lines(texts: list[str]) -> bytes:
    # The fields of wiki2019zh.
    return "".join(
        json.dumps({"id": str(n), "url": "u", "title": "t", "text": text}) + "\n"
        for n, text in enumerate(texts)
    ).encode()


def json_array(texts: list[str], indent: int | None = None) -> bytes:
    records = [{"n": n, "text": text, "more": {"a": [1, "]"]}} for n, text in enumerate(texts)]
    return json.dumps(records, indent=indent, ensure_ascii=indent is None).encode()


def json_objects(texts: list[str]) -> bytes:
    """Objects one after another, each over several lines."""
    return "\n".join(json.dumps({"text": text}, indent=1) for text in texts).encode()


def page(texts: list[str]) -> bytes:
    body = "".join(
        f"<p>{first} <br/>\n  {html.escape(second)}</p><script>var a = '<p>no</p>';</script>\n"
        for first, second in (text.split("\n") for text in texts)
    )
    head = "<head><meta charset=utf-8><title>T</title><style>p{}</style></head>"
    return f"<!DOCTYPE html>\n<html>{head}<body>{body}</body></html>".encode()


def elements(texts: list[str], root: str = "root", more: str = "") -> bytes:
    body = "".join(
        f"<item id='{n}'><title>T{n}</title><text><p>{first}</p><p>{second}</p></text>{more}</item>"
        for n, (first, second) in enumerate(text.split("\n") for text in texts)
    )
    return (f"<{root}>{body}</{root}>" if root else body).encode()


def markdown(texts: list[str]) -> bytes:
    return "\n\n".join(
        f"## {first}\n\n{second.replace(', is', ',{}is')}".format("\n")
        for first, second in (text.split("\n") for text in texts)
    ).encode()


def wikitext(texts: list[str]) -> bytes:
    return "".join(
        f" \n = Title {n} = \n \n {first} \n = = Part = = \n {second} \n"
        for n, (first, second) in enumerate(text.splitlines() for text in texts)
    ).encode()


def extracted(texts: list[str]) -> bytes:
    return "".join(
        f'<doc id="{n}" url="x?curid={n}" title="A &amp; {n}">\nA &amp; {n}\n\n{text}\n\n</doc>\n'
        for n, text in enumerate(texts)
    ).encode()


def texts_between(separator: str) -> Callable[[list[str]], bytes]:
    return lambda texts: separator.join(texts).encode()


# Names of files, with the format of each and a function that writes texts of two lines in it.
WRITERS: dict[str, tuple[str, Callable[[list[str]], bytes]]] = {
    "plain.txt": ("text", texts_between("\n\n")),
    "bom.txt": ("text", lambda texts: b"\xef\xbb\xbf" + texts_between("\n \n")(texts)),
    "dos.txt": ("text", lambda texts: texts_between("\n\n\n")(texts).replace(b"\n", b"\r\n")),
    "mac": ("text", lambda texts: texts_between("\n\n")(texts).replace(b"\n", b"\r")),
    "rows.csv": ("csv", partial(separated, delimiter=",")),
    "rows.tsv": ("tsv", partial(separated, delimiter="\t")),
    "page.html": ("html", page),
    "texts.xml": ("xml", elements),
    "reut2-000.sgm": ("xml", partial(elements, root="", more="<A>AT&T, x < y<P>open</A>")),
    "readme.md": ("markdown", markdown),
    "lines.jsonl": ("jsonl", json_lines),
    "lines.JSON": ("jsonl", json_lines),
    "wiki_00": ("jsonl", json_lines),
    "array.json": ("json", json_array),
    "pretty": ("json", partial(json_array, indent=2)),
    "objects.jsonl": ("json", json_objects),
    "AA_wiki_01": ("wikiextractor", extracted),
    "wiki.train.tokens": ("wikitext", wikitext),
    "table.parquet": ("parquet", parquet),
}
# Formats whose files (or chunks) are one document each.
ONE_DOCUMENT: set[str] = {"html", "markdown"}
EXAMPLES = {name: (kind, write(TEXTS)) for name, (kind, write) in WRITERS.items()}


COMPRESSIONS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def test_params_yaml_and_these_tests_know_every_format():
    assert {name for name, _ in EXAMPLES.values()} == set(FORMATS)
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    [comment] = re.findall(r"\n  format: \S+((?: *#.*\n)+)", params)
    assert [name for name in FORMATS if not re.search(rf"\b{name}\b", comment)] == []
    table = (ROOT / "docs/input.md").read_text(encoding="utf-8").partition("## Fields")[0]
    for name, each in FORMATS.items():
        [row] = re.findall(rf"^\|[^|\n]*`{name}`.*", table, re.MULTILINE)
        assert all(f"`{suffix}`" in row or "same suffixes" in row for suffix in each.suffixes)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("suffix", ["", *COMPRESSIONS])
def test_every_format_under_every_compression(tmp_path, name, suffix):
    kind, data = EXAMPLES[name]
    path = tmp_path / (name + suffix)
    path.write_bytes(COMPRESSIONS[suffix](data) if suffix else data)
    assert examine(path, "auto", "blank_line", Rejections("", False)).format == kind
    found, rejections, counts = read(path)
    one = [[line for lines in DOCUMENTS for line in lines]]
    assert found == (one if kind in ONE_DOCUMENT else DOCUMENTS)
    assert not rejections.counts
    expected = {"wikitext": 2 * len(TEXTS), "wikiextractor": len(TEXTS), "html": 1}.get(kind, 0)
    assert counts["headings_left_out"] == expected


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("size", [1, 97, 4096])
def test_chunks_of_any_size_hold_each_document_once(tmp_path, name, size):
    path = tmp_path / name
    kind, data = EXAMPLES[name]
    if FORMATS[kind].cut is None:
        path.write_bytes(data)
        assert cut_rule(examine(path, "auto", "line", Rejections("", True)), "line") is None
        return
    data = data[: 3000 if size == 1 else None]
    data = data[: data.rfind(b"\n") + 1]
    path.write_bytes(data)
    for document in ("line", "blank_line"):
        whole, _, _ = read(path, document, skip=True)
        chunks = []
        for start in range(0, len(data), size):
            chunks += read(path, document, skip=True, start=start, stop=start + size)[0]
        assert chunks == whole


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_file_of_any_format_can_be_one_document(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(EXAMPLES[name][1])
    assert read(path, "file")[0] == [[line for lines in DOCUMENTS for line in lines]]


def test_a_document_without_end_is_cut_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(documents_module, "MAX_DOCUMENT", 100)
    path = tmp_path / "x.txt"
    path.write_text("\n".join(f"line number {n:03d}" for n in range(50)))
    found, _, counts = read(path)
    assert [line for lines in found for line in lines] == path.read_text().splitlines()
    assert max(sum(map(len, lines)) for lines in found) <= 100
    assert counts["documents_cut"] == len(found) - 1 > 3


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.txt", "A wide text. It has no mark.".encode("utf-16-le"), "utf16_file"),
        ("x.txt", "A wide text. It has no mark.".encode("utf-32-be"), "utf16_file"),
        ("x.txt", b"\x7fELF\0\0\1", "binary_file"),
        ("x.doc", b"text\0\0text", "binary_file"),
        ("x.pdf", b"%PDF-1.4\n1 0 obj\n", "pdf_file"),
        ("x.docx", b"PK\x03\x04\x14\0\6\0", "office_file"),
        ("x.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "lfs_pointer"),
        ("x.warc", b"WARC/1.0\r\nWARC-Type: warcinfo\r\n", "web_archive"),
        ("x.rtf", b"{\\rtf1\\ansi Hello.}", "office_file"),
        ("data.arrow", b"\xff\xff\xff\xff\x90\2\0\0", "arrow_file"),
        ("x.xml", b"<mediawiki xmlns='http://x'>\n<siteinfo>", "mediawiki_dump"),
        ("dump", b'<mediawiki version="0.10">\n  <page>\n', "mediawiki_dump"),
        ("x.xml", b"<a><body>Some text.</body></a>", "text_field_missing"),
        ("x.txt", "caf\xe9 au lait".encode("latin-1"), "invalid_utf8"),
        ("x.txt", b"a" * 5000 + b"\0 NUL", "nul_byte"),
        ("x.txt.gz", b"no gzip", "corrupt_compression"),
        ("x.gz", gzip.compress(b"text " * 9, mtime=0)[:-9], "truncated_compression"),
        ("x.bz2", bz2.compress(b"text " * 999)[:-9], "truncated_compression"),
        ("x.xz", lzma.compress(b"text " * 999)[:-9], "truncated_compression"),
        ("x.gz", gzip.compress(b"text " * 99, mtime=0)[:-8] + b"checksum", "corrupt_compression"),
        ("x.zst", COMPRESSIONS[".zst"](os.urandom(9999))[:-99], "truncated_compression"),
        ("x.tar.gz", gzip.compress(b"name\0\0\0\0mode", mtime=0), "binary_file"),
        ("x.json", b'[{"text": "a"}, {"text": "b"]', "malformed_json"),
        ("x.json", b'[{"text": "a"}, {"text": "b"}', "malformed_json"),
        ("x.json", b'[{"text": "a"}, 7]', "not_an_object"),
        ("x.jsonl", b'{"text": "a"', "malformed_json"),
        ("x.jsonl", b"[" * 100_000 + b"\n", "malformed_json"),
        ("x.jsonl", b'{"text":' + b"[" * 100_000, "malformed_json"),
        ("x.jsonl", b'{"id": 3}', "text_field_missing"),
        ("x.jsonl", b'{"text": 3}', "text_not_a_string"),
        ("x.jsonl", b'"text"', "not_an_object"),
        ("x.jsonl", b'{"text": "\\ud800 half"}', "invalid_unicode"),
        ("x.jsonl", b'{"text": "\\u0000"}', "nul_byte"),
        ("x.csv", b"id,body\n1,a\n", "text_field_missing"),
        ("x.csv", b"id,text\n1,a,b\n", "malformed_csv"),
        ("x.csv", b"id,text\n1\n", "malformed_csv"),
        ("x.csv", b'id,text\n1,"open\n2,b\n', "malformed_csv"),
        ("x.parquet", b"PAR1 but no more", "corrupt_parquet"),
        ("x.parquet", b"", "corrupt_parquet"),
        ("x.parquet", parquet(["text"])[:-20], "corrupt_parquet"),
        ("x.parquet", parquet(["text"]).replace(b"text", b"body"), "text_field_missing"),
    ],
)
def test_bad_input_is_an_error_or_counted(tmp_path, name, data, reason):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError) as failure:
        read(path)
    message = str(failure.value)
    assert str(path) in message and REASONS[reason] in message and "bad_input: skip" in message
    assert "\n" not in message
    _, rejections, _ = read(path, skip=True)
    assert rejections.counts == {reason: 1}


def test_a_missing_text_field_is_an_error_that_names_the_fields(tmp_path):
    (tmp_path / "x.csv").write_text("id,body\n1,a\n")
    with pytest.raises(
        UserError, match=r"looked for `text` among: id, body.*preprocess\.text_field"
    ):
        read(tmp_path / "x.csv")
    assert read(tmp_path / "x.csv", field="body")[0] == [["a"]]


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet"])
def test_records_without_text_are_counted(tmp_path, name):
    texts = ["one", "", None, "  ", "two"]
    if name == "x.jsonl":
        data = json_lines(texts)
    elif name == "x.csv":
        data = separated([text or "" for text in texts], ",")
    else:
        data = parquet(texts)
    (tmp_path / name).write_bytes(data)
    found, rejections, counts = read(tmp_path / name)
    assert found == [["one"], ["two"]]
    assert not rejections.counts and counts["records_without_text"] == 3


def test_quotes_that_enclose_nothing_stay_in_tsv(tmp_path):
    rows = [
        "text\tuser",
        '"Nice" he said\ta',
        '"open\tb',
        '"a ""b"""\tc',
        "plain\td",
        "too\tmany\te",
    ]
    (tmp_path / "x.tsv").write_text("\n".join(rows) + "\n")
    found, rejections, _ = read(tmp_path / "x.tsv", skip=True)
    assert found == [['"Nice" he said'], ['"open'], ['a "b"'], ["plain"]]
    assert rejections.counts == {"malformed_csv": 1}


def test_tweets_that_look_like_a_heading_are_not_articles(tmp_path):
    (tmp_path / "x.txt").write_text(" = winning = \nnot an article\n")
    assert read(tmp_path / "x.txt", "line")[0] == [["= winning ="], ["not an article"]]


def test_the_line_of_bad_input_is_named_in_any_chunk(tmp_path):
    lines = [b"good line %d" % number for number in range(5000)]
    lines[3210] = b"caf\xe9"
    path = tmp_path / "x.txt"
    path.write_bytes(b"\n".join(lines))
    size = path.stat().st_size
    with pytest.raises(UserError, match=r"x\.txt line 3211 \(.*\): not UTF-8"):
        read(path, "line")
    with pytest.raises(BadInputError) as failure:
        read(path, "line", start=size // 2, stop=size)
    chunk = between_cuts(examine(path, "auto", "line", Rejections("", True)), size // 2, size, bool)
    lines_before = path.read_bytes()[: chunk.start].count(b"\n")
    assert after_lines(failure.value.fault.position, lines_before).startswith("line 3211 (")
    assert after_lines("row 7", lines_before) == "row 7"


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_text_before_the_damage_is_kept(tmp_path, suffix):
    draw = random.Random(1)
    lines = [f"{n} {draw.random()}" for n in range(50_000)]
    data = COMPRESSIONS[suffix]("\n".join(lines).encode())
    path = tmp_path / f"x.txt{suffix}"
    path.write_bytes(data[: len(data) * 3 // 4])
    found, rejections, _ = read(path, "line", skip=True)
    assert rejections.counts == {"truncated_compression": 1}
    # A decompressor may hold back its last block.
    assert len(found) > 0.3 * len(lines)
    assert [line for (line,) in found] == lines[: len(found)]


def test_a_huge_line_is_rejected_in_bounded_memory(tmp_path):
    path = tmp_path / "x.txt"
    with path.open("wb") as stream:
        stream.write(b"before\n")
        for _ in range(40):
            stream.write(b"x" * (1 << 20))
        stream.write(b"\nafter\n")
    import tracemalloc

    tracemalloc.start()
    found, rejections, _ = read(path, "line", skip=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [["before"], ["after"]]
    assert rejections.counts == {"line_too_long": 1}
    assert peak < 30 << 20
    with pytest.raises(UserError, match=r"line 2: longer than 4 MiB"):
        read(path, "line")


garbage = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b""))


good = st.integers(0, 10**9).map(lambda number: f"good document {number}")


@given(st.lists(st.one_of(garbage, good), max_size=30), st.sampled_from(["txt", "jsonl", "csv"]))
def test_no_good_document_is_lost_among_bad_ones(tmp_path_factory, lines, suffix):
    expected = [line for line in lines if isinstance(line, str)]
    encode = {
        "txt": lambda text: text.encode(),
        "jsonl": lambda text: json.dumps({"text": text}).encode(),
        "csv": lambda text: f"1,{text}".encode(),
    }[suffix]
    # A first line that shows what it is; NUL bytes there would make it a binary file, and two
    # quotes in the garbage of a table may rightly enclose what is between them.
    first = {"txt": b"start", "jsonl": b'{"text": "start"}', "csv": b"id,text"}[suffix]
    data = [first + b" " * 5000 if suffix == "txt" else first]
    for line in lines:
        if isinstance(line, bytes):
            line = line.replace(b"\0", b"\xff")
            line = line.replace(b'"', b"'") if suffix == "csv" else line
            data.append(line)
        else:
            data.append(encode(line))
    path = tmp_path_factory.mktemp("fuzz") / f"x.{suffix}"
    path.write_bytes(b"\n".join(data))
    found, _, _ = read(path, "line", skip=True)
    kept = iter([lines[0] for lines in found])
    assert all(any(line == text for text in kept) for line in expected)


def damaged(draw: random.Random) -> tuple[str, bytes]:
    """A file of some format and compression, damaged at random."""
    name = draw.choice(sorted(EXAMPLES))
    texts = [f"Text {n}.\nLine “{draw.random()}”." for n in range(draw.randrange(6))]
    data = bytearray(WRITERS[name][1](texts))
    suffix = draw.choice(["", "", *COMPRESSIONS])
    compressed_first = draw.random() < 0.5
    if suffix and compressed_first:
        data = bytearray(COMPRESSIONS[suffix](bytes(data)))
    for _ in range(draw.randrange(1, 5)):
        position = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0:
                del data[position:]
            case 1:
                data[position:position] = draw.randbytes(draw.randrange(1, 30))
            case 2:
                token = draw.choice(
                    [b'"', b"\0", b"\n", b"\r", b",", b"{", b"\xff", b"<doc ", b" = "]
                )
                data[position:position] = token * draw.choice([1, 3, 2000])
            case 3:
                del data[position : position + draw.randrange(1, 20)]
            case _ if position < len(data):
                data[position] ^= 1 << draw.randrange(8)
    if suffix and not compressed_first:
        data = bytearray(COMPRESSIONS[suffix](bytes(data)))
    return name + suffix, bytes(data)


def survive(folder: Path, seeds: range) -> None:
    """Damaged files end in documents and counts, or in one line that names the file."""
    for seed in seeds:
        draw = random.Random(seed)
        name, data = damaged(draw)
        path = folder / name
        path.write_bytes(data)
        document = draw.choice(["blank_line", "line", "file", "3 sentences"])
        found, rejections, _ = read(path, document, skip=True)
        for lines in found:
            assert lines and all(lines), (seed, lines)
            "".join(lines).encode()
        assert set(rejections.counts) <= set(REASONS)
        if rejections.counts:
            with pytest.raises(UserError, match=r"^[^\n]*$") as failure:
                read(path, document)
            assert str(path) in str(failure.value)
        else:
            assert read(path, document)[0] == found
        path.unlink()


def test_damaged_files(tmp_path):
    survive(tmp_path, range(400))


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    survive(tmp_path, range(400, 10_400))
