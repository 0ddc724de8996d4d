"""Sentence boundaries in many languages, found in linear time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.text.cleaning.sentences import split_sentences


def sentences_of(text: str) -> list[str]:
    return [line.strip() for line in split_sentences(text).split("\n") if line.strip()]


@pytest.mark.parametrize(
    "sentences",
    [
        ["One.", "Two!", "Three?", "Four"],
        ["Dr. Smith paid $3.50 to J. Jones, e.g. in U.S. dollars.", "Fine."],
        ['He said "Stop."', "Then he left."],
        ["“Stop!” he said.", "“Why?” she asked.", "(Nobody knew.)", "Well."],
        ["Wait... what?", "Yes."],
        ["Wait…", "What?", "Oh … no."],
        ["I live in the U.S.", "How about you?"],
        ["She works for the U.S. Government.", "He is at Apple Inc. in May."],
        [
            "See Fig. 3 and pp. 55 ff. of vol. 2.",
            "It is No. 5 there.",
            "I said no.",
            "Then I left.",
        ],
        ["1. The first item.", "2. The second.", "It goes on."],
        ["“Yes.”", "– Is it?", "— It is – I think."],
        ["We saw it at 9 a.m. on Sunday.", "It was J.R.R. Tolkien."],
        ["Costs were 3.5 million.", "42 people came.", "Version 3.11 is out.", "It is at x.org."],
        ["It was shown before.[5]", "Others disagree. [3]", "So be it."],
        ["love it.", "so good!", "can't wait?", "yes"],
        # Emoji and what follows a mark.
        ["Great day! 😀😀", "Next thing. 👍🏽", "Bye"],
        ["Love it!", "#winning @home"],
        ["I am #happy.", "#blessed by @bob.", "Ok"],
        # German, French, Polish, Spanish, Turkish, Russian, Greek.
        ["Am 3. Mai kam Prof. Dr. Weiß, z. B. mit Hrn. Groß.", "Das war bzw. ist gut."],
        ["« Bonjour ! »", "Il est parti.", "M. Dupont et Mme Durand sont là."],
        ["W woj. lubuskim było ok. 30 proc. ludzi.", "– Tak? – zapytał.", "- Nie."],
        ["¿Qué pasa?", "¡Nada!", "El Sr. García y la Dra. Ruiz vienen."],
        ["Doç. Dr. Ayşe geldi.", "Çok güzel!", "19. yüzyılda 2. Dünya Savaşı yoktu.", "İyi."],
        ["Он живёт в г. Москва на ул. Ленина.", "Там 5 млн. руб. и т. д.", "Да?"],
        ["Τι κάνεις\u037e", "Καλά."],
        # Arabic, Persian, Urdu: the semicolon separates clauses.
        ["هل أنت بخير؟", "نعم، أنا بخير؛ شكرا.", "حسنا!"],
        ["حال شما چطور است؟", "من خوبم.", "می\u200cخواهم بروم."],
        ["یہ کتاب ہے۔", "وہ کہاں ہے؟", "اچھا۔"],
        # Hindi, Bengali, Armenian, Amharic.
        ["यह एक वाक्य है।", "यह दूसरा है।"],
        ["আমি ভাত খাই।", "তুমি?"],
        ["Սա առաջին նախադասությունն է։", "Սա երկրորդն է:", "Վերջ։"],
        ["ይህ ነው።", "ያ ነው፧", "አዎ።"],
        # Thai has no sentence-final marks, so the line stays whole.
        ["วันนี้อากาศดี พรุ่งนี้ฝนจะตก"],
    ],
)
def test_sentences_separated_by_spaces(sentences):
    assert sentences_of(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["今天很好。", "你呢？", "我也是！", "他说：“好。”", "然后走了"],
        ["今日は。", "元気ですか？！", "はい……。", "「そう。」と彼は言った。", "終わり"],
        ["你好!", "我来了?", "是的。"],
        ["यह एक वाक्य है।", "यह दूसरा है।"],
        ["ဒါက စာကြောင်း။", "ဒုတိယ။"],
        ["នេះជាប្រយោគ។", "មួយទៀត"],
    ],
)
def test_sentences_without_spaces(sentences):
    assert sentences_of("".join(sentences)) == sentences


@pytest.mark.parametrize("text", ["no end", "...", "!?", "Mr.", "e.g.", ". A", "#", "。"])
def test_one_sentence(text):
    assert "".join(sentences_of(text)).replace(" ", "") == text.replace(" ", "")
    assert len(sentences_of(text)) <= 2


def test_empty_text_has_no_sentences():
    assert sentences_of("") == sentences_of("   ") == []


MARKS = ". ! ? … 。 ！ । ؟ ։ : ; \" ' ” » ) ] 」 ( [ « “ - – , @ # 😀 👍🏽 [1] 3. J. U.S. e.g."
parts = st.sampled_from(
    [" ", "word", "Word", "12", "A", "etc", "b", "漢", "と", "ب", *MARKS.split()]
)
texts = st.one_of(st.text(max_size=200), st.lists(parts, max_size=60).map("".join))


@given(texts)
def test_only_line_ends_are_inserted_and_spaces_removed(text):
    split = split_sentences(text)
    assert "".join(split.split()) == "".join(text.split())


@given(st.lists(texts.map(lambda text: text.replace("\n", " ").strip()), max_size=8))
def test_lines_are_split_independently(lines):
    together = split_sentences("\n".join(lines))
    assert together == "\n".join(map(split_sentences, lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        ".",
        "a.a.",
        '"',
        '."',
        ". ",
        '." ',
        ". (",
        "。",
        "。」",
        "。」と",
        "！!",
        "! 😀",
        ". [1]",
        "A. ",
        "U.S.",
    ],
)
def test_time_is_linear_in_the_length(unit):
    def seconds(size: int) -> float:
        text = unit * (size // len(unit)) + "」と"
        times = []
        for _ in range(2):
            start = time.process_time()
            split_sentences(text)
            times.append(time.process_time() - start)
        return max(min(times), 1e-3)

    # 16 times the text: 16 if linear, 256 if quadratic.
    assert seconds(1 << 19) / seconds(1 << 15) < 80
