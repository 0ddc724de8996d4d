"""Cleaning of whole documents: every option, protected placeholders, one sentence per line."""

import html
import time
from collections import Counter
from typing import get_args

import emoji
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.params import parse_params
from lib.run.errors import UserError
from lib.text.cleaning.cleaner import DocumentCleaner
from lib.text.cleaning.edits import Cleaning

# The cleaning of tweets for CT-BERT.
TWEETS = {
    "unescape_html": True,
    "format_characters": "remove",
    "urls": "replace",
    "emails": "replace",
    "users": "replace",
    "emoji": "alias",
    "punctuation": "ascii",
    "symbols": "remove",
    "lowercase": True,
}
PLACEHOLDERS = {"urls": "replace", "emails": "replace", "users": "replace"}


def clean_documents(documents, sentences="split", counts=None, **options):
    cleaner = DocumentCleaner(Cleaning(**options), sentences)
    cleaned = cleaner(documents, Counter() if counts is None else counts)
    return [text.split("\n") if text else [] for text in cleaned]


def clean(text, **options):
    """One line cleaned, its sentences joined again by |."""
    [sentences] = clean_documents([[text]], **options)
    return "|".join(sentences)


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ({}, "  two \t words\u00a0\u2028here\r\x0b ", "two words here"),
        # Windows-1252 that was read as Latin-1.
        ({}, "Türkiye\x92nin \x93ne\x94 \x96 \x80 5\x85", "Türkiye’nin “ne” – € 5…"),
        ({}, "it\x92s \x93Mr. A\x94\x97Yes.\x94 No", "it’s “Mr. A”—Yes.”|No"),
        ({}, "a\x81\x8db\x8f\x90\x9dc", "abc"),
        ({"unicode": "NFKC"}, "wait\x85 a\x99", "wait... aTM"),
        ({"punctuation": "ascii"}, "it\x92s\x97so", "it's-so"),
        ({}, "a\x00b\x07 \ufeffc\x02\x1fd", "ab c d"),
        ({}, "می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
        ({}, "see [MASK] and [CLS]", "see [ MASK ] and [ CLS ]"),
        ({}, "&amp; “x” @a 😀 é", "&amp; “x” @a 😀 é"),
        ({"unescape_html": True}, "a &lt;3 &amp; &#39;b&#x27; &nbsp;c", "a <3 & 'b' c"),
        ({"unescape_html": True}, "&amp;lt;b&amp;amp;gt; &amp;amp;", "<b> &"),
        ({"unescape_html": True}, "?a=1&copy=2 AT&T &nosuch; &", "?a=1&copy=2 AT&T &nosuch; &"),
        ({"unescape_html": True}, "a&NewLine;b&#10;c&#2028;&#x2028;d", "a b c\u07ec d"),
        ({}, "Great.<br /><br />Go on.", "Great.<br /><br />Go on."),
        ({"html_tags": "remove"}, "Great.<br /><br />Go <B>o</b>n.", "Great.|Go on."),
        ({"html_tags": "remove"}, "<p class='a b' id=x>One</p><P>two<!-- <b> --></p>", "One|two"),
        ({"html_tags": "remove"}, "a <3 <unk> 1 < b > <i love u>", "a <3 <unk> 1 < b > <i love u>"),
        (
            {"html_tags": "remove", "unescape_html": True},
            "a&lt;br&gt;b &amp;lt;p&amp;gt;c",
            "a|b|c",
        ),
        ({"unicode": "NFC"}, "e\u0301 ﬁ", "é ﬁ"),
        ({"unicode": "NFKC"}, "e\u0301 ﬁ Ａ ①", "é fi A 1"),
        ({"format_characters": "remove"}, "so\u00adft \u200fab\u200b\u2066c", "soft abc"),
        ({"format_characters": "remove"}, "می\u200cخواهم", "می\u200cخواهم"),
        ({"format_characters": "space"}, "می\u200cخواهم \u200cب\u200c", "می خواهم ب"),
        ({"format_characters": "space"}, "ខ្ញុំ\u200bទៅ so\u00adft", "ខ្ញុំ ទៅ soft"),
        ({"format_characters": "space"}, "क्\u200cष क्\u200dष", "क्\u200cष क्\u200dष"),
        ({"punctuation": "ascii"}, "“a” ‘b’ – c—d… «e»", '"a" \'b\' - c-d... "e"'),
        ({"punctuation": "ascii"}, "هل؟ نعم، 好，是！", "هل?|نعم, 好,是!"),
        ({"punctuation": "remove"}, "Hi, there_you! £5 😀", "Hi there you|5 😀"),
        ({"symbols": "remove"}, "5★hotel ♪ $ 😀 +", "5 hotel $ 😀 +"),
        ({"lowercase": True}, "Über ΟΔΟΣ", "über οδος"),
        ({"accents": "remove"}, "café Ångström ё ά ş e\u0301", "cafe Angstrom е α s e"),
        ({"accents": "remove"}, "हिन्दी ぱ أ", "हिन्दी ぱ أ"),
        ({"arabic_marks": "remove"}, "مُحَمَّد جمـــيل", "محمد جميل"),
    ],
)
def test_an_option_edits_what_it_should(options, before, after):
    assert clean(before, **options) == after
    changed = clean(before)
    assert not options or before == after or changed != after


