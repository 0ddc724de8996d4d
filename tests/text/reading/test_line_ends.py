"""Hard-wrapped lines: found by their lengths and put together; all other lines stay."""

import json
import random
import re
import textwrap
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.text import notes
from lib.text.cleaning.chunks import ChunkOptions, ChunkTask, clean_chunk, read_facts
from lib.text.cleaning.edits import Cleaning
from lib.text.reading.formats import read_documents
from lib.text.reading.line_ends import count_wrapped, join_lines, join_wrapped
from lib.text.reading.raw_files import examine
from lib.text.reading.reader import Chunk, ReadOptions
from lib.text.reading.rejections import Rejections


def words(text):
    return text.split()


def lines_of(text):
    return text.split("\n")


WORDS = {
    "English": words(
        "the harbour was still dark and nobody had seen her since she left for Bergen with "
        "Mr. Olsen who counted ships again while his daughter waited in London every Thursday"
    ),
    "Turkish": words(
        "liman hâlâ karanlıktı ve kimse onu görmemişti çünkü İstanbul'a gitmiş olan Ahmet Bey "
        "gemileri yeniden sayarken kızı her perşembe günü evde bekliyordu"
    ),
    "Arabic": words("كان الميناء مظلما ولم يرها أحد منذ أن غادرت المدينة مع والدها الذي عد السفن"),
    "Hindi": words("बंदरगाह अभी भी अंधेरा था और किसी ने उसे नहीं देखा जब से वह शहर छोड़ कर गई थी"),
}


def paragraphs(vocabulary, number, seed, sentences=(2, 6)):
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        text = []
        for _ in range(draw.randint(*sentences)):
            sentence = [draw.choice(vocabulary) for _ in range(draw.randint(5, 18))]
            text.append(" ".join([sentence[0].capitalize(), *sentence[1:]]) + ".")
        found.append(" ".join(text))
    return found


def wrapped(texts, width, first="", others=""):
    lines = []
    for text in texts:
        lines += textwrap.wrap(
            text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
        )
        lines.append("")
    return lines


def balanced(lines):
    """What `join_wrapped` makes of lines, its numbers checked."""
    found = join_wrapped(lines)
    characters = sum(map(len, lines)) + found.added - found.removed
    assert sum(map(len, found.lines)) == characters
    assert len(found.lines) == len(lines) - found.joined
    return [line.strip() for line in found.lines if line.strip()]


def is_wrapped(*documents):
    return count_wrapped(documents, Counter()) > 0


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize(
    ("width", "first", "others"),
    [(72, "", ""), (60, "    ", ""), (65, "   ", "   "), (76, "> ", "> "), (100, "", "")],
)
def test_paragraphs_are_put_together(language, width, first, others):
    texts = paragraphs(WORDS[language], 12, seed=width)
    lines = wrapped(texts, width, first, others)
    assert [line.removeprefix("> ") for line in balanced(lines)] == texts
    assert is_wrapped([line for line in lines if line])


def test_chinese_is_joined_without_spaces():
    text = "港口还是黑的没有人见过她因为她已经离开了城市和她的父亲一起去数船，" * 9 + "完。"
    lines = [text[start : start + 36] for start in range(0, len(text), 36)]
    assert balanced(lines) == [text]
    assert is_wrapped(lines)


def test_text_from_pdf_files_has_lines_of_similar_length():
    draw = random.Random(5)
    rest = " ".join(paragraphs(WORDS["English"], 30, seed=5)).lower().split()
    lines = []
    while len(rest) > 20:
        count = draw.choice([11, 12, 13, 14])
        lines.append(" ".join(rest[:count]).replace(".", ","))
        rest = rest[count:]
    assert is_wrapped(lines)
    assert len(balanced(lines)) <= 2


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (["until the follow-", "ing Thursday"], "until the following Thursday"),
        (["until the follow\u00ad", "ing Thursday"], "until the following Thursday"),
        (["until the follow\u00ac", "ing Thursday"], "until the following Thursday"),
        (["a well-", "known man; well-known he"], "a well-known man; well-known he"),
        (["some mother-in-", "law of hers"], "some mother-in-law of hers"),
        (["of the Anglo-", "Saxon kings"], "of the Anglo-Saxon kings"),
        (["made in 1990-", "1995 only"], "made in 1990-1995 only"),
        (["all the pre-", "and postwar houses"], "all the pre- and postwar houses"),
        (["full of self-", "esteem as ever"], "full of self-esteem as ever"),
        (["he said—", "and left —", "at once"], "he said—and left — at once"),
    ],
)
def test_hyphens_at_line_ends(lines, joined):
    [found] = in_wrapped_text(lines, 12)
    assert found == joined


