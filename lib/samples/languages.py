"""Synthetic text in several languages, for trials and tests that need no real corpus.

Words are formed as in the languages (Turkish: suffixes in vowel harmony; Arabic: roots, patterns
and attached particles; Chinese: characters combined without spaces) and drawn with frequencies that
fall by rank, so that held-out text has words that training text lacks. Sentences are frames of real
sentences filled with such words, so that a model can learn from context.
"""

import random
import re
from collections.abc import Sequence


def _words(text: str) -> list[str]:
    return text.split()


_FRONT, _BACK = "eiöü", "aıou"
_TURKISH_STEMS = _words("""
    ev göz kitap yol deniz çocuk şehir okul güneş ağaç ışık kuş gün yıl söz dağ İzmir İstanbul
    öğretmen arkadaş ülke dünya zaman kalem masa kapı pencere mektup şarkı yağmur köy ırmak orman
""")
# After front vowels / after back vowels.
_TURKISH_SUFFIXES = _words("""
    ler/lar im/ım imiz/ımız de/da den/dan e/a in/ın siz/sız lik/lık ci/cı ki/ki miş/mış
""")
_ARABIC_ROOTS = _words("""
    كتب درس علم قرأ فتح خرج دخل سمع شرب عمل رسم حفظ شكر صبر نصر جلس ذهب رجع سكن لعب
""")
_ARABIC_PATTERNS = _words("""
    {0}{1}{2} {0}ا{1}{2} م{0}{1}و{2} {0}{1}ا{2} م{0}{1}{2}ة ت{0}{1}ي{2} {0}َ{1}َ{2}َ أ{0}{1}ا{2}
""")
_ARABIC_BEFORE = ["", "", *_words("ال ال و وال ب بال لل ف")]
_ARABIC_AFTER = ["", "", "", *_words("ها هم ون ات ين ك ً")]
_CHINESE = (
    "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可"
    "她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三"
    "已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女"
    "问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气"
    "\U00020000\U0002a6d6\U00020bb7龘靐"
)
_ENGLISH = _words("""
    the of and to in is that for it as was with be by on not he his but at are this have from or had
    an they which one you were her all she there would their we him been has when who will more no
    if out so said what up its about into than them can only other new some could time these two
""")
_ENGLISH_STEMS = _words(
    "print read write build garden river teach form nation press act port light ground"
)
_ENGLISH_ENDINGS = ["", *_words("s ing ed er ers able ation ful less ness ly")]
_EMOJI = _words("😂 🔥🔥 ❤️ 👍🏽 🇹🇷 👩‍🚀")


def _by_rank(draw: random.Random, items: Sequence[str]) -> str:
    """One of the items, the first ones more often (approximately by Zipf's law)."""
    return items[min(int(len(items) ** draw.random()) - 1 + draw.randrange(2), len(items) - 1)]


def _turkish(draw: random.Random) -> str:
    word = _by_rank(draw, _TURKISH_STEMS)
    back = next((letter in _BACK for letter in reversed(word) if letter in _FRONT + _BACK), False)
    for _ in range(draw.choice((0, 1, 1, 2, 2, 3))):
        word += draw.choice(_TURKISH_SUFFIXES).split("/")[back]
    return word.capitalize() if draw.random() < 0.1 and word[0] not in "iıİ" else word


def _arabic(draw: random.Random) -> str:
    root = _by_rank(draw, _ARABIC_ROOTS)
    word = draw.choice(_ARABIC_PATTERNS).format(*root)
    return draw.choice(_ARABIC_BEFORE) + word + draw.choice(_ARABIC_AFTER)


def _chinese(draw: random.Random) -> str:
    return "".join(_by_rank(draw, _CHINESE) for _ in range(draw.randint(1, 4)))


def _english(draw: random.Random) -> str:
    if draw.random() < 0.6:
        return _by_rank(draw, _ENGLISH)
    return _english_content(draw)