@pytest.mark.parametrize(
    "invisible", ["\u200b", "\u00ad\u200e", "\u2800 \u3164", "\ufe0f\u200d", "\U000e0041"]
)
def test_lines_of_invisible_characters_are_no_text(invisible):
    counts = Counter()
    cleaner = DocumentCleaner(Cleaning(), "split")
    documents = [[invisible], ["One.", f" {invisible} ", f"T{invisible}wo."], [invisible, "Three."]]
    assert cleaner(documents, counts) == ["", f"One.\nT{invisible}wo.", "Three."]
    assert counts["invisible_lines"] == 3


def test_c1_controls_as_browsers_read_them():
    # The standard library has the table of the HTML specification.
    for code in range(0x80, 0xA0):
        counts = Counter()
        expected = html.unescape(f"&#{code};")
        [sentences] = clean_documents([[f"a{chr(code)}b"]], counts=counts)
        if expected == chr(code):
            assert sentences == ["ab"] and counts == {"control_characters": 1}
        else:
            assert sentences == [f"a{expected}b"] and counts == {"c1_controls": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hi @bob, (@ann) and @bob's", "hi twitteruser, (twitteruser) and twitteruser's"),
        ("RT @a: .@b @_c9!", "RT twitteruser: . 2 twitteruser!"),
        ("@someone@example.org said", "twitteruser said"),
        ("lunch @ noon, 5 @ $2, a@b", "lunch @ noon, 5 @ $2, a@b"),
        ("你好@bob看", "你好 twitteruser 看"),
        ("mail me.x+y@mail.example.org.", "mail twitteremail."),
        ("see https://t.co/a?b=1&c=2#d.", "see twitterurl."),
        ("(see http://x.org/A_(b)), HTTPS://X.ORG", "(see twitterurl), twitterurl"),
        ("www.x.org/y: linkhttps://t.co/1…", "twitterurl: link twitterurl …"),
        ("看https://t.co/abc很好", "看 twitterurl 很好"),
        ("http:// https://... www. wwww.x", "http:// https://... www. wwww.x"),
        ("ftp and https are", "ftp and https are"),
        ("<url> @<user>", "twitterurl twitteruser"),
    ],
)
def test_users_urls_and_emails_become_placeholders(before, after):
    assert clean(before, **PLACEHOLDERS).replace("|", " ") == after
    assert clean(before).replace("|", " ") == before


def test_users_urls_and_emails_can_be_removed_one_kind_at_a_time():
    text = "a @b c https://d.e/f g h@i.jk l"
    assert clean(text, users="remove") == "a c https://d.e/f g h@i.jk l"
    assert clean(text, urls="remove") == "a @b c g h@i.jk l"
    assert clean(text, emails="remove") == "a @b c https://d.e/f g l"


def test_repeated_placeholders_merge_only_if_so_chosen():
    text = "@a @b hi @c @d @e https://x.y http://z.z"
    merged = "2 twitteruser hi 3 twitteruser 2 twitterurl"
    assert clean(text, **PLACEHOLDERS) == merged
    apart = "twitteruser twitteruser hi twitteruser twitteruser twitteruser twitterurl twitterurl"
    assert clean(text, **PLACEHOLDERS, merge_placeholders=False) == apart


def test_placeholders_in_raw_text_count_as_placeholders():
    assert clean("twitteruser @a mytwitteruser", **PLACEHOLDERS) == "2 twitteruser mytwitteruser"


