"""A finding's measured value against its limit, as a small scale: for the page a picture, for text a row of signs.

Which side of the limit is bad follows from the finding itself: the value lies there. Values far apart lie on a
logarithmic scale, else the smaller of them would vanish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import svg
from .scale import TINY, Axis, finite
from .words import number, percent

_APART = 30  # times: from here on only a logarithm shows both
_AIR = 1.12  # right of the larger value
_CELLS = 24
_WIDE = ("═", "─", "┃", "●")
_ASCII = ("=", "-", "|", "o")


@dataclass(frozen=True)
class Gauge:
    """Where value and limit lie between 0 and 100, and what that means in words."""

    value: float
    limit: float
    low: str
    high: str
    words: str
    log: bool


def of(measured: float | None, limit: float | None) -> Gauge | None:
    """None where there is no limit, or one of the two is not finite."""
    if measured is None or limit is None or not (finite(measured) and finite(limit)):
        return None
    axis = _axis(measured, limit)
    return Gauge(
        value=_within(axis.at(measured)),
        limit=_within(axis.at(limit)),
        low=number(axis.low),
        high=number(axis.high),
        words=_words(measured, limit),
        log=axis.log,
    )


def _axis(measured: float, limit: float) -> Axis:
    low, high = sorted((measured, limit))
    if low > TINY and high / low > _APART:
        return Axis(float(f"{low / 3:.1g}"), _round(2 * high), log=True)
    return Axis(-_round(-_AIR * low) if low < 0 else 0, (_round(_AIR * high) if high > 0 else 0) or float(low >= 0))


def _round(end: float) -> float:
    """Up to the next number of two digits: what the end of a scale is called."""
    unit = 10.0 ** (math.floor(math.log10(end)) - 1) if end > TINY else 0.0
    return float(f"{math.ceil(end / unit - 1e-9) * unit:.2g}") if unit else end


def _within(position: float) -> float:
    return min(max(position, 0.0), 100.0)


def _words(measured: float, limit: float) -> str:
    """'33 times the limit'; '' where a ratio tells nothing."""
    if limit <= TINY or measured <= 0:
        return "at the limit" if measured == limit else ""
    ratio = measured / limit
    if not finite(ratio):
        return ""
    if 0.95 <= ratio <= 1.05:
        return "at the limit" if measured == limit else "close to the limit"
    if ratio > 1:
        return f"{number(float(f'{ratio:.2g}'))} times the limit"
    return f"{percent(float(f'{ratio:.2g}'))} of the limit"


def ratio(measured: float | None, limit: float | None) -> str:
    """'33 times the limit', or ''."""
    gauge = of(measured, limit)
    return gauge.words if gauge is not None else ""


def picture(measured: float | None, limit: float | None) -> str:
    """The scale as SVG with its own description; '' where there is none."""
    gauge = of(measured, limit)
    if gauge is None or measured is None or limit is None:
        return ""
    start, end = sorted((gauge.value, gauge.limit))
    near = min(gauge.value, gauge.limit) if gauge.value > gauge.limit else gauge.value
    said = f"{number(measured)} measured, limit {number(limit)}" + (f": {gauge.words}" if gauge.words else "")
    said += ", on a logarithmic scale" if gauge.log else ""
    side = 'text-anchor="end" dx="-5"' if gauge.limit > 50 else 'dx="5"'
    body = (
        '<rect class="track" y="14" width="100%" height="10" rx="2"/>'
        f'<rect class="kept" y="14" width="{svg.percent(near)}" height="10" rx="2"/>'
        f'<rect class="beyond" x="{svg.percent(start)}" y="14" width="{svg.percent(end - start)}" height="10"/>'
        f'<line class="bound" x1="{svg.percent(gauge.limit)}" x2="{svg.percent(gauge.limit)}" y1="3" y2="28"/>'
        f'<circle class="value" cx="{svg.percent(gauge.value)}" cy="19" r="6"/>'
        f'<text x="{svg.percent(gauge.limit)}" y="9" {side}>limit</text>'
        f'<text y="40">{svg.esc(gauge.low)}</text>'
        f'<text x="100%" y="40" text-anchor="end">{svg.esc(gauge.high + " (log)" * gauge.log)}</text>'
    )
    return f'<svg class="against" height="44" width="100%" role="img" aria-label="{svg.esc(said)}">{body}</svg>'


def row(measured: float | None, limit: float | None, *, unicode: bool = True) -> str:
    """The scale in signs, the limit as a bar and the value as a dot: '────┃═══════●──'.

    '' where there is none, the two are the same, or the limit is 0."""
    gauge = of(measured, limit)
    if gauge is None or measured == limit or limit == 0:
        return ""  # where the limit is 0, every scale looks the same
    beyond, plain, bound, dot = _WIDE if unicode else _ASCII
    value, limit_at = (round((_CELLS - 1) * at / 100) for at in (gauge.value, gauge.limit))
    if value == limit_at and measured != limit:
        value = value + 1 if gauge.value > gauge.limit else value - 1
        value, limit_at = (value, limit_at) if 0 <= value < _CELLS else (limit_at, limit_at - (value - limit_at))
    cells = [plain] * _CELLS
    for place in range(min(value, limit_at), max(value, limit_at)):
        cells[place] = beyond
    cells[limit_at] = bound
    cells[value] = dot
    return "".join(cells)
