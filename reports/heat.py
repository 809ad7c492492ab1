"""Heat maps of gradient norms and updates: a row a layer, a column a step, drawn as a PNG inside the SVG."""

from __future__ import annotations

import base64
import html
import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.evidence import Evidence

from . import clean, svg
from .scale import Axis, finite
from .svg import Chart, Table
from .words import number, plural

_MOST_COLUMNS = 240
_MOST_ROWS = 600
_NUMBERED = 12  # columns

# Viridis, every eighth of the way: even in lightness, safe for colour-blind readers, and it survives grey printing.
_VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
    (170, 220, 50), (253, 231, 37),
)  # fmt: skip
_SHADES = 240  # the pointer reads values from them: fine enough for two digits over six decades
_ZERO, _HOLE = _SHADES, _SHADES + 1


@dataclass(frozen=True)
class _Map:
    """What one heat map shows: a row a layer, a column a sampled step."""

    key: str
    title: str
    unit: str
    conclusion: str
    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    steps: tuple[int, ...]
    rules: tuple[str, ...]


def gradients(evidence: Evidence) -> Chart | None:
    """Gradient norm by layer and step, rows in the order of the forward pass."""
    part = evidence.gradients
    layers = [layer for layer in part.layers if layer.norms] if part else []
    if part is None or not layers:
        return None
    names, values = tuple(layer.name for layer in layers), tuple(layer.norms for layer in layers)
    conclusion = _spread([(name, _median(row)) for name, row in zip(names, values, strict=True)])
    rules = ("exploding-gradients", "vanishing-gradients")
    return _draw(_Map("chart-gradients", "Gradient norms", "norm", conclusion, names, values, part.steps, rules))


def updates(evidence: Evidence) -> Chart | None:
    """Update-to-weight ratio by weight and sampled step."""
    part = evidence.updates
    layers = [layer for layer in part.layers if layer.ratios] if part else []
    if part is None or not layers or len(part.steps) < 2:
        return None
    names, values = tuple(layer.name for layer in layers), tuple(layer.ratios for layer in layers)
    first, last = (_median([row[at] for row in values]) for at in (0, -1))
    conclusion = f"The median ratio over {plural(len(names), 'weight')} went from {number(first)} in step"
    conclusion += f" {part.steps[0]} to {number(last)} in step {part.steps[-1]}."
    title = "Update to weight, step by step"
    return _draw(_Map("chart-update-steps", title, "ratio", conclusion, names, values, part.steps, ()))


def _draw(shown: _Map) -> Chart:
    """Colour on a log scale. The script reads the values under the pointer from the picture's own pixels."""
    sizes = [value for row in shown.values for value in row if finite(value) and value > 0]
    if not sizes:
        nothing = _nothing(shown.title)
        return Chart(shown.key, shown.title, shown.conclusion, nothing, rules=shown.rules, wide=True)
    scale = Axis(min(sizes), max(sizes) if max(sizes) > min(sizes) else min(sizes) * 10, log=True)
    image = _png([[_shade(value, scale) for value in row] for row in _thinned(shown.values)])
    names, left_out = svg.shortened(shown.names)
    height = min(max(24 * len(names), 60), 420)
    figure = _rows_frame(shown, names, height, image, scale) + _colour_bar(scale)
    kept, note = svg.sampled(len(names), 200)
    rows = tuple(
        (clean.name(shown.names[i]), number(row[0]), number(_median(row)), number(row[-1]))
        for i in kept
        if (row := shown.values[i])
    )
    table = Table(("layer", "first", "median", "last"), rows, note)
    return Chart(shown.key, shown.title, shown.conclusion, figure, (), table, shown.rules, wide=True, note=left_out)


