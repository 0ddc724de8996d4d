"""Remnants of other formats: what is counted, and when the stage says so."""

from collections import Counter

import pytest

from lib.text import notes
from lib.text.cleaning.edits import Cleaning
from lib.text.cleaning.remnants import count_remnants


@pytest.mark.parametrize(
    ("text", "entities", "tags", "lost"),
    [
        ("A &amp; B &nbsp; &#39; &#x27; &copy; &ccedil;a", 6, 0, 0),
        ("AT&T; &nosuch; ?a=1&copy=2 R&D & co;", 0, 0, 0),
        ("One.<br /><br>Two <b>x</b> <a href=\"u\" class='c' x=1>l</a> <IMG src=a/>", 0, 7, 0),
        ("a <3 <unk> <s1> x < b > y List<int> <T> <name> <query string>", 0, 0, 0),
        ("caf\ufffd na\ufffdve", 0, 0, 2),
    ],
)
def test_remnants_are_counted(text, entities, tags, lost):
    counts: Counter[str] = Counter()
    count_remnants(f"Plain.\n{text}\nPlain.", counts)
    assert counts["raw_html_entities"] == entities
    assert counts["raw_html_tags"] == tags
    assert counts["raw_replacement_characters"] == lost


def test_notes_say_figures_and_the_key_to_set():
    counts = Counter(
        characters_in=1_000_000,
        raw_html_entities=2777,
        raw_html_tags=1234,
        raw_replacement_characters=60,
        raw_c1_controls=551,
    )
    lines = list(notes.remnants(counts, Cleaning()))
    assert all(line.startswith("the text has ") for line in lines)
    assert "2,777" in lines[0] and "preprocess.clean.unescape_html: true" in lines[0]
    assert "1,234" in lines[1] and "preprocess.clean.html_tags: remove" in lines[1]
    assert "60 characters U+FFFD" in lines[2]
    assert "551 control characters" in lines[3] and len(lines) == 4
    assert len(list(notes.remnants(counts, Cleaning(unescape_html=True, html_tags="remove")))) == 2


def test_text_about_html_gets_no_note():
    few = Counter(characters_in=10_000, raw_html_tags=19, raw_html_entities=10)
    rare = Counter(characters_in=10_000_000, raw_html_tags=400, raw_replacement_characters=400)
    for counts in (few, rare, Counter(characters_in=5)):
        assert not list(notes.remnants(counts, Cleaning()))
