"""Markup: what is recognised as such and what is not, and the text of it."""

import csv
import html
import json
import re

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.text.cleaning.chunks import ChunkOptions, ChunkTask, clean_chunk, read_facts
from lib.text.cleaning.edits import Cleaning
from lib.text.reading import reader as reader_module
from lib.text.reading.formats import format_of
from lib.text.reading.raw_files import examine
from lib.text.reading.reader import ReadOptions
from lib.text.reading.rejections import Rejections
from tests.helpers.raw_text import read

PAGE = """<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html lang=en><head><title>Pears</title><style>p { color: red }</style>
<script>if (a < b) document.write("<p>script</p>");</script></head>
<body class="x"><h1>About pears</h1>
<!-- a comment with <p>tags</p> -->
<p>Pears ripen
   late &amp; keep <b>w</b>ell.<br>Cider&nbsp;is made of&#146;them&mdash;often.
<p>An unclosed paragraph<ul><li>one<li>two</ul>
<table><tr><td>cell 1</td><td>cell 2</table>
<div>1 < 2 and AT&T <unk> stay.</div><pre>kept
  line ends</pre><textarea>typed</textarea>
<svg><text>drawn</text></svg><noscript>no</noscript>
</body></html>"""
LINES = [
    *("About pears", "Pears ripen late & keep well.", "Cider\xa0is made of’them—often."),
    *("An unclosed paragraph", "one", "two", "cell 1", "cell 2", "1 < 2 and AT&T stay."),
    *("kept", "line ends", "typed"),
]


@pytest.mark.parametrize("size", [1, 50, 1 << 18])
def test_the_text_of_a_page(tmp_path, monkeypatch, size):
    path = tmp_path / "x"
    path.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", size)
    found, rejections, counts = read(path)
    assert found == [LINES] and not rejections.counts
    dropped = sum(counts[key] for key in counts if key.startswith("characters_dropped"))
    assert counts["characters_read"] == len(PAGE.replace("\n", ""))
    # In the <pre>, spaces at the beginning of a line are not markup (`read` strips them).
    assert counts["characters_read"] - dropped == sum(map(len, LINES)) + 2


@pytest.mark.parametrize("document", ["blank_line", "line", "file"])
def test_markup_is_recognised_by_content(document):
    for text, kind in {
        PAGE: "html",
        "\ufeff \n<!-- saved --><HTML>\n<HEAD><TITLE>x": "html",
        '<?xml version="1.0"?>\n<!DOCTYPE html>\n<html xmlns="x"><head>': "html",
        '<?xml version="1.0" encoding="UTF-8"?>\n<TEI><text>a</text></TEI>': "xml",
        '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n<REUTERS><TEXT>a</TEXT></REUTERS>': "xml",
        "<mediawiki xmlns='http://www.mediawiki.org/xml/export-0.10/'>\n  <siteinfo>": "xml",
    }.items():
        assert format_of("file", text.encode(), document) == kind
    for text, kind in {
        "<div class='a'><p>One.</p><p>Two.</p></div>": "html",
        "<p>One paragraph.</p>\n\n<p>Another <i>one</i>.</p>\n": "html",
        "<DOC>\n<DOCNO> AP-1 </DOCNO>\n<TEXT>\nThe text.\n</TEXT>\n</DOC>\n" * 3: "xml",
        "# Title\n\nSee [this](https://x.org).\n\n## Part\n\n```\ncode\n```\n": "markdown",
    }.items():
        # Where each line is a document, a file is not one page.
        expected = "text" if document == "line" else kind
        assert format_of("file", text.encode(), document) == expected


PROSE = [
    "<p> is the tag of a paragraph, and </p> ends it. A page begins with <html>.",
    "<html> is the root element. It contains <head> and <body>, in this order.",
    "<!DOCTYPE html> declares the type of a document. It comes first.",
    "<?php echo '<p>Hello</p>'; ?>",
    "<unk> said that the <unk> was late . <unk> agreed .",
    "<3 this song so much. I <3 it.",
    "<b>Breaking:</b> the bridge is open again. " + "More about it follows below. " * 9,
    "HTML is made of tags: <p>text</p>, <div><b>bold</b></div>.\n" * 20,
    "if (a<b && c>d) { return x; }\nfor (auto& y : z) { f<int>(y); }\n",
    "#include <stdio.h>\n\nint main() { return 0; }\n",
    "# Copyright 2020\n# See [the licence](https://x.org)\n\n## Part\nimport os\n",
    "# a comment\n\nx = 1  # and code\n\ny = {}\n",
    "Use `<br />` to end a line. <br /> is written like that in XHTML.",
    "[1] A note in brackets.\n{not: json}\n",
    "- a list\n- in a text\n\n* * *\n\nThe end.\n",
]


@pytest.mark.parametrize("text", PROSE)
@pytest.mark.parametrize("document", ["blank_line", "line"])
def test_prose_and_programs_are_not_markup(text, document):
    assert format_of("file.txt", text.encode(), document) == "text"


