"""Rejections: what is lost, its limit, samples, one error for many files."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from lib.run.errors import UserError
from lib.text.reading.rejected_files import RejectedFiles, percentage
from lib.text.reading.rejections import BadInputError, Fault, Rejections


@pytest.fixture
def files(tmp_path: Path) -> RejectedFiles:
    return RejectedFiles(tmp_path / "rejected.csv")


def test_the_limit_is_a_fraction_of_the_text_not_a_number_of_rejections(files, tmp_path):
    files.check_limit(0, 0)
    rejections = Rejections("x.txt", True)
    for _ in range(100):
        rejections.add("nul_byte", excerpt="\0")
    files.add("x.txt", rejections)
    files.check_limit(9900, 0.01)
    with pytest.raises(UserError, match=r"1 % of the text is bad input.*limit \(0\.9 %\)"):
        files.check_limit(9900, 0.009)
    # One rejected file of the size of half the text is half the text.
    one = Rejections("x.txt", True)
    one.add_file("utf16_file", 5000)
    assert one.whole_file and one.fraction(5000) == 0.5
    alone = RejectedFiles(tmp_path / "alone.csv")
    alone.add("x.txt", one)
    with pytest.raises(UserError, match=r"50 % of the text.*1 utf16_file.*; in x\.txt \(whole\)"):
        alone.check_limit(5000, 0.4)


def test_decoded_text_counts_in_characters_and_the_rest_in_bytes():
    rejections = Rejections("x.txt", True)
    rejections.add("malformed_json", "line 1", "ğüş")
    rejections.add("invalid_utf8", "line 2", "ğüş".encode("iso8859-9"))
    rejections.add("line_too_long", "line 3", "the beginning", 10**7)
    assert rejections.characters == {"malformed_json": 3, "line_too_long": 10**7}
    assert rejections.bytes == {"invalid_utf8": 3}
    assert rejections.amount() == 10**7 + 6


@pytest.mark.parametrize(
    ("excerpt", "shown"),
    [
        (b"caf\xe9 au lait", "caf\\xe9 au lait"),
        (b"x" * 900 + b"\xff end", "…" + "x" * 40 + "\\xff end"),
        ("a\tb\0c\u2028", "a\\tb\\x00c\\u2028"),
        ("x" * 900 + "\0", "…" + "x" * 40 + "\\x00"),
        ("\ud800 half", "\\ud800 half"),
        ("süß", "süß"),
        ("y" * 900, "y" * 120),
    ],
)
def test_a_sample_shows_the_bad_byte_escaped(excerpt, shown):
    rejections = Rejections("x.txt", True)
    rejections.add("invalid_utf8", "line 7", excerpt)
    assert rejections.examples == [{"reason": "invalid_utf8", "position": "line 7", "text": shown}]


def test_one_error_lists_the_faults_of_all_files(files, tmp_path):
    faults = [Fault(f"{n}.txt", "line 3", "invalid_utf8") for n in range(12)]
    faults.append(Fault("b.json", "", "malformed_json"))
    for fault in faults:
        files.add_fault(fault)
        files.add_fault(replace(fault, position="later"))
    with pytest.raises(UserError) as failure:
        files.refuse_faults()
    message = str(failure.value)
    start = f"13 files have bad input, all in {tmp_path / 'rejected.csv'}: 0.txt line 3, 1.txt"
    assert message.startswith(start)
    listing = (tmp_path / "rejected.csv").read_text().splitlines()
    assert len(listing) == 14 and listing[1] == "0.txt line 3,invalid_utf8,1,,"
    assert "4.txt line 3 and 7 more: not UTF-8" in message and "| b.json: not JSON" in message
    assert message.count("bad_input: skip") == 1 and "\n" not in message
    one = RejectedFiles(tmp_path / "one.csv")
    one.add_fault(faults[0], 4)
    with pytest.raises(BadInputError, match=r"^0\.txt line 7: not UTF-8; set preprocess\.encoding"):
        one.refuse_faults()
    assert pickle.loads(pickle.dumps(BadInputError(faults[0]))).fault == faults[0]


def test_every_rejected_file_is_listed_and_the_largest_losses_are_named(files, tmp_path):
    for number in range(8):
        lost = Rejections("", True)
        if number == 3:
            lost.add_file("binary_file", 700)
        else:
            lost.add("nul_byte", excerpt="\0" * (number + 1))
        files.add(f"{number}.txt", lost)
    again = Rejections("", True)
    again.add("nul_byte", excerpt="\0")
    files.add("7.txt", again)
    files.add("good.txt", Rejections("", True))
    summary = files.summary(10_000)
    assert summary.startswith(
        "rejected 6.8 % of the text, in 8 files: 3.txt (whole), 7.txt (2 places), 6.txt (1 place)"
    )
    assert summary.endswith(f"and 3 more; see {tmp_path / 'rejected.csv'}")
    files.check_limit(10_000, 1)
    lines = (tmp_path / "rejected.csv").read_text().splitlines()
    assert len(lines) == 9
    assert lines[4] == "3.txt,binary_file,1,0,700" and lines[8] == "7.txt,nul_byte,2,9,0"


def test_a_loss_is_never_shown_as_none():
    assert [percentage(x) for x in (0, 1e-9, 0.000123, 0.0312, 0.31, 1)] == [
        "0 %",
        "below 0.0001 %",
        "0.012 %",
        "3.1 %",
        "31 %",
        "100 %",
    ]