def in_wrapped_text(lines, others):
    """What becomes of lines, made 60 characters long, after so many other paragraphs."""
    filler = wrapped(paragraphs(WORDS["English"], others, seed=1), 60)
    filled = [f"{'x' * (59 - len(line))} {line}" for line in lines[:-1]] + lines[-1:]
    return [re.sub("x+ ", "", line) for line in balanced([*filler, *filled])[others:]]


def test_divided_words_and_compounds():
    # Where many lines end in a hyphen, words are divided; where hardly any does, they are not.
    divided = ["seen by the fish-", "ermen and the keep-", "er of it, tax-", "related"]
    assert in_wrapped_text(divided, 2) == ["seen by the fishermen and the keeper of it, taxrelated"]
    assert in_wrapped_text(["one way or another tax-", "related; related"], 40) == [
        "one way or another tax-related; related"
    ]


VERSE = lines_of(
    """Tell me not, in mournful numbers,
Life is but an empty dream!
for the soul is dead that slumbers,
and things are not what they seem.
Life is real! Life is earnest!
And the grave is not its goal;
dust thou art, to dust returnest,
was not spoken of the soul."""
)
SHOPPING = "milk\neggs and some flour\na dozen of the small red apples\nbread\ncheese\ntwo lemons"
LIST = [
    "- the harbour was dark and nobody had seen her again since",
    "- the keeper counted all of the ships in it and then again",
    "- his daughter waited",
    "1. the harbour was dark and nobody had seen her again since",
    "2. the keeper counted all of the ships in it and then again",
    "3. his daughter waited",
]
CODE = lines_of(
    """def clean(text):
    for line in text.split():
        if line.startswith("#") and not line.endswith("!"):
            continue
        yield line.strip().lower()
    return None
class Reader:
    pass"""
)
TWEETS = [
    "so happy today",
    "@bob cant believe that you would say such a thing to me after all this time lol",
    "watching the game tonight with everyone",
    "ok",
    "why is the weather like this in the middle of july of all months",
    "on my way",
    "best day ever thanks to all of you who came out to support us yesterday evening in town",
]


@pytest.mark.parametrize(
    "lines",
    [
        VERSE,
        SHOPPING.split("\n"),
        LIST,
        CODE,
        TWEETS,
        paragraphs(WORDS["English"], 60, seed=3, sentences=(1, 1)),  # a sentence per line
        [each.lower().rstrip(".") for each in paragraphs(WORDS["English"], 60, 4, (1, 1))],
        paragraphs(WORDS["Arabic"], 60, seed=6, sentences=(1, 1)),
        paragraphs(WORDS["English"], 60, seed=7),  # a paragraph per line
        ["CHAPTER ONE", "The Harbour", "by", "Mr. Olsen", "Bergen, 1 May", "all rights reserved"],
        ["Name | Age | Town", "Olsen | 41 | Bergen", "his daughter | 9 | Bergen"] * 5,
    ],
    ids=words("verse list items code tweets sentences lower arabic paragraphs headings table"),
)
def test_other_lines_stay(lines):
    assert join_wrapped(lines).lines == lines
    assert not is_wrapped(lines)


def test_what_stands_between_wrapped_paragraphs_stays():
    texts = paragraphs(WORDS["English"], 6, seed=8)
    lines = wrapped(texts, 70)
    between = ["CHAPTER TWO", "- milk", "- eggs", "Bergen, 1 May", "==========", "a  b  c", ""]
    found = balanced([*lines, *between, *lines])
    assert found == [*texts, *between[:-1], *texts]
    # Items of lists are put together, each for itself; so are paragraphs with an indent only.
    items = wrapped(texts, 60, "- ", "  ")
    assert balanced([line for line in items if line]) == [f"- {text}" for text in texts]
    indented = [line for line in wrapped(texts, 60, "   ", "") if line]
    assert balanced(indented) == texts


