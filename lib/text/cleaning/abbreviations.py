"""Abbreviations, by whether their full stop can end a sentence.

One list serves all languages, since the language of a line is not known: English, German, French,
Spanish, Portuguese, Italian, Dutch, Polish, Turkish, Russian, Ukrainian, and a few words of others.
What is an ordinary word of one of them is an abbreviation only where something says so: a capital
letter (Sen. Smith; Turkish sen is "you"), a number (art. 5) or the words around it (ad es.). Some
are not listed at all (French Me, for maître).

All are without the last full stop.
"""

import re
from typing import Literal

# Whether the full stop of an abbreviation ends a sentence before a capital letter or a number:
#   open      no: a name, a number or an example follows
#   doubtful  only before a word of STARTERS
#   number    not before a number
#   word      the same, and without a number it is an ordinary word, even before a small letter
#   context   doubtful where CONTEXTS says so, otherwise an ordinary word
#   end       not before a number
#   roman     a Roman numeral: it may be an ordinal number (II. Mahmut)
Kind = Literal["open", "doubtful", "number", "word", "context", "end", "roman"]

# In lower case, capitalised or in capitals.
_ANY_CASE: dict[Kind, str] = {
    "open": """
        mr mrs messrs dr drs approx cf viz resp incl excl
        hrn frl bzw evtl ggf vgl inkl exkl zzgl geb verh insb hrsg lfd kgl
        mme mlle vve sra srta sres dña sigg sigra dott avv dhr mevr bijv
        tzw inż woj godz zob płk św doç yrd arş öğr uzm bkz krş örn
        ul ул проф акад доц напр св пл
    """,
    "doubtful": """
        prof profs gen dept ave blvd eds lt capt cpt cmdr sgt cpl supt pvt eg ie hr st mt ing dipl
        bes hl éd coll ud uds vd vds avda depto vs jl hab tys proc jw pow gm jh jhd aufl mgr
        str inc ltd corp bros jr sr esq ed univ assn intl br yy
        тыс ср пр англ лат рос укр грец див тис
    """,
    "number": """
        nr nrs pp pg pgs vols eqs ss ca kap abb bd bde ziff pág págs núm núms pag blz sf faks env
        jan feb apr aug oct nov
        стр корп гл ст кв
    """,
    "word": """
        no nos p para par cl num vol ver mar jun jul dec sep sept art fig figs eq sec sect tab ch
        chap cap est ext gest abs tel ust n n° nº t s c род рис ум мал п № т
    """,
    "context": "im им ім см г",
    "end": """
        etc ecc usw enz itd itp ff cm km kg mg ml ft lb lbs hrs min vb гг грн млн млрд руб др
    """,
}
# Capitalised or in capitals.
_CAPITALIZED: dict[Kind, str] = {
    "open": "Ms Mx Mgr Ste Fr Dra Dras Sn Gör Sig Ir Mw",
    "doubtful": """
        Sen Rep Gov Col Hon Pres Rev Maj Brig Adm Det Mag Op Av Al Alb Cad Sok Mah Apt Co Mio Mrd
    """,
    "context": "Hz",
}
# As written here.
_EXACT: dict[Kind, str] = {
    "open": "v mw ds sog MM",
    "doubtful": "np",
    "word": "apt cad sok mah rev",
    "context": "es al av op on ok mm oz",
    "end": "gov rep col pres adm brig",  # "gov. smith" is lower-cased text
}
# With full stops within; in any case.
_DOTTED: dict[Kind, str] = {
    "open": "e.g i.e z.b d.h u.a o.ä i.d.r z.t u.u s.o s.u v.a p.ex d.ª т.е т.к т.н",
    "doubtful": """
        ph.d m.d b.a m.a m.s b.s d.c u.s u.k u.n e.u u.s.a u.s.s.r n.y l.a a.m p.m a.d b.c b.c.e
        c.e a.k.a o.a u.s.w v.chr n.chr ee.uu s.a s.l s.p.a s.r.l m.in m.ö a.ş ltd.şti
    """,
    "end": "т.д т.п",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _roman(number: int) -> str:
    tens, ones = divmod(number, 10)
    signs = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    return ("", "X", "XX", "XXX", "XL")[tens] + signs[ones]


# Those of one letter are treated as initials, except before an abbreviation ("vol. V").
ROMAN_NUMERALS = frozenset(map(_roman, range(1, 50)))


def _kinds() -> dict[str, Kind]:
    def in_capitals(kind: Kind) -> Kind:
        return "doubtful" if kind == "open" else kind  # MS is also a state and a disease

    kinds: dict[str, Kind] = {}
    for kind, words in _ANY_CASE.items():
        for word in words.split():
            kinds |= {word: kind, word.capitalize(): kind, word.upper(): in_capitals(kind)}
    for kind, words in _CAPITALIZED.items():
        for word in words.split():
            kinds |= {word: kind, word.upper(): in_capitals(kind)}
    for table in (_EXACT, _DOTTED):
        for kind, words in table.items():
            kinds |= dict.fromkeys(words.split(), kind)
    return kinds | dict.fromkeys((each for each in ROMAN_NUMERALS if len(each) > 1), "roman")


KINDS = _kinds()

# Polish im. and Russian им. ("named after") are also pronouns ("them"). They are abbreviations
# after the word for an institution, and before an initial, a quotation mark or the genitive of a
# surname.
_NAMED = re.compile(
    "(?:szkoł|lice|uniwer|politech|akadem|instyt|muze|teatr|bibliot|park|plac|stadion|szpital"
    "|fundac|stowarz|stoczn|nagrod|zakład|gimnaz|przedszk|centr|konkurs|festiw|ośrod|filharm|rond|lotnisk|pułk"
    "|завод|фабрик|унив|інстит|инстит|акад|школ|лице|ліце|гимназ|гімназ|театр|музе|библи|біблі"
    "|парк|площ|улиц|вулиц|стадион|стадіон|фонд|преми|премі|больниц|лікарн|госпит|консерв|училищ"
    "|колхоз|совхоз|аэропорт|орден|конкурс|турнир|кубок|двор|клуб|станц|оркестр|комбин)"
    r"[^.!?¦]*¦|¦(?:\w\.|[\"“„«]|\w+(?:[sc]kiego|ina|[кс]ого|[оеё]ва|ина|ына|ен[кс]а)\b)",
    re.IGNORECASE,
)
_NO_NUMBER_BEFORE = re.compile(r"(?:^|[^\d ]) ?\b\w+¦")
# Patterns that make a word an abbreviation, searched for in its line, with ¦ after the word and
# without its full stop and the next space: "ad es¦Milano".
CONTEXTS = {
    "es": re.compile(r"\b(?:[Aa]d|[Pp]er|[Pp]\.) es¦"),
    "al": re.compile(r"\bet al¦"),
    "art": re.compile(r"\b(?:a|da|de|ne|su)ll['’]art¦|¦(?:del|cit|roman)"),
    "ok": re.compile(
        r"¦(?:[0-9]|tysi|p[oó]ł|st[ou]|dw|trz|kilk|milion|ml[nd]|godz)"
    ),  # Polish: about
    "av": re.compile(r"¦J\b"),  # av. J.-C.
    "op": re.compile(r"¦(?:cit\b|[0-9])"),
    "on": re.compile(r"['’]on¦"),  # l'on. Rossi
    "im": _NAMED,
    "им": _NAMED,
    "ім": _NAMED,
    "см": _NO_NUMBER_BEFORE,  # "see", or centimetres
    "oz": _NO_NUMBER_BEFORE,  # Slovenian "or", or ounces
    "mm": _NO_NUMBER_BEFORE,  # Finnish "among others", or millimetres
    "г": _NO_NUMBER_BEFORE,  # "city", or "year"
    "hz": _NO_NUMBER_BEFORE,  # Turkish Hz. Ali, or hertz
}

# Roman numerals come before names, as ordinal numbers, in Turkish, Hungarian and some others. In
# most languages they come after them, so that a full stop is the end (World War II). They are
# ordinal numbers after nothing, a mark, a Turkish suffix, or a word that needs a noun after it...
BEFORE_ORDINAL = re.compile(
    r"(?:^|[^\w\s)\]”»’]\s?|['’](?!re|ve|ll)[a-zçğıöşü]{2,5}\s"
    r"|\b(?:sultan\w*|padişah\w*|kral\w*|papa|çar\w*|imparator\w*|şah\w*|prens\w*|pápa|király|császár"
    r"|sonra|önce|ancak|fakat|ama|ise|yani|ve|ile|bu|o|da|de|için|gibi|kadar|olan|oğlu|kardeşi|babası"
    r"|der|die|das|den|dem|des|ein|eine|einem|einer|im|am|vom|zum|zur|beim|ins"
    r"|az?|the|of|by|from|under|na|v|u|z|od|do)\s)$",
    re.IGNORECASE,
)
# ... or in a line with letters of these languages (Romanian may have ş, but beside ă)...
ORDINALS_FIRST = re.compile("[ğĞıİőŐűŰ]|^(?=.*[şŞ])(?!.*[ăĂţŢ])")
# ... or after a word in lower case, unless the line has a word of a language where they come last.
NUMERALS_LAST = re.compile(
    r"\b(?:the|of|and|is|was|were|to|with|for|by"
    r"|phase|stage|type|class|grade|part|chapter|section|level"
    r"|el|los|las|del|una|por|para|con|que|siglo|du|les|une|dans|pour|est|et|il|nel|della|di|che|per"
    r"|secolo|tipo|parte|um|uma|com|no|do|os|século|och|är|av|som|att|det|del|er|og|van|het|een|deel"
    r"|w|i|się|wieku|și|şi|în|cu|secolul|anexa)\b",
    re.IGNORECASE,
)
# A number after these is not an ordinal number with a full stop ("on May 5. Germany").
MONTHS = _words(
    """
    January February March April May June July August September October November December
    """
)

# Words that often begin a sentence and seldom a name.
STARTERS = _words(
    """
    the a an he she it they we you i this that these those there here his her its their our my your
    in on at by for from with as of to if when while where what who why how which but and or so yet
    however although though after before since because until during then now also some many most
    all both each every no not one two
    another any are as be can could did do does even first for had has have just like maybe
    never nothing once only other perhaps please she so such than thank too was were whether would
    yes
    der die das ein eine er sie es wir ihr ich in im am auf aus bei mit nach von zu und aber doch
    wenn als auch dies diese dieser dann danach damit heute hier jetzt nun nur noch vor seit seine
    ihre man alle viele beim vom durch für gegen über unter während weil was wer wie wo daher
    het een hij zij wij maar dat dit deze er ook dus toen
    det hon jag jeg vi men och og så när når om på för nu
    hän me he mutta ja kun niin nyt
    le la les un une il elle ils elles nous vous je ce cette ces en dans mais et on son ses leur
    où quand comme après avec pour puis alors aussi
    el los las una por con pero y este esta su sí no también ahora después entonces cuando como
    todo todos ella ellos sus
    os as um uma ele ela eles elas eu não mas quando isso este essa em no
    il lo gli io lui noi non questo questa poi
    bu şu o bir ve ama ancak sen biz siz onlar bunlar bunun buna bunu ayrıca fakat çünkü daha
    sonra böyle şimdi her hiç çok
    to nie jest ale w z ona ono oni my gdy kiedy jak co czy tak teraz potem wszystko jego jej
    je v pro při když také dnes
    да нет там вот в на и но он она оно они это мы вы я по с из потом тогда когда если как что кто
    где этот эта эти его её их все всё так теперь сейчас здесь для при после об за от до не ещё
    він вона воно вони ми ви це але й після коли якщо як що той та
    """
)