@pytest.mark.parametrize(
    "placeholder",
    ["@USER", "HTTPURL", "(a.b*)+", "a user 2", "U\\1", "İ“é”…😀", "user", ":smile:", "★"],
)
def test_any_placeholder_survives_every_edit(placeholder):
    options = TWEETS | {"accents": "remove", "user_placeholder": placeholder}
    assert clean("Hi @ann SIR", **options) == f"hi {placeholder} sir"
    assert clean("HI @a @b @c", **options) == f"hi 3 {placeholder}"
    removed = options | {"punctuation": "remove", "emoji": "remove"}
    assert clean("Hi, @ann 😀 SIR", **removed) == f"hi {placeholder} sir"


@pytest.mark.parametrize(
    ("documents", "after"),
    [
        ([["Hello there! @bob"]], [["Hello there! twitteruser"]]),
        ([["@bob! Hello there."]], [["twitteruser! Hello there."]]),
        ([["@a.", "@b", "Hi.", "@d @e!"]], [["twitteruser. twitteruser Hi. 2 twitteruser!"]]),
        ([["A.", "@a", "B.", "@b", "www.c"]], [["A. twitteruser", "B. twitteruser twitterurl"]]),
        ([["One."], ["@a"], ["Two."]], [["One."], ["twitteruser"], ["Two."]]),
        ([["@a", "@b"], [], ["@c"]], [["2 twitteruser"], [], ["twitteruser"]]),
        ([["Hi.", "2 twitteruser"]], [["Hi. 2 twitteruser"]]),
        ([["Hi.", "Ask @a"]], [["Hi.", "Ask twitteruser"]]),
    ],
)  # fmt: skip
def test_sentences_of_only_placeholders_join_their_neighbour(documents, after):
    counts: Counter[str] = Counter()
    assert clean_documents(documents, counts=counts, **PLACEHOLDERS) == after
    lines = sum(map(len, documents))
    assert (
        counts["placeholder_sentences_joined"] == 0
        or counts["placeholder_sentences_joined"] <= lines
    )


def test_joined_sentences_are_counted():
    counts: Counter[str] = Counter()
    clean_documents([["@a.", "Hi.", "@b"], ["@c"]], counts=counts, **PLACEHOLDERS)
    assert counts == {"users": 3, "placeholder_sentences_joined": 2}


# Defects of the cleaning of CT-BERT, each with the right result.


def test_symbols_are_removed():
    assert clean("a ★ b ♪ c", symbols="remove") == "a b c"


def test_joined_emoji_stay_whole():
    family = "👨\u200d👩\u200d👧"
    assert clean(f"my {family}!", **TWEETS) == f"my {emoji.demojize(family)} !"


def test_the_character_before_a_user_stays():
    assert clean('(@bob) "@ann"', **PLACEHOLDERS) == '(twitteruser) "twitteruser"'


def test_urls_may_contain_an_at_sign():
    assert clean("https://m.com/@bob/post ok", **PLACEHOLDERS) == "twitterurl ok"


def test_upper_case_placeholders_merge():
    assert clean("@A @B", **TWEETS | {"user_placeholder": "USER"}) == "2 USER"


def test_placeholders_are_not_patterns():
    assert clean("@a @b us.er usxer", **PLACEHOLDERS, user_placeholder="us.er") == "3 us.er usxer"


def test_words_that_contain_a_placeholder_are_not_split():
    assert (
        clean("users superuser @a", **PLACEHOLDERS, user_placeholder="user")
        == "users superuser user"
    )


def test_counts_have_any_number_of_digits():
    counts: Counter[str] = Counter()
    [sentences] = clean_documents([["Hi.", "@a " * 1234]], counts=counts, **PLACEHOLDERS)
    assert sentences == ["Hi. 1234 twitteruser"]


def test_many_sentences_of_only_placeholders_are_joined_and_none_is_lost():
    lines = ["@a", "@b", "Hi.", "@c", "@d", "@e", "Ho.", "@f"]
    assert clean_documents([lines], **PLACEHOLDERS) == [
        ["2 twitteruser Hi. 3 twitteruser", "Ho. twitteruser"]
    ]


def test_documents_of_only_placeholders_are_kept():
    assert clean("@a https://b.c", **PLACEHOLDERS) == "twitteruser twitterurl"


