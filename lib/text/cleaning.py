"""Edits that every text gets before it is split into sentences, each counted by its reason."""

import re
from collections import Counter

# Line separators other than LF would be seen as line ends by some readers and not by others.
_SPACE = re.compile(r"[\s\x1c-\x1f\x85\u2028\u2029]+")
# C0 and C1 controls; white space was handled above. Joiners (ZWJ, ZWNJ) carry meaning and stay.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]+")
_SPECIAL = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK)\]")


def clean_line(line: str, counts: Counter[str]) -> str:
    """One raw line cleaned: white space runs to one space, controls removed.

    Special tokens that stand in the text (`[MASK]`) are opened up (`[ MASK ]`): every BERT
    tokenizer would otherwise take them for its own.

    Args:
        counts: gets the number of edits by reason.
    """
    line, removed = _CONTROL.subn("", line)
    if removed:
        counts["control_characters"] += removed
    line, opened = _SPECIAL.subn(r"[ \1 ]", line)
    if opened:
        counts["special_tokens_in_text"] += opened
    return _SPACE.sub(" ", line).strip()