words = st.text("abc é<>&;\"'", min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=40)
@given(st.lists(st.lists(words, min_size=1, max_size=3), min_size=1, max_size=5))
def test_escaped_text_comes_back_from_html_and_xml(tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("markup")
    texts = [[" ".join(text.split(" ")).strip() for text in lines] for lines in documents]
    collapsed = [[re.sub(" +", " ", text) for text in lines] for lines in texts]
    escaped = ["".join(f"<p>{html.escape(t)}</p>" for t in lines) for lines in texts]
    (folder / "x.html").write_text("<html><body>" + "".join(escaped), encoding="utf-8")
    assert read(folder / "x.html")[0] == [[t for lines in collapsed for t in lines]]
    body = "".join(f"<d><meta>m</meta><text>{each}</text></d>" for each in escaped)
    (folder / "x.xml").write_text(f"<?xml version='1.0'?><all>{body}</all>", encoding="utf-8")
    assert read(folder / "x.xml")[0] == collapsed


REUTERS = """<!DOCTYPE lewis SYSTEM "lewis.dtd">
<REUTERS TOPICS="YES" NEWID="1">
<DATE>26-FEB-1987</DATE><TOPICS><D>cocoa</D></TOPICS>
<UNKNOWN>&#5;&#5;C T</UNKNOWN>
<TEXT>&#2;
<TITLE>COCOA &lt;REVIEW></TITLE>
<DATELINE>    SALVADOR, Feb 26 - </DATELINE><BODY>Showers
continued. AT&T rose, x < y &amp; so on.

    A second paragraph.
 Reuter
&#3;</BODY></TEXT>
</REUTERS>
<REUTERS><TEXT><TITLE>NEXT</TITLE><BODY>It is short.</BODY></TEXT></REUTERS>
"""


@pytest.mark.parametrize("size", [1, 13, 1 << 18])
def test_sgml_is_read_by_element(tmp_path, monkeypatch, size):
    path = tmp_path / "reut2-000.sgm"
    path.write_text(REUTERS)
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", size)
    first = ["Showers continued. AT&T rose, x < y & so on.", "A second paragraph. Reuter \x03"]
    assert read(path, field="BODY")[0] == [first, ["It is short."]]
    assert read(path, field="text.body")[0] == [first, ["It is short."]]
    both = [["COCOA <REVIEW>", *first], ["NEXT", "It is short."]]
    assert read(path, field=["TITLE", "BODY"])[0] == both
    with pytest.raises(UserError, match=r"element `abstract` among those with text: body, ") as e:
        read(path, field="abstract")
    assert "preprocess.text_field" in str(e.value)


def test_elements_within_a_line_stay_in_it_and_others_end_it(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text(
        "<?xml version='1.0'?><a><text><s>One <w>w</w>ord.</s><s>Two.</s>"
        "<x>mixed <hi>in</hi>line<lb/>next</x><link>https://x.org</link>"
        "<x><![CDATA[1 < 2 & <b>raw</b>]]></x></text><text/><text>  </text></a>"
    )
    found, _, counts = read(path)
    lines = ["One word.", "Two.", "mixed inline", "next", "https://x.org", "1 < 2 & <b>raw</b>"]
    assert found == [lines] and counts["records_without_text"] == 2


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ("<html><head><meta charset='windows-1254'></head><body>", "cp1254"),
        (
            "<html><head><meta http-equiv=Content-Type content='text/html; charset=ISO-8859-9'>"
            "</head><body>",
            "cp1254",
        ),
        ("<?xml version='1.0' encoding='ISO-8859-9'?><text>", "cp1254"),
    ],
)
def test_the_declared_encoding_of_markup_is_used_unless_it_is_utf8(tmp_path, declaration, encoding):
    path = tmp_path / "x"
    text = "Çok güzel bir gündü, değil mi?"
    path.write_bytes((declaration + text).encode("cp1254"))
    assert examine(path, "auto", "line", Rejections("", True)).encoding == encoding
    assert read(path)[0] == [[text]]
    path.write_text(declaration + text, encoding="utf-8")
    assert read(path)[0] == [[text]]


def test_the_text_of_markdown(tmp_path):
    path = tmp_path / "x.md"
    path.write_text(
        "---\ntitle: no text\n---\n\n# A *title*\n\nSee [this page](http://x.org/a_b 't'),\nthen "
        "![a pear](p.png). Two\\\nlines &amp; `co<de>`.\n\n- one\n- two <b>bold</b><br>three\n\n"
        "| a | b |\n|---|---|\n| c | d |\n\n```python\nx = 1\n\n# y\n```\n\n<div>Some <i>HTML</i>"
        "</div>\n\nSetext\n======\n\n[ref]: http://x.org\n\nA [link][ref] and ~~gone~~ **all**.\n"
    )
    expected = ["A title", "See this page, then a pear. Two", "lines & co<de>.", "one", "two bold"]
    expected += ["three", "a", "b", "c", "d", "x = 1", "# y", "Some HTML", "Setext"]
    expected += ["A link and gone all."]
    assert read(path)[0] == [expected]


