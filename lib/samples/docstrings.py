"""English prose from docstrings: paragraphs without code, tables and markup.

An example of what `paragraphs_of` and `reason_to_drop` make of a docstring:

    Open the valve of the :class:`~plant.Boiler`, slowly        Open the valve of the Boiler,
    and ``never`` in a *hurry*.                                 slowly and never in a hurry.

    >>> open_valve()                                            (dropped)

    .. note:: The boiler is old                                 The boiler is old and has to be
        and has to be treated with care.                        treated with care.
"""

import inspect
import re
from collections.abc import Iterator
from itertools import pairwise

# --- From docstring to paragraphs

_FENCE = re.compile(r"(```|~~~)[^`]*")
_PROMPT = re.compile(r">>>|In \[\d*\]:|\$ ")
_RULER = re.compile(r"([-=*~^\"'`#+_.:])\1{2,}|[-=+|:\s]{4,}")
_DIRECTIVE = re.compile(r"\.\.(\s|$)|:(rtype|type|vartype|raises?)\b")
_REMARK = re.compile(r"\.\. (note|warning|tip|hint|important|attention|caution)::\s*")
_FIELD = re.compile(
    r":(param|parameter|arg|key|returns?|yields?|ivar|var)\b[^:`]*:(\s+|$)|"
    r"(Returns?|Yields?):\s+(?=\S)"
)
_BULLET = re.compile(r"([-*+•]|\(?(\d+|[a-z])[.)])\s+(?=\S)")
# Sections that only list names (the conditions of exceptions are not sentences either) ...
_INDEX = re.compile(r"(references?|see also|methods|routine listings|raises|warns):?", re.I)
# ... and sections that explain names, as "name: explanation" or below a line "name : type".
_TABLE = re.compile(
    r"(((keyword|call|other) )?(args|arguments|parameters|params)|attributes|returns?|yields?|"
    r"input shape|output shape|fields):?",
    re.I,
)
_ENTRY = re.compile(r"[*`\"']{0,2}[\w.]+[`\"']?(\s?\([^)]*\))?:\s+(?=\S)")
_ENTRY_HEAD = re.compile(r"\S.*?\s:(\s|$)|([*`]*\w+`?(, |:?$))+$")


def _prose_lines(docstring: str) -> Iterator[tuple[str, bool]]:
    """Lines of a docstring, each with whether it is part of a section that explains names.

    Blank lines replace code, rulers and headings. A name with its explanation, or the text of a
    directive, becomes an item of a list, "- text".
    """
    # Lines indented deeper than these are left out, or belong to a section that explains names.
    hidden_below: int | None = None
    table_below: int | None = None
    in_fence = in_example = False
    for line, following in pairwise([*inspect.cleandoc(docstring).splitlines(), ""]):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        is_fence = _FENCE.fullmatch(text) is not None
        in_fence ^= is_fence
        if in_fence:
            continue
        if text and _RULER.fullmatch(following.strip()):  # a heading, which ends the section
            hidden_below = -1 if _INDEX.fullmatch(text) else None
            table_below = -1 if _TABLE.fullmatch(text) else None
            yield "", False
            continue
        if hidden_below is not None and (not text or indent > hidden_below):
            continue
        hidden_below = None
        if table_below is not None and text and indent <= table_below:
            table_below = None
        in_table = table_below is not None
        in_example = bool(text) and (in_example or _PROMPT.match(text) is not None)
        field = _FIELD.match(text)
        entry = _ENTRY.match(text) if in_table else None
        # In numpydoc's form explanations are below the name; sometimes "name : type" lacks the
        # first space.
        is_type = table_below == -1 and following.startswith(" " * (indent + 1))
        is_name = in_table and (_ENTRY_HEAD.match(text) or (entry and is_type))
        remark = _REMARK.match(text)
        if in_example or is_fence or _RULER.fullmatch(text):
            line = ""
        elif is_name or entry:
            line = " " * indent + "- " + text
        elif field:  # ":param int valve: The valve" -> "valve: The valve"
            name = field.group().strip(": ").rpartition(" ")[2]
            shown = f"{name}: " if " " in field.group().strip() else ""
            line = " " * indent + "- " + shown + text[field.end() :]
        elif remark:
            line = " " * indent + "- " + text[remark.end() :]
        elif _DIRECTIVE.match(text) or _INDEX.fullmatch(text):
            hidden_below = indent
            line = ""
        elif _TABLE.fullmatch(text):
            table_below = indent
            line = ""
        yield line, in_table or field is not None
        if line.endswith("::"):
            hidden_below = indent
            yield "", False


