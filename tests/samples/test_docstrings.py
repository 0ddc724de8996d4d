"""Prose from docstrings."""

import pytest

from lib.samples.docstrings import paragraphs_of, reason_to_drop

# A docstring with everything that is to be removed, and the paragraphs that remain.
MIXED = """
    Open the valve of the :class:`~plant.Boiler`, slowly
    and ``never`` in a *hurry*; see `the manual <manual.html>`_ before.

    Example
    -------
    >>> valve = open_valve("The boiler is in the cellar and it is old.")
    The valve of the boiler is open and the steam is on its way.

    The valve must be closed again. For this we call::

        close_valve(valve)  # This is the way to close it when it is hot.

    .. code-block:: python

        print("This is a line of code that is left out of the text.")

    .. note:: The boiler is old
        and has to be treated with care.

    Parameters
    ----------
    valve : Valve
        The valve to open, which should be one of those that the
        boiler has on its outer side.
    turns : int, optional
        Number of turns.

    Raises
    ------
    SteamError
        If the steam is too hot for the valve and for all the pipes that lead to it.
"""


KEPT = [
    "Open the valve of the Boiler, slowly and never in a hurry; see the manual before.",
    "The valve must be closed again.",
    "The boiler is old and has to be treated with care.",
    "valve : Valve The valve to open, which should be one of those that the boiler has on its "
    "outer side.",
    "turns : int, optional Number of turns.",
]


def kept(docstring: str) -> list[str]:
    return [
        text
        for text, explains in paragraphs_of(docstring)
        if reason_to_drop(text, explains) is None
    ]


def test_only_prose_remains() -> None:
    assert kept(MIXED) == KEPT


def test_google_style() -> None:
    docstring = """Turn the key of the door.

    Args:
      key: The key that is to be turned in the lock, which
        must fit.
      turns: How often.

    Returns: The door, which is open now but may be closed by the next one who comes.

    Raises:
      LockError: If the key does not fit the lock that the door has.

    ```python
    turn(key)  # This is the way in which the key is turned.
    ```

    The door is said to be [older](old.html) than the house.
    """
    assert kept(docstring) == [
        "Turn the key of the door.",
        "key: The key that is to be turned in the lock, which must fit.",
        "The door, which is open now but may be closed by the next one who comes.",
        "The door is said to be older than the house.",
    ]


def test_a_summary_gets_a_full_stop_and_list_items_become_paragraphs() -> None:
    docstring = """Return the list of all the things

    - The first thing on the list
      is a very long one.
    - The second of the things is not as long.
    """
    assert kept(docstring) == [
        "Return the list of all the things.",
        "The first thing on the list is a very long one.",
        "The second of the things is not as long.",
    ]


@pytest.mark.parametrize(
    ("paragraph", "reason"),
    [
        ("", "short"),
        ("?", "short"),
        ("The end of it.", "short"),
        ("and this is the end of a sentence.", "fragment"),
        ("This is the beginning of a sentence", "fragment"),
        ("The value is {value} unless it is set by the caller.", "code"),
        ("See https://example.org for what else there is to read.", "code"),
        ("The lone surrogate \ud800 is in the middle of this.", "code"),
        ("Alpha, beta, gamma, delta, epsilon, zeta, eta, theta.", "list"),
        ("This file is licensed under the terms of the other file.", "licence"),
        ("The user's “own” café 🙂 is open to all of us.", None),
    ],
)
def test_reasons(paragraph: str, reason: str | None) -> None:
    assert reason_to_drop(paragraph) == reason
