"""Compressed files of one stream or several: whole ones are read, damage is never silent."""

import bz2
import gzip
import lzma
import os
import random
import struct
from collections import Counter
from pathlib import Path

import pyarrow
import pytest

from lib.text.reading.compression import DAMAGED, CompressedStream, open_raw
from lib.text.reading.formats import read_documents
from lib.text.reading.raw_files import examine
from lib.text.reading.reader import Chunk, ReadOptions
from lib.text.reading.rejections import Rejections

COMPRESSIONS = {
    "gzip": (".gz", lambda data: gzip.compress(data, mtime=0)),
    "bzip2": (".bz2", bz2.compress),
    "xz": (".xz", lzma.compress),
    "zstandard": (".zst", lambda data: pyarrow.compress(data, codec="zstd", asbytes=True)),
}
LINES = [f"line {number} {random.Random(number).random()}" for number in range(3000)]
SKIPPED = struct.pack("<II", 0x184D2A53, 7) + b"skipped"


def streams(name: str, count: int = 6) -> list[bytes]:
    """LINES in several compressed streams."""
    compress = COMPRESSIONS[name][1]
    size = len(LINES) // count
    return [
        compress("".join(f"{line}\n" for line in LINES[start : start + size]).encode())
        for start in range(0, len(LINES), size)
    ]


def read(path: Path) -> tuple[list[str], Rejections]:
    rejections = Rejections(str(path), True)
    found = []
    if file := examine(path, "auto", "line", rejections):
        for batch in read_documents(Chunk(file), ReadOptions("line"), rejections, Counter()):
            found += [line for (line,) in batch]
    return found, rejections


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_several_streams_are_one_text(tmp_path, name):
    path = tmp_path / f"x.txt{COMPRESSIONS[name][0]}"
    for padding in (b"", b"\0" * 8) if name != "zstandard" else (b"", SKIPPED):
        path.write_bytes(padding.join(streams(name)) + padding)
        found, rejections = read(path)
        assert found == LINES and not rejections.counts
    if name == "zstandard":  # As pzstd writes it.
        path.write_bytes(SKIPPED + b"".join(streams(name)))
        assert read(path)[0] == LINES


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_reads_of_any_size_give_the_same_bytes(tmp_path, name):
    path = tmp_path / "x"
    path.write_bytes(b"".join(streams(name)))
    text = "".join(f"{line}\n" for line in LINES).encode()
    for size in (1000, 1 << 20):
        with open_raw(path, name) as stream:
            parts = list(iter(lambda size=size, stream=stream: stream.read1(size), b""))
        assert b"".join(parts) == text and max(map(len, parts)) <= size
    with open_raw(path, name) as stream:
        assert stream.read(10) + stream.read() == text


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_damage_after_the_first_stream_is_noticed_and_what_it_cost_estimated(tmp_path, name):
    path = tmp_path / f"x.txt{COMPRESSIONS[name][0]}"
    parts = streams(name)
    text = sum(map(len, LINES)) + len(LINES)
    for damaged in range(1, 6):
        broken = bytearray(parts[damaged])
        broken[:4] = b"oops"
        path.write_bytes(b"".join([*parts[:damaged], broken, *parts[damaged + 1 :]]))
        found, rejections = read(path)
        assert rejections.counts == {"corrupt_compression": 1}
        assert found == LINES[: len(found)]
        lost = text - sum(map(len, found)) - len(found)
        known = rejections.bytes["corrupt_compression"]
        if name == "zstandard":  # Its library reads ahead, 64 KiB at a time.
            assert 0 < known < 1.5 * lost
        else:
            assert len(found) >= len(LINES) * (damaged - 1) // 6
            assert 0.6 * lost < known < 1.5 * lost
        expected = f"line {len(found) + 1}" if found else ""
        assert rejections.examples[0]["position"] == expected


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_file_that_is_cut_off_is_noticed_wherever_it_is_cut(tmp_path, name):
    path = tmp_path / f"x.txt{COMPRESSIONS[name][0]}"
    parts = streams(name, 3)
    ends = {0, len(parts[0]), len(parts[0] + parts[1]), len(b"".join(parts))}
    data = b"".join(parts)
    draw = random.Random(5)
    for cut in {*draw.sample(range(1, len(data)), 20), len(parts[0]) + 1, len(data) - 1} - ends:
        path.write_bytes(data[:cut])
        found, rejections = read(path)
        assert rejections.counts == {"truncated_compression": 1}, cut
        assert found == LINES[: len(found)]
    path.write_bytes(b"")
    assert read(path)[1].counts == {"truncated_compression": 1}
    path.write_bytes(data + b"more")
    assert read(path)[1].counts == {"corrupt_compression": 1}


# zstandard has checksums only where they were asked for, and so finds no flipped bit by itself.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_a_flipped_bit_is_noticed_or_harmless(tmp_path, name):
    path = tmp_path / f"x.txt{COMPRESSIONS[name][0]}"
    data = b"".join(streams(name, 3))
    noticed = 0
    for seed in range(200):
        broken = bytearray(data)
        bit = random.Random(seed).randrange(8 * len(data))
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        found, rejections = read(path)
        assert found == LINES or rejections.counts, (seed, bit)
        noticed += bool(rejections.counts)
    assert noticed > 180


def test_a_zstandard_file_with_a_long_window_is_not_called_damaged(tmp_path):
    # A frame (RFC 8878): magic, descriptor, window of 1 GiB, and one raw block, which is the last.
    text = b"a line of text\n" * 9
    frame = b"\x28\xb5\x2f\xfd\0\xa0" + (len(text) << 3 | 1).to_bytes(3, "little") + text
    path = tmp_path / "x.txt.zst"
    path.write_bytes(frame)
    assert read(path)[1].counts == {"zstandard_window": 1}
    path.write_bytes(frame.replace(b"\xa0", b"\x88", 1))  # 128 MiB
    assert read(path)[0] == ["a line of text"] * 9


def test_an_error_of_the_disk_is_not_taken_for_damage(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(os.urandom(100_000)))
    with path.open("rb") as plain:
        stream = CompressedStream(plain, "gzip")
        stream.read1(10)
        os.close(plain.fileno())
        with pytest.raises(DAMAGED) as failure:
            stream.read()
        assert failure.value.errno is not None
        os.open("/dev/null", os.O_RDONLY)  # For `plain` to close.