def _english_content(draw: random.Random) -> str:
    prefix = draw.choice(("", "", "", "re", "un", "inter"))
    return prefix + _by_rank(draw, _ENGLISH_STEMS) + _by_rank(draw, _ENGLISH_ENDINGS)


def _tweet(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.1:
        return "@user"
    if kind < 0.2:
        return "#" + _english(draw) + _english(draw)
    if kind < 0.3:
        return draw.choice(_EMOJI)
    return _english(draw)


_MAKERS = {
    "english": (_english, " ", "."),
    "tweets": (_tweet, " ", "!"),
    "turkish": (_turkish, " ", "."),
    "arabic": (_arabic, " ", "؟"),
    "chinese": (_chinese, "", "。"),
}
LANGUAGES = tuple(_MAKERS)


def synthetic_text(language: str, sentences: int, seed: int) -> str:
    """Sentences of random words, one per line."""
    make, space, end = _MAKERS[language]
    draw = random.Random(f"{language} {seed}")
    lines = []
    for _ in range(sentences):
        words = [make(draw) for _ in range(draw.randint(4, 14))]
        lines.append(space.join(words) + end + "\n")
    return "".join(lines)


# * is replaced by a word, ~ by a number.
_FRAMES = {
    "english": (
        _english_content,
        """
        In ~, the * was * near the old *.
        It is known for its * and its *.
        The * did not * until the * had *.
        Most of the * were *, but some * remained.
        According to the report, * made every * more *.
        She wrote that * was more * than *.
        The * has about ~ *.
        After the war the * became a *.
        """,
    ),
    "tweets": (
        _english_content,
        """
        @user the * is so * today 😂
        just saw the * about #* https://t.co/*~
        can't believe they * the * again 🔥🔥
        stay * everyone, * the * ❤️ #covid19
        why is nobody talking about *? #* @user @user
        ~ new cases of * in * &amp; * today https://t.co/*~
        thank you @user for the * 👍🏽 so *!!!
        """,
    ),
    "turkish": (
        _turkish,
        """
        Bugün * ile * hakkında konuştuk.
        Bu * çok güzeldi ama * yoktu.
        ~ yılında * yeniden yapıldı.
        Annem bana ~ * ve * aldı.
        Bence * her zaman * kadar önemlidir.
        Kimse bilmiyor, * nerede.
        Akşam olunca * yavaşça * doğru yürüdü.
        Yağmurdan sonra * daha da * oldu.
        """,
    ),
    "arabic": (
        _arabic,
        """
        في عام ~ كانت * من أهم *.
        قال * إن * لم يكن هنا أمس.
        هذا * جميل جدا مثل *.
        لا أعرف لماذا * بعد *.
        صباح الخير يا * كيف * اليوم؟
        كل * في * يريد ~ من *.
        ذهبنا إلى * ثم عدنا مع *.
        شكرا على * و* يا صديقي!
        """,
    ),
    "chinese": (
        _chinese,
        """
        *是*的一个城市，人口约~人。
        ~年，*在*成立。
        他们认为*比*更重要。
        *的主要产品是*和*。
        由于*，*没有继续发展。
        这里有很多*，也有*。
        *位于*的东部，面积~平方公里。
        后来*改名为*。
        """,
    ),
}


def sentences(language: str, count: int, seed: int) -> list[str]:
    """Sentences that resemble real ones: frames filled with words and numbers."""
    make, text = _FRAMES[language]
    frames = [line.strip() for line in text.strip().splitlines()]
    draw = random.Random(f"{language} sentences {seed}")

    def fill(slot: re.Match[str]) -> str:
        return str(draw.randint(2, 2030)) if slot.group() == "~" else make(draw)

    filled = (re.sub("[*~]", fill, draw.choice(frames)) for _ in range(count))
    return [sentence[0].upper() + sentence[1:] for sentence in filled]
