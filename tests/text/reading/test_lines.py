"""Lines of a file in blocks: long ones rejected, all others kept, and where a file may be cut."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.text.reading import formats as formats_module
from lib.text.reading import lines as lines_module
from lib.text.reading.formats import borders
from lib.text.reading.lines import decode_lines, line_blocks
from lib.text.reading.reader import RawFile
from lib.text.reading.rejections import Rejections

MAX = 50


def read(data: bytes, size: int | None = None, block: int = 16) -> tuple[list[str], Rejections]:
    rejections = Rejections("x", True)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "BLOCK_BYTES", block)
        patch.setattr(lines_module, "MAX_LINE_BYTES", MAX)
        stream = io.BufferedReader(io.BytesIO(data), 8)
        for _, some in line_blocks(stream, size, rejections, str):
            found += decode_lines(some, rejections, str)
    return found, rejections


lengths = st.one_of(st.integers(0, 10), st.integers(MAX - 2, MAX + 3), st.integers(0, 300))


@given(st.lists(lengths, max_size=12), st.integers(1, MAX), st.sampled_from(["\n", "\r\n", "\r"]))
def test_only_long_lines_are_lost_whatever_is_around_them(sizes, block, end):
    lines = [chr(ord("a") + number) * size for number, size in enumerate(sizes)]
    data = "".join(line + end for line in lines).encode()
    found, rejections = read(data, block=block)
    # A CR may count towards the length of a line.
    certain = {line for line in lines if len(line) + (end != "\n") <= MAX and line}
    possible = [line for line in lines if len(line) <= MAX]
    assert found == [line for line in possible if line in found or not line]
    assert certain <= set(found)
    lost = sum(map(len, lines)) - sum(map(len, found))
    assert 0 <= rejections.characters.total() - lost <= (end != "\n") * rejections.counts.total()
    assert (lost == 0) == (not rejections.counts)


@given(st.lists(lengths, max_size=12), st.integers(0, 600))
def test_a_byte_range_is_read_to_its_end_and_no_further(sizes, stop):
    data = "".join("é" * size + "\n" for size in sizes).encode()
    stop = data.rfind(b"\n", 0, stop) + 1
    found, rejections = read(data, size=stop)
    expected = data[:stop].decode().split("\n")[:-1]
    assert found == [line for line in expected if 2 * len(line) <= MAX]
    assert rejections.characters.total() == sum(len(line) for line in expected if line not in found)
    assert not rejections.bytes


def test_a_bad_line_costs_itself_only_with_every_line_end():
    for end in (b"\n", b"\r\n", b"\r"):
        data = end.join([b"one", b"tw\xe9", b"three", b"fo\0ur", b"", b"five"]) + end
        found, rejections = read(data, block=1 << 10)
        assert found == ["one", "three", "", "five"]
        assert rejections.bytes == {"invalid_utf8": 3}
        assert rejections.characters == {"nul_byte": 5}


def test_a_file_without_blank_lines_is_cut_and_looked_through_once(tmp_path, monkeypatch):
    monkeypatch.setattr(formats_module, "MAX_DOCUMENT", 200)
    path = tmp_path / "x.txt"
    file = RawFile(path, "text", "none", 0)

    def cuts(text: str) -> list[tuple[int, bool]]:
        path.write_text(text)
        return borders(RawFile(path, "text", "none", len(text)), "blank_line", 1000)

    assert file.size == 0
    line = "nineteen characters\n"
    found = cuts(line * 500)
    assert [offset for offset, _ in found] == [0] + [1000 * n + 200 for n in range(1, 10)]
    assert [continues for _, continues in found] == [False] + [True] * 9
    # A blank line within reach is where the file is cut.
    text = (line * 5 + "\n") * 100
    found = cuts(text)
    assert not any(continues for _, continues in found)
    assert all(text[offset - 1 : offset + 1] == "\n\n" for offset, _ in found[1:])
    # Formats with records are never cut within one: the search goes on, but not from each border.
    looked_at = []
    kind = formats_module.FORMATS["wikiextractor"]
    path.write_text(line * 500)
    monkeypatch.setitem(
        formats_module.FORMATS,
        "wikiextractor",
        formats_module.Format(kind.read, cut=lambda line, _: bool(looked_at.append(line))),
    )
    size = path.stat().st_size
    assert borders(RawFile(path, "wikiextractor", "none", size), "line", 1000) == [(0, False)]
    assert len(looked_at) < 500