def test_large_markdown_is_parsed_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.text.reading.markup._PIECE_CHARACTERS", 50)
    path = tmp_path / "x.md"
    parts = [
        f"Paragraph *{n}*\nwith `two` lines.\n\n```\ncode {n}\n\n- more\n```\n" for n in range(99)
    ]
    path.write_text("\n".join(parts))
    lines = [[f"Paragraph {n} with two lines.", f"code {n}", "- more"] for n in range(99)]
    assert read(path)[0] == [[line for three in lines for line in three]]


def test_entities_of_wikiextractor_are_unescaped(tmp_path):
    path = tmp_path / "wiki_00"
    path.write_text(
        '<doc id="1" url="u" title="R&amp;D">\nR&amp;D\n\n'
        "A &lt; B &amp; C &quot;d&quot;&#10;e.\n</doc>\n"
    )
    assert read(path)[0] == [['A < B & C "d" e.']]


@pytest.mark.parametrize("kind", ["html", "xml"])
def test_a_page_of_one_line_may_be_long_and_bad_bytes_are_rejected(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    texts = [f"Text {n} " + "word " * 999 for n in range(1050)]
    outer = ("<html><body>", "") if kind == "html" else ("<all><text>", "</text></all>")
    path.write_text("".join([outer[0], *(f"<p>{text}</p>" for text in texts), outer[1]]))
    assert path.stat().st_size > 5_000_000
    found, rejections, counts = read(path)
    assert [line for lines in found for line in lines] == [text.strip() for text in texts]
    assert not rejections.counts and (kind == "xml" or counts["documents_cut"] == 1)
    path.write_bytes(f"{outer[0]}<p>one</p>\n".encode() + b"<p>caf\xe9 t\0wo</p>")
    found, rejections, _ = read(path, skip=True)
    assert found == [["one", "caf two"]]
    assert rejections.counts == {"invalid_utf8": 1, "nul_byte": 1}
    with pytest.raises(UserError, match=r"line 2 \(in an unknown encoding\): not UTF-8"):
        read(path)
    text = "Çok güzel bir gün, öğleden sonra yağmur yağmış. Şaşırdık."
    path.write_bytes(f"{outer[0]}<p>{text}</p>".encode("cp1254"))
    with pytest.raises(UserError, match=r"line 1 \(looks like cp1254\): not UTF-8"):
        read(path)


def test_advice_for_a_mediawiki_dump(tmp_path):
    path = tmp_path / "xxwiki-pages-articles.xml"
    path.write_text('<mediawiki version="0.10" xml:lang="xx">\n<page><text>[[x]]</text></page>')
    with pytest.raises(UserError, match=r"WikiExtractor.*format wikiextractor"):
        read(path)


def test_characters_of_markup_are_kept_or_dropped(tmp_path):
    """Small files share a task and its counts."""
    files = []
    for number, (name, text) in enumerate(
        {
            "a.html": PAGE,
            "b.xml": "<x><text>One &amp; <b>two</b>.</text><meta>m</meta><text>NULL</text></x>",
            "c.md": "Some text\nin\nlines without any marks.\n",
            "d.txt": "Plain.\n   \nMore.\n",
            "e.html": "<html><body></body></html>",
            "f.json": '[{"text": "A", "n": 1}, {"text": ["B", "nan"]}]',
        }.items()
    ):
        (tmp_path / name).write_text(text * (1 + number % 2 * (name[0] not in "bf")))
        files.append(examine(tmp_path / name, "auto", "line", Rejections("", True)))
    assert [file.format for file in files] == ["html", "xml", "markdown", "text", "html", "json"]
    options = ChunkOptions(ReadOptions("line"), "split", False, Cleaning())
    folder = tmp_path / "cleaned"
    folder.mkdir()
    key = clean_chunk(ChunkTask(tuple(files), folder, options)).key
    counts = read_facts(folder, key).counts
    dropped = [counts[name] for name in counts if name.startswith("characters_dropped_")]
    empty = counts["characters_dropped_documents_empty"]
    assert counts["characters_read"] == counts["characters_in"] + sum(dropped) - empty
    assert counts["characters_dropped_markup"] > 500 and counts["documents_in"] == 9


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet"])
def test_fields_may_hold_pages(tmp_path, name):
    texts = [PAGE, "\n" + PAGE.lower(), "<p>Not a page.</p>", "<html> is the root.", "\n <b> text"]
    texts.append("<!-- a --> " * 10_000 + "no page")  # in linear time
    path = tmp_path / name
    if name == "x.jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    elif name == "x.csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([["text"], *([text] for text in texts)])
    else:
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    found, _, counts = read(path)
    expected = [LINES, [line.lower() for line in LINES], *([text.strip()] for text in texts[2:])]
    assert found == expected and counts["records_of_html"] == 2
    dropped = sum(counts[key] for key in counts if key.startswith("characters_dropped"))
    assert (
        counts["characters_read"] - dropped
        == sum(len(line) for lines in expected for line in lines) + 2 * 2 + 1
    )
