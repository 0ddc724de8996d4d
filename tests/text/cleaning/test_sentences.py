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
        # Ordinary words that are abbreviations elsewhere.
        [
            "Many objets d'art.",
            "Brown saw me.",
            "Then he left it on.",
            "I am ok.",
            "Look at modern art.",
            "Mary did.",
        ],
        ["He wore a cap.", "She ate a fig.", "Wait a sec.", "Peter was apt.", "My abs.", "Ann"],
        ["give it to me.", "then turn it on.", "all is ok.", "no.", "that is art.", "yes"],
        ["Ich weiß es.", "Sie ist meine Frau.", "Karl kommt."],
        ["Jag vet det.", "Anna hon.", "Vad hon gör.", "Sven kom i maj.", "Peter dra."],
        ["Quiero ir.", "Juan también.", "Non lo so, es.", "Milano è qui."],
        ["Kom op.", "Jan mag.", "Piet ook."],
        ["Onu al.", "Ali ve sen.", "Ahmet gitti, bir av.", "Kemal yok.", "Sebebi on.", "Ayşe bir."],
        ["Он помог им.", "Потом ушли.", "Они в ум.", "Маша."],
        # The same as abbreviations.
        ["See fig. 3, Sec. 4, cap. XII, art. 5 and vol. I, p. 5 of it.", "All is no. 5."],
        ["Sen. Smith met Gov. Brown, Rep. Jones and Det. Lee.", "I am a rep.", "Ann is, too."],
        ["Av. Mehmet ve Arş. Gör. Ali, Op. Dr. Can ile Sn. Kaya.", "Hz. Ali geldi."],
        ["Ad es. Milano.", "L'on. Rossi e l'art. 5 c'è.", "Smith et al. Nature of 1990."],
        [
            "Завод им. Ленина и школа им. А. С. Пушкина.",
            "См. Рис. 5.",
            "Рост 180 см.",
            "Вес 90 кг.",
        ],
        ["Szkoła im. Jana Pawła II.", "Pomógł im.", "Piotr poszedł.", "W 1990 r.", "Polska"],
        ["300 av. J.-C. environ.", "J.-P. Sartre et A.-M. Weil.", "J. A. Smith and J. O'Neil."],
        # Roman numerals.
        ["Osmanlı padişahı II. Mahmut öldü.", "VIII. Henry ve XIV. Louis yaşıyordu.", "Evet."],
        ["Sultan II. Mahmut and Papa II. Jean Paul.", "III. Selim geldi.", "Sonra II. Mahmut."],
        ["1876'da II. Abdülhamit tahta geldi.", "Onun torunu III. Murat da öyle."],
        ["A XIV. Lajos király.", "II. Rákóczi Ferenc fejedelem.", "Im II. Weltkrieg."],
        ["After World War II.", "Germany was divided by Louis XIV.", "France was rich.", "So"],
        ["España en el siglo XX.", "Madrid era la capital.", "Nel secolo XIX.", "Roma era."],
        ["In stage III.", "Patients of Elizabeth II.", "London.", "II. THE GARDEN"],
        # Brackets and other marks before an abbreviation.
        ["(Dr. Smith) and [Dr. Smith] came.", "*Dr. Smith* saw **Dr. Smith** and _Mr. Jones_."],
        ["—Mr. Smith— saw ~Dr. Lee~ (e.g. Lee) and (bkz. Şekil 2).", "Dipl.-Ing. Müller kam."],
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
        # A mark after a closing quotation mark, and titles.
        ["他说：“好。”。", "我说“走！”，他没走。", "她问『谁？』。", "没人。"],
        ["他看了《你是谁？》这本书。", "《你好！李焕英》是电影。", "〈走。〉很好。", "好"],
        ["1.介绍。", "2.方法。", "これは１．はじめに．", "次は３．５である．"],
        # Missing spaces.
        ["그는 갔다.", "그리고 왔다!", "뭐?", "나는 3.5를 봤어요.", "2010년에 서울.부산에 갔다."],
        ["كيف حالك؟", "أنا بخير!", "شكرا"],
        ["Սա է։", "Սա երկրորդն է։"],
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


BEFORE = ["She gave it to", "They laughed at", "He will not speak of", "Nobody had seen", "Why not"]
AFTER = ["Mary left early", "He smiled", "Then it rained", "London was dark", "“Go on” was all"]
SHORT_WORDS = ["me", "them", "art", "ok", "on", "cap", "sec", "fig", "det", "ir", "es", "op", "al"]
NUMERALS = [
    "II",
    "III",
    "IV",
    "VI",
    "VII",
    "VIII",
    "IX",
    "XI",
    "XII",
    "XIII",
    "XIV",
    "XVI",
    "XXIII",
]
NAMES = ["Mahmut", "Selim", "Henry", "Louis", "Murat", "Abdülhamit"]


def split_pairs(pairs: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """The lines of `one other` after splitting, as many at a time as there should be."""
    text = "\n".join(f"{one} {other}\n" for one, other in pairs)
    return [
        tuple(part.split("\n")) for part in split_sentences(text).removesuffix("\n").split("\n\n")
    ]


def test_short_words_at_the_end_of_a_sentence():
    pairs = [
        (f"{before} {word}.", f"{after}.")
        for word in SHORT_WORDS
        for before in BEFORE
        for after in AFTER
    ]
    assert split_pairs(pairs) == pairs


def test_roman_numerals_before_and_after_names():
    ordinals = [
        sentence.format(f"{numeral}. {name}")
        for sentence in ("{} tahta çıktı.", "Padişah {} ve kardeşi geldi.", "1808'de {} geçti.")
        for numeral in NUMERALS
        for name in NAMES
    ]
    assert split_sentences("\n".join(ordinals)).split("\n") == ordinals
    # After the name, as in most languages, the numerals end a sentence.
    pairs = [
        (f"It was written under {name} {numeral}.", "Paris was rich.")
        for name in NAMES
        for numeral in NUMERALS
    ]
    assert split_pairs(pairs) == pairs


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
        "me. A",
        "II. A",
        "a im. ",
        "？》",
        "《？",
        "갔다.",
        "(a.A. B",
        "aaaaaaaaaa",
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
