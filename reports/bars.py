"""Bars and ranges by layer or by class: dead units, class shares, update ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence

from auditor.evidence import Evidence

from . import clean, svg
from .scale import Axis, axis, finite
from .svg import Chart, Table
from .words import number, percent, plural

_MOST_BARS = 16
_FEW_BARS = 3  # of empty ones, to show that something was looked at
_ROW = 22  # pixels
_NAMED = 40  # more classes than this are sorted and go unnamed


def dead(evidence: Evidence) -> Chart | None:
    """Share of dead units by layer, the worst first."""
    part = evidence.activations
    layers = (
        sorted((layer for layer in part.layers if layer.units), key=lambda layer: -layer.dead / layer.units)
        if part
        else []
    )
    if not layers:
        return None
    worst, units, total = layers[0], sum(layer.dead for layer in layers), sum(layer.units for layer in layers)
    conclusion = f"{units:,} of {plural(total, 'unit')} never fired; the worst layer is {clean.name(worst.name, 40)}"
    conclusion = (
        f"{conclusion} with {percent(worst.dead / worst.units)}." if units else f"All {plural(total, 'unit')} fired."
    )
    shown = layers[: _MOST_BARS if units else _FEW_BARS]
    names, left_out = svg.shortened([layer.name for layer in shown])
    rows = [
        (n, layer.dead / layer.units, f"{layer.dead} of {layer.units}") for n, layer in zip(names, shown, strict=True)
    ]
    figure = _bars("chart-dead", "Dead units", conclusion, rows)
    kept, note = svg.sampled(len(layers), 200)
    table = Table(
        ("layer", "units", "dead", "at first", "at last", "outputs above 0"),
        tuple((clean.name(layers[i].name), str(layers[i].units), str(layers[i].dead), str(layers[i].dead_start),
               str(layers[i].dead_end), percent(layers[i].active_share)) for i in kept),
        note or (f"The picture shows {len(shown)} layers, the worst first." if len(layers) > len(shown) else ""),
    )  # fmt: skip
    return Chart("chart-dead", "Dead units", conclusion, figure, (), table, ("dead-units",), note=left_out)


def saturated(evidence: Evidence) -> Chart | None:
    """Share of saturated units by layer at the end, the worst first."""
    part = evidence.saturation
    found = [layer for layer in part.layers if layer.units] if part else []
    layers = sorted(found, key=lambda layer: -layer.saturated_end / layer.units)
    if not layers:
        return None
    worst, flat = layers[0], sum(layer.saturated_end for layer in layers)
    conclusion = f"At the end {flat:,} of {plural(sum(layer.units for layer in layers), 'bounded unit')} sat where"
    conclusion += " their slope has vanished"
    conclusion += f"; the worst layer is {clean.name(worst.name, 40)} with {percent(worst.saturated_end / worst.units)}"
    if not flat:
        conclusion = f"At the end no bounded unit of {plural(len(layers), 'layer')} sat where its slope has vanished"
    shown = layers[: _MOST_BARS if flat else _FEW_BARS]
    names, left_out = svg.shortened([layer.name for layer in shown])
    rows = [
        (n, layer.saturated_end / layer.units, f"{layer.saturated_end} of {layer.units}")
        for n, layer in zip(names, shown, strict=True)
    ]
    figure = _bars("chart-saturated", "Saturated units", f"{conclusion}.", rows)
    kept, note = svg.sampled(len(layers), 200)
    table = Table(
        ("layer", "units", "saturated at first", "at last", "flat outputs at first", "at last"),
        tuple((clean.name(layers[i].name), str(layers[i].units), str(layers[i].saturated_start),
               str(layers[i].saturated_end), percent(layers[i].share_start), percent(layers[i].share_end))
              for i in kept),
        note,
    )  # fmt: skip
    rules = ("saturated-activations",)
    return Chart("chart-saturated", "Saturated units", f"{conclusion}.", figure, (), table, rules, note=left_out)


def _bars(key: str, title: str, conclusion: str, rows: Sequence[tuple[str, float, str]]) -> str:
    parts = []
    for i, (name, share, text) in enumerate(rows):
        middle, at = _ROW * i + _ROW // 2, svg.percent(100 * min(share, 1))
        # beside a long bar there is no room for the number
        side = 'dx="-6" text-anchor="end" class="value inside"' if share > 0.7 else 'dx="6" class="value"'
        parts.append(
            f'{svg.row_name(str(middle), name)}<rect class="track" y="{middle - 7}" width="100%" height="14" rx="3"/>'
            f'<rect class="filled" y="{middle - 7}" width="{at}" height="14" rx="3"/>'
            f'<text {side} x="{at}" y="{middle}" dy=".34em">{svg.esc(text)}</text>'
        )
    return svg.canvas(key, title, conclusion, _ROW * len(rows), "".join(parts), style="names flat")


def classes(evidence: Evidence) -> Chart | None:
    """Share of each class in the training and in the held-out labels."""
    part = evidence.labels
    if part is None or not sum(part.counts):
        return None
    train = [count / sum(part.counts) for count in part.counts]
    total = sum(part.held_out_counts)
    held_out = [count / total for count in part.held_out_counts] if total else []
    order = list(range(len(train))) if len(train) <= _NAMED else sorted(range(len(train)), key=lambda i: -train[i])
    order = [order[i] for i in svg.sampled(len(order), svg.POINTS)[0]]  # a plot has no room for more columns
    conclusion = _balance(part.counts)
    x, y = Axis(0, max(len(train), 1)), axis([0, *train, *held_out], zero=True, log=False)
    assert y is not None  # it holds 0
    series = [("s1", train), *([("s2", held_out)] if held_out else [])]
    paths = "".join(
        f'<path class="area {style}" d="{_columns_path(shares, order, k, len(series), y)}"/>'
        for k, (style, shares) in enumerate(series)
    )
    figure = _classes_frame(conclusion, x, y, paths, len(train))
    counted = "of the whole training set" if part.complete else "of the batches seen"
    legend = [("s1 box", f"training labels {counted}"), *([("s2 box", "held-out labels")] if held_out else [])]
    columns = {"training": part.counts, "held-out": part.held_out_counts, "seen at the end": part.seen,
               "predicted": part.predicted, "right": part.hits}  # fmt: skip
    used = {name: counts for name, counts in columns.items() if counts}
    kept, note = svg.sampled(len(train), 200)
    rows = tuple((str(i), *(f"{c[i]:,}" if i < len(c) else "" for c in used.values())) for i in kept)
    rules = ("class-imbalance", "majority-class-collapse", "invalid-labels")
    return Chart(
        "chart-classes", "Classes", conclusion, figure, tuple(legend), Table(("class", *used), rows, note), rules
    )


def _balance(counts: Sequence[int]) -> str:
    present = [count for count in counts if count]
    ratio = number(max(present) / min(present))
    text = f"The most frequent of {plural(len(counts), 'class', 'classes')} has {ratio} times the labels of the rarest"
    missing = len(counts) - len(present)
    return f"{text}, and {plural(missing, 'class has', 'classes have')} none." if missing else f"{text}."


def _columns_path(shares: Sequence[float], order: Sequence[int], k: int, of: int, y: Axis) -> str:
    width = 1000 / max(len(order), 1)
    bar = width * 0.76 / of
    parts = []
    for place, i in enumerate(order):
        if i < len(shares):
            left, top = width * (place + 0.12) + k * bar, 1000 - 10 * y.at(shares[i])
            parts.append(f"M{left:.1f} 1000V{top:.1f}h{bar:.1f}V1000z")
    return "".join(parts)


def _classes_frame(conclusion: str, x: Axis, y: Axis, paths: str, count: int) -> str:
    body = "".join(svg.y_tick(100 - y.at(tick), f"{number(100 * tick)} %") for tick in y.ticks(4))
    body += svg.stretched(paths) + '<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>'
    if count <= _NAMED:
        body += "".join(svg.x_tick(x.at(i + 0.5), str(i)) for i in range(0, count, math.ceil(count / 12)))
    body += svg.below("class" if count <= _NAMED else f"{count:,} classes, the most frequent first")
    return svg.canvas("chart-classes", "Classes", conclusion, 200, body)


def updates(evidence: Evidence) -> Chart | None:
    """Update-to-weight ratio by layer: the range over the sampled steps and its median, on a log axis."""
    part = evidence.updates
    layers = [layer for layer in part.layers if any(finite(r) and r > 0 for r in layer.ratios)] if part else []
    if not layers:
        return None
    ranged = sorted(
        ((layer.name, sorted(r for r in layer.ratios if finite(r) and r > 0)) for layer in layers),
        key=lambda item: -abs(math.log10(item[1][len(item[1]) // 2]) + 3),
    )
    medians = [ratios[len(ratios) // 2] for _, ratios in ranged]
    ends = f"{number(min(medians))} to {number(max(medians))}"
    conclusion = f"A step changes the weights of a layer by {ends} of their size; about 0.001 is usual."
    x = axis([1e-4, 1e-2, *(r for _, ratios in ranged for r in ratios)], log=True)
    assert x is not None
    names, left_out = svg.shortened([name for name, _ in ranged[:_MOST_BARS]])
    figure = _ranges(conclusion, x, [(name, ratios) for name, (_, ratios) in zip(names, ranged, strict=False)])
    kept, note = svg.sampled(len(ranged), 200)
    rows = tuple(
        (clean.name(ranged[i][0]), *(number(r) for r in (ranged[i][1][0], medians[i], ranged[i][1][-1]))) for i in kept
    )
    table = Table(("layer", "lowest", "median", "highest"), rows, note)
    return Chart(
        "chart-updates",
        "Update to weight",
        conclusion,
        figure,
        (("band", "0.0001 to 0.01, the usual range"),),
        table,
        ("update-ratio",),
        note=left_out,
    )


def _ranges(conclusion: str, x: Axis, rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    start, end = x.at(1e-4), x.at(1e-2)
    parts = [f'<rect class="band" x="{svg.percent(start)}" width="{svg.percent(end - start)}" height="100%"/>']
    parts += [svg.x_tick(x.at(tick), number(tick)) for tick in x.ticks(4)]
    for i, (name, ratios) in enumerate(rows):
        y = _ROW * i + _ROW // 2
        low, mid, high = (svg.percent(x.at(r)) for r in (ratios[0], ratios[len(ratios) // 2], ratios[-1]))
        parts.append(
            f'{svg.row_name(str(y), name)}<line class="range" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot s1" cx="{mid}" cy="{y}" r="4"/>'
        )
    title = "Update to weight"
    return svg.canvas("chart-updates", title, conclusion, _ROW * len(rows), "".join(parts), style="names")
