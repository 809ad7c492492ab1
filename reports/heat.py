"""The heat map of gradient norms: a row a layer, a column a step, drawn as a PNG inside the SVG."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence

from auditor.evidence import Evidence

from . import clean, svg
from .scale import Axis, finite
from .svg import Chart, Table
from .words import number, plural

_MOST_COLUMNS = 240
_MOST_ROWS = 600

# Viridis, every eighth of the way: even in lightness, safe for colour-blind readers, and it survives grey printing.
_VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
    (170, 220, 50), (253, 231, 37),
)  # fmt: skip
_SHADES = 48
_ZERO, _HOLE = _SHADES, _SHADES + 1


def gradients(evidence: Evidence) -> Chart | None:
    """Gradient norm by layer and step: colour on a log scale, rows in the order of the forward pass."""
    part = evidence.gradients
    layers = [layer for layer in part.layers if layer.norms] if part else []
    if part is None or not layers:
        return None
    rules = ("exploding-gradients", "vanishing-gradients")
    sizes = [norm for layer in layers for norm in layer.norms if finite(norm) and norm > 0]
    conclusion = _spread([(layer.name, _median(layer.norms)) for layer in layers])
    if not sizes:
        return Chart("chart-gradients", "Gradient norms", conclusion, _nothing(), rules=rules, wide=True)
    scale = Axis(min(sizes), max(sizes) if max(sizes) > min(sizes) else min(sizes) * 10, log=True)
    grid = _thinned([layer.norms for layer in layers])
    image = _png([[_shade(norm, scale) for norm in row] for row in grid])
    names, left_out = svg.shortened([layer.name for layer in layers])
    height = min(max(24 * len(layers), 60), 420)
    figure = _rows_frame("chart-gradients", "Gradient norms", conclusion, names, height, image, part.steps)
    figure += _colour_bar(scale)
    kept, note = svg.sampled(len(layers), 200)
    rows = tuple(
        (
            clean.name(layers[i].name),
            number(layers[i].norms[0]),
            number(_median(layers[i].norms)),
            number(layers[i].norms[-1]),
        )
        for i in kept
    )
    table = Table(("layer", "first", "median", "last"), rows, note)
    return Chart("chart-gradients", "Gradient norms", conclusion, figure, (), table, rules, wide=True, note=left_out)


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


def _rows_frame(
    key: str, title: str, text: str, names: Sequence[str], height: int, image: str, steps: Sequence[int]
) -> str:
    stride = max(1, math.ceil(len(names) / (height / 15)))
    rows = range(0, len(names), stride)
    labels = "".join(svg.row_name(svg.percent(100 * (i + 0.5) / len(names)), names[i]) for i in rows)
    low, high = (steps[0], steps[-1]) if steps else (0, 0)
    body = (
        '<rect class="gap" width="100%" height="100%"/>'
        f'<image width="100%" height="100%" preserveAspectRatio="none" href="{image}"/>{labels}'
        f"{svg.x_tick(0, f'step {low}')}{svg.x_tick(100, f'step {high}')}"
    )
    return svg.canvas(key, title, text, height, body, style="names")


def _colour_bar(scale: Axis) -> str:
    bar = _png([list(range(_SHADES))])
    return (
        f'<p class="scale"><span>{number(scale.low)}</span><img src="{bar}" alt="colour scale, logarithmic" width="160"'
        f' height="10"><span>{number(scale.high)}</span><span class="key zero">exactly 0</span>'
        '<span class="key gap">not finite</span></p>'
    )


def _nothing() -> str:
    return '<p class="nothing">Not one gradient was finite and above 0: there is nothing to draw.</p>'