def _median(values: Sequence[float]) -> float:
    real = sorted(value for value in values if finite(value))
    return real[len(real) // 2] if real else math.nan


def _spread(medians: Sequence[tuple[str, float]]) -> str:
    real = [(name, value) for name, value in medians if finite(value)]
    if not real:
        return f"No gradient norm of {plural(len(medians), 'layer')} was finite."
    if len(real) == 1:
        return f"The median gradient norm of {clean.name(real[0][0], 40)} is {number(real[0][1])}."
    low, high = min(real, key=lambda item: item[1]), max(real, key=lambda item: item[1])
    return (
        f"The median norm over {plural(len(medians), 'layer')} reaches from {number(low[1])} ({clean.name(low[0], 40)})"
        f" to {number(high[1])} ({clean.name(high[0], 40)})."
    )


def _thinned(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """At most _MOST_ROWS x _MOST_COLUMNS cells: of each share the largest, or what is not finite."""

    def worst(cells: Sequence[float]) -> float:
        return next((cell for cell in cells if not finite(cell)), max(cells, default=math.nan))

    def columns(row: Sequence[float]) -> list[float]:
        count = min(len(row), _MOST_COLUMNS)
        return [worst(row[i * len(row) // count : (i + 1) * len(row) // count]) for i in range(count)]

    wide = max(len(row) for row in rows)
    full = [columns([*row, *[math.nan] * (wide - len(row))]) for row in rows]
    count = min(len(full), _MOST_ROWS)
    shares = [full[i * len(full) // count : (i + 1) * len(full) // count] for i in range(count)]
    return [[worst(cells) for cells in zip(*share, strict=True)] for share in shares]


def _shade(norm: float, scale: Axis) -> int:
    if not finite(norm):
        return _HOLE
    if norm <= 0:
        return _ZERO
    return min(_SHADES - 1, max(0, int(scale.at(norm) / 100 * _SHADES)))


def _palette() -> bytes:
    colours = []
    for i in range(_SHADES):
        at = i / (_SHADES - 1) * (len(_VIRIDIS) - 1)
        low = min(int(at), len(_VIRIDIS) - 2)
        colours += [round(a + (b - a) * (at - low)) for a, b in zip(_VIRIDIS[low], _VIRIDIS[low + 1], strict=True)]
    return bytes([*colours, 24, 24, 27, 0, 0, 0])  # zero: near black; a hole: transparent, the hatch shows through


def _png(rows: Sequence[Sequence[int]]) -> str:
    """Palette indices as a PNG data URI. A heat map of rectangles would be thirty times as large."""
    height, width = len(rows), len(rows[0])
    raw = b"".join(b"\0" + bytes(row) for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
    png += chunk(b"PLTE", _palette()) + chunk(b"tRNS", b"\xff" * (_SHADES + 1) + b"\0")
    png += chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _rows_frame(shown: _Map, names: Sequence[str], height: int, image: str, scale: Axis) -> str:
    stride = max(1, math.ceil(len(names) / (height / 15)))
    rows = range(0, len(names), stride)
    labels = "".join(svg.row_name(svg.percent(100 * (i + 0.5) / len(names)), names[i]) for i in rows)
    body = (
        '<rect class="gap" width="100%" height="100%"/>'
        f'<image width="100%" height="100%" preserveAspectRatio="none" href="{image}"/>{labels}'
        f"{_ticks(shown.steps)}"
    )
    style = "names steps" if 2 < len(shown.steps) <= _NUMBERED else "names"
    return svg.canvas(shown.key, shown.title, shown.conclusion, height, body, style=style, data=_legible(shown, scale))


def _ticks(steps: Sequence[int]) -> str:
    """The first and the last step; each one below its column where they are few, for they need not be neighbours."""
    ends = {0: f"step {steps[0]}", 100: f"step {steps[-1]}"} if steps else {}
    if 2 < len(steps) <= _NUMBERED:
        middle = {100 * (i + 0.5) / len(steps): str(step) for i, step in enumerate(steps)}
        return "".join(svg.x_tick(at, label) for at, label in middle.items()) + svg.below("step")
    return "".join(svg.x_tick(at, label) for at, label in ends.items())


def _legible(shown: _Map, scale: Axis) -> str:
    """What turns a pixel back into a value: the scale, and the steps and rows that columns and rows begin with."""
    wide = max(map(len, shown.values))
    columns, rows = min(wide, _MOST_COLUMNS), min(len(shown.names), _MOST_ROWS)
    steps = [shown.steps[at] if (at := i * wide // columns) < len(shown.steps) else at for i in range(columns)]
    names = [clean.name(shown.names[i * len(shown.names) // rows], 60) for i in range(rows)]
    told = {"low": scale.low, "high": scale.high, "shades": _SHADES, "unit": shown.unit, "steps": steps, "rows": names}
    return f' data-heat="{html.escape(json.dumps(told), quote=True)}"'


def _colour_bar(scale: Axis) -> str:
    bar = _png([list(range(_SHADES))])
    return (
        f'<p class="scale"><span>{number(scale.low)}</span><img src="{bar}" alt="colour scale, logarithmic" width="160"'
        f' height="10"><span>{number(scale.high)}</span><span class="key zero">exactly 0</span>'
        '<span class="key gap">not finite</span></p>'
    )


def _nothing(title: str) -> str:
    return f'<p class="nothing">{title}: not one value was finite and above 0, there is nothing to draw.</p>'
