"""Switches that destroy a script are reported with figures, and harmless ones are not."""

import unicodedata

import pytest

from lib.vocab.characters import BasicTokenizer
from lib.vocab.script_changes import (
    meaningful_zero_width,
    normalization_notes,
    unspaced_note,
    zero_width_note,
)
from lib.vocab.settings import ZERO_WIDTH
from lib.vocab.words import WordCounts, count_words

THAI = "ฉันไปโรงเรียนทุกวันและอ่านหนังสือที่ห้องสมุดใหญ่ของมหาวิทยาลัยในกรุงเทพมหานคร"
ENGLISH = "The inn in the street was closed, and so we went home to cook. " * 3 + "Café. "


@pytest.fixture
def counted(tmp_path):
    def count(text: str, lowercase: bool = False, strip_accents: bool = False) -> WordCounts:
        path = tmp_path / "train.txt"
        path.write_text(f"{text}\n" * 20, encoding="utf-8")
        return count_words(path, BasicTokenizer(lowercase, strip_accents), None, 1)

    return count


@pytest.mark.parametrize(
    ("text", "script", "example"),
    [
        ("लड़का स्कूल जाता है", "Devanagari", "without ◌"),
        ("বাংলা ভাষায় কথা বলি", "Bengali", "without ◌"),
        (THAI, "Thai", "without ◌"),
        ("나는 학교에 갑니다", "Hangul", "갑 to ᄀ ᅡ ᆸ"),
        ("少年がパンをたべた。ガム", "Kana", "が to か"),
        ("أكل الولد إلى", "Arabic", "أ to ا"),
        ("Мальчик идёт в школу, мой йод", "Cyrillic", "й to и"),
        ("Tôi là sinh viên ở trường", "Latin", "ô to o"),
        ("Şu çığ büyük, gül şimdi", "Latin", "ü to u"),
    ],
)
def test_accents_that_are_letters_are_reported(counted, text, script, example):
    counts = counted(text)
    (note,) = normalization_notes(counts, False, True)
    assert f"of the {script} text" in note and example in note
    assert note.endswith("set vocab.strip_accents: false")
    # Against the definition: characters whose decomposition without marks is another text.
    changed = sum(
        "".join(
            each
            for each in unicodedata.normalize("NFD", letter)
            if unicodedata.category(each) != "Mn"
        )
        != letter
        for letter in text
    )
    assert f" {20 * changed:,} characters" in note
    assert list(normalization_notes(counts, True, False)) == []


@pytest.mark.parametrize(
    "text", [ENGLISH * 2, "ذهبَ الولدُ", "שָׁלוֹם עולם", "中文没有重音。", "I ❤️ ☎︎ it " + ENGLISH]
)
def test_accents_of_other_text_are_not(counted, text):
    assert list(normalization_notes(counted(text), True, True)) == []


def test_lower_casing_of_turkish_is_reported(counted):
    turkish = counted("Irmak kıyısında İzmir yolu. Kız ılık su içti.")
    (note,) = normalization_notes(turkish, True, False)
    assert "120 ı and 20 İ" in note and note.endswith("set vocab.lowercase: false")
    assert list(normalization_notes(turkish, False, False)) == []
    # Python's lower(), which knows no language, leaves a trace.
    (note,) = normalization_notes(counted("İzmir yolu. Kız ılık".lower()), False, False)
    assert note.endswith("set preprocess.clean.lowercase: false")
    english = counted(ENGLISH * 20 + " Kızılay and İzmir")
    assert list(normalization_notes(english, True, False)) == []


def test_zero_width_characters_between_words_are_reported(counted):
    counts = counted("می\u200cخواهم به خانه\u200cها ទៅ\u200bផ្ទះ")
    assert meaningful_zero_width(counts) == ZERO_WIDTH
    note = zero_width_note(counts, ())
    assert "40 non-joiners and 20 zero-width spaces" in note and "format_characters: space" in note
    assert "sequences hold more words" in zero_width_note(counts, ZERO_WIDTH)
    assert zero_width_note(counted("می\u200cخواهم"), ZERO_WIDTH) is None
    # One in 12,000 characters is noise.
    noise = counted(f"{ENGLISH * 60}\u200b")
    assert meaningful_zero_width(noise) == () and zero_width_note(noise, ()) is None


def test_scripts_without_spaces_are_reported_unless_segmented(counted):
    note = unspaced_note(counted(THAI * 2), 1.0)
    assert note.startswith("Thai is written without spaces") and "100.0% of the char" in note
    assert "have 40 characters" in unspaced_note(counted(f"{THAI[:40]} {THAI[:40]}"), 0.0)
    assert unspaced_note(counted("ฉัน ไป โรงเรียน ทุก วัน"), 0.0) is None
    assert unspaced_note(counted(ENGLISH), 0.001) is None
    assert "URLs" in unspaced_note(counted(f"{ENGLISH} {'x' * 120}"), 0.5)
    assert "25.0% of the characters" in unspaced_note(counted(ENGLISH), 0.25)


def test_characters_are_counted_before_normalization(counted):
    text = "Çay, café! ÇAY 中文 a\u200cb"
    counts = counted(text, True, True)
    expected = {letter: 20 * text.count(letter) for letter in text if not letter.isascii()}
    assert counts.raw_characters == expected