EMOJI = [
    *("😀", "👍🏽", "👩‍👩‍👧‍👧", "🏳️‍🌈", "🇹🇷", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    *("1️⃣", "#️⃣", "❤️", "👩🏽‍❤️‍💋‍👨🏿", "☺", "🧑🏻‍🚀"),
]


@pytest.mark.parametrize("one", EMOJI)
@pytest.mark.parametrize("other", EMOJI)
def test_consecutive_emoji_are_separated(one, other):
    text = f"so{one}{other}it is"
    alias, second = emoji.demojize(one), emoji.demojize(other)
    assert clean(text, emoji="alias") == f"so {alias} {second} it is"
    assert clean(text, emoji="space") == f"so {one} {other} it is"
    assert clean(text, emoji="remove") == "so it is"
    assert clean(text) == text


def test_emoji_are_counted_and_parts_of_emoji_are_dropped():
    counts: Counter[str] = Counter()
    text = "a 😀\u200d😀\ufe0f b \u200d c🇹 می\u200cخ 12#"
    [[line]] = clean_documents([[text]], counts=counts, emoji="alias")
    assert line == "a :grinning_face: :grinning_face: b \u200d c 🇹 می\u200cخ 12#"
    assert counts["emoji"] == 2


def test_sentences_are_split_before_marks_and_case_are_edited():
    text = "Great! 😀 Next one. 好。And…"
    expected = "great! :grinning_face:|next one.|好.|and..."
    assert clean(text, **TWEETS) == expected


def test_lines_stay_sentences_with_sentences_line():
    documents = [["One. Two.", " ", "Three"], []]
    assert clean_documents(documents, "line") == [["One. Two.", "Three"], []]


def test_edits_are_counted_by_reason():
    counts: Counter[str] = Counter()
    text = "&lt; “É” @a @b https://c.d e@f.gh ★ \x00 \u00ad مُ [SEP]"
    options = TWEETS | {"accents": "remove", "arabic_marks": "remove"}
    clean_documents([[text]], counts=counts, **options)
    assert counts == {
        "html_entities": 1,
        "punctuation": 2,
        "accents": 1,
        "users": 2,
        "urls": 1,
        "emails": 1,
        "placeholders_merged": 1,
        "symbols": 1,
        "control_characters": 1,
        "format_characters": 1,
        "arabic_marks": 1,
    }
    counts.clear()
    clean_documents([["[SEP] x"]], counts=counts)
    assert counts == {"special_tokens_in_text": 1}


PLACEHOLDER_EXAMPLES = {
    "user_placeholder": ["twitteruser", "@USER", "U 2 (x)", "é…😀"],
    "url_placeholder": ["twitterurl", "HTTPURL", "@USER"],
    "email_placeholder": ["twitteremail"],
}


def values_of(option: str) -> list:
    """All values of an option; examples, if it is a placeholder."""
    kind = Cleaning.model_fields[option].annotation
    return [False, True] if kind is bool else PLACEHOLDER_EXAMPLES.get(option) or [*get_args(kind)]


settings = st.fixed_dictionaries(
    {option: st.sampled_from(values_of(option)) for option in Cleaning.model_fields}
)
NASTY = [
    *("@user", "@", "a@b.co", "https://t.co/x", "www.x.y", "&amp;lt;", "&#10;", "&#2;", "[MASK]"),
    *(
        "[MÁ",
        "SK]",
        "twitteruser",
        "2 ",
        ". ",
        "! ",
        "? A",
        "。",
        "…",
        "e.g. ",
        "é",
        "e\u0301",
        "İ",
    ),
    *("ب\u064b", "\u0640", "“", "★", "$", "x", "\u00a8", "\ufdfa", "１", "＠", "\uff3bMASK\uff3d"),
    *("\x00", "\x02", "\x03", "\x04", "\x05", "\x1c", "\r", "\x0b", "\x85", "\u2028", "\u2029"),
    *("\u00ad", "\u200b", "\u200d", "\ufe0f", "\u20e3", "\U000e0067", "\ufeff", " ", "\t", "1"),
    *EMOJI,
]
lines = st.one_of(
    st.text(max_size=40), st.lists(st.sampled_from(NASTY), max_size=12).map("".join)
).map(lambda line: line.replace("\n", " "))
documents_of_lines = st.lists(st.lists(lines, max_size=4), max_size=6)
splitting = st.sampled_from(["split", "line"])


@given(documents_of_lines, settings, splitting)
def test_sentences_are_clean_lines_for_any_input(documents, options, sentences):
    cleaned = clean_documents(documents, sentences, **options)
    assert len(cleaned) == len(documents)
    for sentence in (sentence for document in cleaned for sentence in document):
        assert sentence.splitlines() == [sentence]
        assert sentence == " ".join(sentence.split())
        assert sentence.encode()
        assert not any(f"[{token}]" in sentence for token in ("PAD", "UNK", "CLS", "SEP", "MASK"))


@given(documents_of_lines, settings, splitting)
def test_batches_do_not_change_the_result(documents, options, sentences):
    counts: Counter[str] = Counter()
    one_by_one: Counter[str] = Counter()
    together = clean_documents(documents, sentences, counts, **options)
    apart = [
        clean_documents([document], sentences, one_by_one, **options)[0] for document in documents
    ]
    assert together == apart
    assert dict(counts) == dict(one_by_one)


@given(documents_of_lines)
def test_cleaning_again_changes_nothing(documents):
    cleaned = clean_documents(documents)
    assert clean_documents(cleaned, "line") == cleaned


words = st.sampled_from(
    [
        "Hi",
        "ok,",
        "@bob",
        "@USER",
        "https://t.co/x",
        "a@b.co",
        "😀",
        "👍🏽🇹🇷",
        "“é”",
        "★",
        "so.",
        "No!",
    ]
)


@given(st.lists(st.lists(words, max_size=9).map(" ".join), max_size=4), st.booleans())
def test_cleaning_tweets_again_changes_nothing(tweet, merge):
    options = TWEETS | {"accents": "remove", "merge_placeholders": merge}
    cleaned = clean_documents([tweet], **options)
    assert clean_documents(cleaned, "line", **options) == cleaned


@given(st.lists(st.text("ab é漢.", max_size=8), max_size=20))
def test_text_without_anything_to_edit_loses_only_white_space(text):
    [sentences] = clean_documents([text])
    assert "".join("".join(sentences).split()) == "".join("".join(text).split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        *("@", "a@", "@a ", "a", "a@b.", "https://", "https://x(", "www.", "&amp;", "&#", "[MASK"),
        *("😀", "1️⃣", "\u200d", "★", "\x02", "é", "\u2028", "twitteruser", "- ", "2 ", "@a. "),
    ],
)
def test_time_is_linear_in_the_length(unit):
    cleaner = DocumentCleaner(Cleaning(**TWEETS | {"accents": "remove"}), "split")

    def seconds(size: int) -> float:
        documents = [[unit * (size // len(unit))]]
        times = []
        for _ in range(2):
            start = time.process_time()
            cleaner(documents, Counter())
            times.append(time.process_time() - start)
        return max(min(times), 2e-3)

    # 16 times the text: 16 if linear, 256 if quadratic.
    assert seconds(1 << 16) / seconds(1 << 12) < 80


def test_the_defaults_edit_only_white_space_and_control_characters():
    text = "Té &amp; @a 😀 ★ “x” https://y.z \u00ad مُ"
    assert clean_documents([[f" {text}\x00 "]]) == [[text]]


@pytest.mark.parametrize("option", Cleaning.model_fields)
def test_every_value_of_an_option_makes_a_difference(option):
    values = values_of(option) if option not in PLACEHOLDER_EXAMPLES else ["one", "two"]
    # Something for every option to edit; a new option may need more.
    text = "A &lt; <b>“É”</b> e\u0301 Å @a @b www.c.d e@f.gh ★ 😀! 12 x\u200by \u00ad مُ ﬁ"
    replaced = {"urls": "replace", "emails": "replace", "users": "replace"}
    cleaned = {clean(text, **replaced | {option: value}) for value in values}
    assert len(cleaned) == len(values) > 1


@pytest.mark.parametrize(
    ("placeholder", "problem"),
    [
        ("", "words"),
        (" a", "words"),
        ("a\nb", "words"),
        ("a\x03b", "control"),
        ("[UNK]", "special"),
    ],
)
def test_a_placeholder_that_cannot_be_part_of_a_sentence_is_refused(placeholder, problem):
    values = {
        "phases": {"main": {"max_seq_length": 32, "init": "data/vocab"}},
        "preprocess": {"clean": {"user_placeholder": placeholder}},
    }
    with pytest.raises(UserError, match=rf"preprocess\.clean\.user_placeholder: .*{problem}"):
        parse_params(values)