# Markup, and what remains of it. Every kind contains one of these characters.
_MARK = re.compile(r"[`*\[$\\]")
_MARKUP = (
    (re.compile(r":[a-zA-Z][\w:+.-]*:`([^`<]+?)\s+<[^`>]*>`"), r"\1"),  # :role:`text <target>`
    (re.compile(r":[a-zA-Z][\w:+.-]*:`~(?:[^`]*\.)?([^`.]+)`"), r"\1"),  # :role:`~module.name`
    (re.compile(r":[a-zA-Z][\w:+.-]*:`!?([^`]+)`"), r"\1"),  # :role:`text`
    (re.compile(r"`([^`<]+?)\s+<[^`>]*>`_{0,2}"), r"\1"),  # `text <target>`_
    (re.compile(r"`+~?([^`]+)`+_{0,2}"), r"\1"),  # ``text``
    (re.compile(r"\s?\[[#*\w]+\]_"), ""),  # footnote [1]_
    (re.compile(r"!?\[([^\]]+)\]\([^()]*(?:\([^()]*\)[^()]*)*\)"), r"\1"),  # [text](target)
    (re.compile(r"(?<![\w\]])\[([^\]]+)\]\[[^\]]*\]"), r"\1"),  # [text][target]
    (re.compile(r"\$+([^$]+)\$+"), r"\1"),  # $formula$
    (re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])([^*]*[^\s*])\1(?![\w*])"), r"\2"),  # *emphasis*
    (re.compile(r"\\(?=[*_`|])"), ""),  # \*
)
_LAST_STOP = re.compile(r".*[.!?][\"')\]]*(?=\s+[A-Z(\"'])", re.S)
_LACKS_STOP = re.compile(r"\w[\"')]?$")  # as many summary lines do
_ENDS_SENTENCE = re.compile(r"[.!?][\"')\]]*$")


def _plain(text: str) -> str:
    """The text without markup, with single spaces, cut after its last complete sentence."""
    if _MARK.search(text):
        for pattern, replacement in _MARKUP:
            text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    if not _ENDS_SENTENCE.search(text):  # "... For example:" introduced code.
        whole = _LAST_STOP.match(text)
        text = whole.group() if whole else text
    return text


def paragraphs_of(docstring: str) -> Iterator[tuple[str, bool]]:
    """Paragraphs of a docstring as plain text, each with whether it explains a parameter.

    A paragraph is one line. Not all of them are prose: see `reason_to_drop`.
    """
    block: list[str] = []
    block_in_table = False
    is_summary = True
    last_indent = 0
    last_bullet: re.Match[str] | None = None
    for line, in_table in [*_prose_lines(docstring), ("", False)]:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        bullet = _BULLET.match(text)
        goes_on = indent == last_indent or (last_bullet is not None and indent > last_indent)
        if block and (not text or bullet or not goes_on):
            paragraph = _plain(" ".join(block))
            if (is_summary or block_in_table) and _LACKS_STOP.search(paragraph):
                paragraph += "."
            yield paragraph, block_in_table
            block, is_summary = [], False
        if text:
            block_in_table = in_table or (block_in_table and bool(block))
            block.append(text[bullet.end() :] if bullet else text)
        last_indent, last_bullet = indent, bullet


# --- What counts as prose

_MIN_WORDS = 6
_WORD = re.compile(r"[A-Za-z]{2,}")
# Frequent in English sentences; rare in lists of names, signatures and formulas.
_FUNCTION_WORDS = re.compile(
    r"\b(the|an?|of|to|in|is|are|be|and|or|for|this|that|it|its|if|with|by|on|as|at|not|no|when|"
    r"from|which|will|can|may|must|should|has|have|was|you|we|these|there|than|then|but|all)\b",
    re.I,
)
_CODE = re.compile(r"[{}\\|$]|::|://|>>>|TODO")
_SIGN = re.compile(r"[<>=^~&#@%+*/\[\]]")
_START = re.compile(r"[\"'(]?([A-Z0-9]|\w+([_.]\w|\())")  # Only names begin with a small letter.
_LICENCE = re.compile(
    r"copyright|licen[cs]e|warrant(y|ies)|all rights reserved|permission is hereby|redistribut",
    re.I,
)


def reason_to_drop(paragraph: str, explains: bool = False) -> str | None:
    """The reason why a paragraph is not English prose, or None if it is.

    Args:
        explains: whether it explains a parameter; then it may begin with the name of the parameter.
    """
    if len(_WORD.findall(paragraph)) < _MIN_WORDS:
        return "short"
    if not _ENDS_SENTENCE.search(paragraph) or not (explains or _START.match(paragraph)):
        return "fragment"
    if (
        _CODE.search(paragraph)
        or len(_SIGN.findall(paragraph)) > 0.03 * len(paragraph)
        or not paragraph.isprintable()
    ):
        return "code"
    if len(_FUNCTION_WORDS.findall(paragraph)) < 0.1 * paragraph.count(" "):
        return "list"
    return "licence" if _LICENCE.search(paragraph) else None