def test_a_short_text_is_joined_where_a_sentence_surely_continues():
    assert balanced(["The patient was seen in the emergency", "department after a fall."]) == [
        "The patient was seen in the emergency department after a fall."
    ]
    assert len(balanced(["The patient was seen in the emergency.", "department"])) == 2
    assert len(balanced(["The patient was seen there", "Department of Surgery"])) == 2


def test_lines_of_a_file_are_joined_in_units_and_counted():
    texts = paragraphs(WORDS["English"], 400, seed=9)
    lines = wrapped(texts, 72)
    counts = Counter(characters_read=sum(map(len, lines)))
    found = list(join_lines(iter(lines), counts))
    assert [line for line in found if line] == texts
    assert counts["characters_read"] - counts["characters_dropped_line_ends"] == sum(
        map(len, found)
    )
    assert counts["line_ends_joined"] == len(lines) - 2 * len(texts)


WRAPPED = textwrap.fill(
    "The keeper had promised his daughter that he would bring back a small brass telescope. He "
    "left before sunrise, while the harbour was still dark, and walked along the shore road to "
    "Bergen.",
    48,
)
SENTENCES = [
    "The keeper had promised his daughter that he would bring back a small brass telescope.",
    "He left before sunrise, while the harbour was still dark, and walked along the shore road to "
    "Bergen.",
]
POEM = "Tell me not, in mournful numbers,\nLife is but\nan empty dream"
NAMES = {
    "text": ("a.txt", lambda texts: "\n\n".join(texts)),
    "json": ("a.jsonl", lambda texts: "\n".join(json.dumps({"text": each}) for each in texts)),
    "csv": ("a.csv", lambda texts: "text\n" + "".join(f'"{each}"\n' for each in texts)),
}


@pytest.mark.parametrize("format_name", NAMES)
@pytest.mark.parametrize("document", ["blank_line", "file", "2 sentences"])
def test_lines_are_joined_in_every_format(tmp_path, format_name, document):
    name, write = NAMES[format_name]
    (tmp_path / name).write_text(write([WRAPPED, POEM, WRAPPED]), newline="")
    (tmp_path / "cleaned").mkdir()
    options = ChunkOptions(ReadOptions(document, line_ends="join"), "split", False, Cleaning())
    file = examine(tmp_path / name, "auto", document, Rejections("", True))
    key = clean_chunk(ChunkTask((file,), tmp_path / "cleaned", options)).key
    text = (tmp_path / "cleaned" / f"{key}.txt").read_text().rstrip("\n")
    assert [each for each in text.split("\n") if each] == [
        *SENTENCES,
        *POEM.split("\n"),
        *SENTENCES,
    ]
    counts = read_facts(tmp_path / "cleaned", key).counts
    dropped = sum(n for name, n in counts.items() if name.startswith("characters_dropped_"))
    assert counts["characters_read"] == counts["characters_in"] + dropped
    assert counts["line_ends_joined"] == 2 * WRAPPED.count("\n")


def test_with_a_document_per_line_nothing_is_joined(tmp_path):
    (tmp_path / "a.txt").write_text(WRAPPED)
    file = examine(tmp_path / "a.txt", "auto", "line", Rejections("", True))
    options = ReadOptions("line", line_ends="join")
    batches = read_documents(Chunk(file), options, Rejections("", True), Counter())
    assert [lines for batch in batches for lines in batch] == [[x] for x in WRAPPED.split("\n")]


@given(st.lists(st.text(alphabet="ab A.-\u00ad>—1", max_size=40), max_size=12))
def test_only_white_space_hyphens_and_quotation_signs_are_removed(lines):
    found = balanced(lines)
    left, right = (
        "".join(character for character in "".join(each) if character not in " -\u00ad>—")
        for each in (lines, found)
    )
    assert left == right


def test_the_note_says_figures_and_the_key_to_set():
    counts = Counter(
        line_ends_examined=40,
        line_ends_wrapped=30,
        characters_examined=4000,
        characters_wrapped=3000,
    )
    files = Counter({"book.txt": 3000})
    (note,) = notes.line_ends(counts, files, "keep", "blank_line")
    assert note.startswith("30 of 40 line ends")
    assert "75.0%" in note and "book.txt" in note and "preprocess.line_ends: join" in note
    assert not list(notes.line_ends(counts, files, "join", "blank_line"))
    few = counts | {"characters_examined": 4_000_000}
    assert not list(notes.line_ends(few, files, "keep", "blank_line"))
    assert not list(notes.line_ends({}, Counter(), "keep", "blank_line"))
