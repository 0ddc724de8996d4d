"""Remnants of other formats in raw text: entities, tags, and characters lost in a conversion.

They are counted before cleaning, so that the stage can say which option removes them.
"""

import re
from collections import Counter
from functools import lru_cache
from html.entities import html5


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements of HTML that are found in other text: those that end a line, and all.
BLOCK_NAMES = _names(
    "article blockquote body br center dd div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 "
    "head header hr html li main nav ol p pre section table tbody td tfoot th thead title tr ul"
)
TAG_NAMES = BLOCK_NAMES | _names(
    "a abbr acronym b big cite code del em font i img iframe input ins label link meta nobr q s "
    "script small span strike strong style sub sup tt u var wbr"
)
# A tag as in HTML: `a < b > c` and `<i love you>` are none.
_VALUE = r"\"[^\"<>\n]*+\"|'[^'<>\n]*+'|[^\s\"'<>]++"
_ATTRIBUTE = rf"[ \t]++[\w:-]++[ \t]*+=[ \t]*+(?:{_VALUE})"
TAG = re.compile(rf"</?+([A-Za-z][A-Za-z0-9]*+)(?:{_ATTRIBUTE})*+[ \t]*+/?+>")
ENTITY = re.compile(r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def count_remnants(text: str, counts: Counter[str]) -> None:
    """Adds the entities, tags and replacement characters (U+FFFD) in some lines of raw text."""
    if "&" in text:
        counts["raw_html_entities"] += sum(map(_is_entity, ENTITY.findall(text)))
    if "<" in text:
        # By name: most of what stands between < and > is `<unk>` or the like.
        names = Counter(TAG.findall(text))
        counts["raw_html_tags"] += sum(
            count for name, count in names.items() if name.lower() in TAG_NAMES
        )
    if not text.isascii() and "\ufffd" in text:
        counts["raw_replacement_characters"] += text.count("\ufffd")


@lru_cache(maxsize=4096)
def _is_entity(entity: str) -> bool:
    return entity[1] == "#" or entity[1:] in html5
