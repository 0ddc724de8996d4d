"""Abbreviations, by whether their full stop can end a sentence.

Lists for English, German, French, Spanish, Portuguese, Italian, Dutch, Polish, Turkish, Russian and
Ukrainian, in lower case, without the last full stop. One list serves all languages: the language of
a line is not known, and hardly any of these is an ordinary word at the end of a sentence in another
language.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Never at the end of a sentence: a name, a number or an example follows.
OPEN = _words(
    """
    mr mrs ms messrs dr drs prof profs gen sen rep gov col capt cpt cmdr lt sgt cpl maj brig adm rev
    hon pres supt v det st ste mt mx vs fig figs tab eq eqs sec sect chap ch approx cf viz ca
    eds vols ext pvt est resp incl excl dept ave blvd
    e.g eg i.e ie
    hr hrn fr frl frau ing dipl mag z.b d.h u.a o.ä i.d.r z.t u.u s.o s.u v.a bzw evtl ggf vgl inkl
    exkl zzgl geb gest verh sog insb bes abs art str bd bde jh jhd hrsg aufl ziff lfd kgl hl
    mme mlle mm mgr me vve env éd coll p.ex
    dra dras sra srta sres dña don d.ª ud uds vd vds pág págs núm núms cap avda depto
    sig sigg sigra dott avv on pag fig es ecc.es
    dhr mevr mw ir ing jl bijv blz
    np tzw ul prof hab inż woj pow gm ok godz ust ds tys proc jw zob płk gen im św al
    doç yrd arş gör av sn alb öğr uzm op bkz krş hz örn cad sok mah apt tel faks sf
    т.е т.к т.н им ул стр рис проф акад доц тыс см напр ср св пр пл корп род ум
    англ лат див мал грец тис рос укр
    """
)

# An abbreviation if a number follows ("No. 5"); otherwise a word that may end a sentence ("no.").
BEFORE_NUMBER = _words(
    """
    no nos nr nrs num p pp pg pgs vol art ss par para cl ver
    jan feb mar apr jun jul aug sep sept oct nov dec
    n n° nº t s c ca kap abb tel г гл п № ст т
    """
)

# Possibly the last word of a sentence: the next word decides.
EITHER = _words(
    """
    etc al inc ltd co corp bros jr sr esq ph.d phd m.d b.a m.a m.s b.s d.c u.s u.k u.n e.u u.s.a
    u.s.s.r n.y l.a a.m p.m a.d b.c b.c.e c.e a.k.a ed univ assn intl
    ft cm mm km kg mg ml lb lbs oz hrs min ff
    usw o.a u.s.w mio mrd v.chr n.chr
    ee.uu s.a s.l ecc s.p.a s.r.l enz m.in itd itp vb vs vd a.ş ltd.şti yy m.ö m.s
    br гг грн млн млрд руб т.д т.п др кв
    """
)

# Words that often begin a sentence and seldom a name.
STARTERS = _words(
    """
    the a an he she it they we you i this that these those there here his her its their our my your
    in on at by for from with as of to if when while where what who why how which but and or so yet
    however although though after before since because until during then now also some many most
    all both each every no not one two
    der die das ein eine er sie es wir ihr ich in im am auf aus bei mit nach von zu und aber doch
    wenn als auch dies diese dieser
    le la les un une il elle ils elles nous vous je ce cette ces en dans mais et
    el los las una en por con pero y este esta su
    bu şu o bir ve ama ancak
    да нет там вот в на и но он она они это мы вы я по с из
    """
)
