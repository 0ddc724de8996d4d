"""Curves as an SVG image, written by hand: no library, nothing to load."""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 200, 30, 50
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b")

Curve = Sequence[tuple[float, float]]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between two values: steps of 1, 2 or 5 times a power of ten."""
    step = 10.0**-9
    factors = (2, 2.5, 2)
    number = 0
    while (high - low) / step > count:
        step *= factors[number % 3]
        number += 1
    first = -(-low // step)
    return [
        round((first + index) * step, 9)
        for index in range(count + 1)
        if (first + index) * step <= high + step / 1e6
    ]


def svg(
    title: str, x_label: str, y_label: str, curves: Mapping[str, Curve], dashed: Sequence[str] = ()
) -> str:
    """One line for each curve, its name at the right.

    Args:
        curves: name -> points from left to right.
        dashed: names of those to draw dashed.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        raise ValueError("no curve has a point")
    x_low, x_high = 0.0, max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.05 * (y_high - y_low) or 0.5
    y_low, y_high = y_low - margin, y_high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_low) / (y_high - y_low)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    def text(x: float, y: float, words: str, anchor: str = "middle", extra: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'

    left, bottom = place(x_low, y_low)
    right, top = place(x_high, y_high)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        text((left + right) / 2, _TOP - 12, title, extra=' font-size="14"'),
        text((left + right) / 2, _HEIGHT - 12, x_label),
        text(
            16,
            (top + bottom) / 2,
            y_label,
            extra=f' transform="rotate(-90 16 {(top + bottom) / 2:.1f})"',
        ),
    ]
    for value in ticks(y_low, y_high):
        _, y = place(x_low, value)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="#ddd"/>')
        parts.append(text(left - 6, y + 4, f"{value:g}", "end"))
    for value in ticks(x_low, x_high):
        x, _ = place(value, y_low)
        parts.append(f'<path d="M{x:.1f} {bottom:.1f}v5" stroke="#888"/>')
        parts.append(text(x, bottom + 18, f"{value:g}"))
    parts.append(
        f'<path d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}" fill="none" stroke="#888"/>'
    )
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in curve)
        dash = ' stroke-dasharray="6 4"' if name in dashed else ""
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        y = _TOP + 18 * (number + 1)
        parts.append(
            f'<path d="M{right + 12:.1f} {y - 4}h24" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        parts.append(text(right + 42, y, name, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"
