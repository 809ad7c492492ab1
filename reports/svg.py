"""Drawing primitives: axes, lines, bars and marks as SVG that stretches with its box.

Positions are percentages of the plot, so text keeps its size at every width and nothing needs a script. Only paths
cannot take percentages; they lie in a nested picture of 1000 x 1000 units whose strokes do not scale. Colours are
classes, for the dark theme and for print.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import clean
from .scale import Axis, finite
from .words import number

_ROW_NAME = 20  # characters of a layer's name beside a row
POINTS = 240  # a line needs no more: a plot is some 500 pixels wide


@dataclass(frozen=True)
class Table:
    """The numbers behind a picture."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """One picture with its conclusion. `figure` is finished HTML, everything observed in it escaped."""

    key: str
    title: str
    conclusion: str
    figure: str
    legend: tuple[tuple[str, str], ...] = ()
    table: Table | None = None
    rules: tuple[str, ...] = ()
    wide: bool = False
    note: str = ""
    pairs: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()  # of replays: as is, and with the change

    @property
    def empty(self) -> bool:
        """Whether there was nothing to draw."""
        return "<svg" not in self.figure


def esc(text: str) -> str:
    return html.escape(clean.line(text), quote=True)


def percent(position: float) -> str:
    """A position as a percentage with two digits at most."""
    return f"{position:.2f}".rstrip("0").rstrip(".") + "%"


# ------------------------------------------------------------------------------------------------------------- marks


def thin(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float | None]]:
    """Points for a line: the lowest and the highest of each of POINTS/2 shares; None where a value is not finite."""
    points = [(x, y if finite(y) else None) for x, y in zip(xs, ys, strict=False)]
    if len(points) <= POINTS:
        return points
    result: list[tuple[float, float | None]] = []
    shares = POINTS // 2
    for i in range(shares):
        share = points[i * len(points) // shares : (i + 1) * len(points) // shares]
        real = [(x, y) for x, y in share if y is not None]
        if len(real) < len(share):
            result.append((share[0][0], None))
        if real:
            ends = {min(real, key=lambda p: p[1]), max(real, key=lambda p: p[1])}
            result += sorted(ends)
    return result


def line(xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis, style: str) -> str:
    """A line with gaps where values are not finite; a lone point becomes a dot."""
    parts: list[str] = []
    pen, alone = False, False
    for px, py in thin(xs, ys):
        if py is None or not finite(px):
            parts += ["h0"] if alone else []
            pen = alone = False
            continue
        spot = f"{_unit(x.at(px))} {_unit(100 - y.at(py))}"
        parts.append(("L" if pen else "M") + spot)
        alone, pen = not pen, True
    if alone:
        parts.append("h0")
    return f'<path class="line {style}" d="{"".join(parts)}"/>' if parts else ""


def _unit(position: float) -> str:
    return f"{10 * position:.1f}".removesuffix(".0")


def gaps(xs: Sequence[float], ys: Sequence[float], x: Axis) -> str:
    """Hatched bands where values are not finite."""
    runs: list[list[float]] = []
    bad = False
    for px, py in zip(xs, ys, strict=False):
        if finite(py):
            bad = False
        elif bad:
            runs[-1][1] = px
        else:
            runs.append([px, px])
            bad = True
    width = 100 / max(len(xs), 1)
    return "".join(
        f'<rect class="gap" x="{percent(max(x.at(a) - width / 2, 0))}" y="0" height="100%"'
        f' width="{percent(min(x.at(b) - x.at(a) + width, 100))}"/>'
        for a, b in runs[:60]
    )


def dot(px: float, py: float, x: Axis, y: Axis, style: str) -> str:
    if not (finite(px) and finite(py)):
        return ""
    return f'<circle class="dot {style}" cx="{percent(x.at(px))}" cy="{percent(100 - y.at(py))}" r="4"/>'


def across(value: float | None, y: Axis, label: str, style: str, *, left: bool = False) -> str:
    """A horizontal reference line with its label on it."""
    if value is None or not finite(value) or not 0 <= y.at(value) <= 100:
        return ""
    at = percent(100 - y.at(value))
    where = 'x="4"' if left else 'x="100%" text-anchor="end"'
    drop = "1.15em" if y.at(value) > 90 else "-.4em"
    return (
        f'<line class="mark {style}" x1="0" x2="100%" y1="{at}" y2="{at}"/>'
        f'<text class="label {style}" {where} y="{at}" dy="{drop}">{esc(label)}</text>'
    )


def down(value: float | None, x: Axis, label: str, style: str, row: int = 0, *, turn: float | None = None) -> str:
    """A vertical reference line with its label in the given row at the top: beside the line, left of it beyond `turn`;
    without one, over a line in the middle third, where a narrow plot has no room beside it."""
    if value is None or not finite(value) or not 0 <= x.at(value) <= 100:
        return ""
    at = x.at(value)
    first, last = (turn, turn) if turn is not None else (100 / 3, 200 / 3)
    side = 'dx="4"' if at <= first else 'text-anchor="end" dx="-4"' if at > last else 'text-anchor="middle"'
    text = (
        f'<text class="label {style}" x="{percent(at)}" y="{14 + 15 * row}" {side}>{esc(label)}</text>' if label else ""
    )
    return f'<line class="mark {style}" x1="{percent(at)}" x2="{percent(at)}" y1="0" y2="100%"/>{text}'


_APART = 9.0  # percent of the height that two labels need


def names(ends: Sequence[tuple[float, str, str]], y: Axis) -> str:
    """The names of curves right of the plot, each where its curve ends (value, name, style), none on another."""
    parts: list[str] = []
    free = 100.0
    for value, name, style in sorted((end for end in ends if finite(end[0])), key=lambda end: -end[0]):
        height = max(min(y.at(value), free), 0)
        free = height - _APART
        parts.append(_name("100%", 100 - height, f"curve {style}", 'dx="7"', name))
    return "".join(parts)


def beside(px: float, py: float, x: Axis, y: Axis, name: str, style: str) -> str:
    """The name of a curve that ends within the plot, before its end where there is room."""
    at = x.at(px)
    side = 'dx="-8" text-anchor="end"' if at > 20 else 'dx="8"'
    return _name(percent(at), min(max(100 - y.at(py), 5), 95), f"curve {style}", side, name)


def _name(at: str, top: float, style: str, side: str, text: str) -> str:
    return f'<text class="label {style}" x="{at}" y="{percent(top)}" dy=".35em" {side}>{esc(text)}</text>'


# ------------------------------------------------------------------------------------------------------------- frame


def plot(
    key: str,
    title: str,
    conclusion: str,
    x: Axis,
    y: Axis,
    *,
    paths: str = "",
    under: str = "",
    over: str = "",
    x_title: str = "step",
    y_title: str = "",
    style: str = "",
) -> str:
    """A framed plot: grid and ticks, `under` and `over` in percentages, `paths` in the stretched picture."""
    body = (
        f"{_grid(x, y)}{under}{stretched(paths)}{over}{below(x_title + ' (log)' * x.log)}"
        f'<text class="name" x="0" y="0" dx="-8" dy="-.7em">{esc(y_title + " (log)" * y.log)}</text>'
    )
    domain = f' data-x="{x.low!r} {x.high!r} {int(x.log)}"'
    return canvas(key, title, conclusion, 220, body, style=style, data=domain)


def canvas(key: str, title: str, conclusion: str, height: int, body: str, *, style: str = "", data: str = "") -> str:
    """The picture itself: as wide as its box, with a title and its conclusion for those who do not see it."""
    return (
        f'<div class="plot {style}"><svg class="axes" height="{height}" width="100%" role="img"'
        f' aria-labelledby="{key}-t {key}-d"{data}><title id="{key}-t">{esc(title)}</title>'
        f'<desc id="{key}-d">{esc(conclusion)}</desc>{body}</svg></div>'
    )


def below(text: str) -> str:
    """The name of the horizontal axis."""
    return f'<text class="name" x="100%" y="100%" dy="2.7em" text-anchor="end">{esc(text)}</text>'


def x_tick(at: float, label: str) -> str:
    anchor = "start" if at < 1 else "end" if at > 99 else "middle"
    return f'<text class="tick" x="{percent(at)}" y="100%" dy="1.5em" text-anchor="{anchor}">{esc(label)}</text>'


def y_tick(at: float, label: str) -> str:
    """A label with its grid line; `at` counts from the top."""
    y = percent(at)
    return (
        f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
        f'<text class="tick" x="-8" y="{y}" dy=".32em" text-anchor="end">{esc(label)}</text>'
    )


def common_start(names: Sequence[str]) -> str:
    """'encoder.blocks.' where all names begin so: left out, the rest of each name has room to tell them apart."""
    if len(names) < 2 or max(map(len, names)) <= _ROW_NAME:
        return ""
    first, last = min(names), max(names)  # what these two share, all share
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind(".", 0, same) + 1]


def shortened(names: Sequence[str]) -> tuple[list[str], str]:
    """Names without their common start, and the sentence that says so."""
    start = common_start(names)
    note = f"All names begin with “{clean.name(start, 60)}”, left out in the picture" if start else ""
    return [name[len(start) :] for name in names], note


def row_name(y: str, label: str) -> str:
    """The name of a row, left of the plot."""
    name = esc(clean.name(label, _ROW_NAME))
    return f'<text class="tick mono" x="-8" y="{y}" dy=".32em" text-anchor="end">{name}</text>'


def stretched(paths: str) -> str:
    if not paths:
        return ""
    return f'<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">{paths}</svg>'


def _grid(x: Axis, y: Axis) -> str:
    parts = [y_tick(100 - y.at(tick), number(tick)) for tick in y.ticks()]
    parts += [x_tick(x.at(tick), number(tick)) for tick in x.ticks()]
    return "".join(parts) + '<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>'


def sampled(count: int, most: int = 100) -> tuple[list[int], str]:
    """Indices for a table of at most `most` rows, and the sentence that says so."""
    if count <= most:
        return list(range(count)), ""
    stride = math.ceil(count / most)
    kept = sorted({*range(0, count, stride), count - 1})
    return kept, f"Every {stride}th of {count:,} rows."
