"""Where the time of a step went: waiting for data, forward, backward, update, the rest."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.evidence import DataWait, Evidence

from . import svg
from .scale import Axis, axis, finite, steps_axis
from .svg import Chart, Table
from .words import number, percent, plural, seconds

_KEY, _TITLE = "chart-times", "Time of a step"
_MOST_COLUMNS = 120
_REST, _ELSE = "the rest of the loop", "everything else"
_COLOURS = {"waiting for data": "s2", "forward": "s1", "backward": "s4", "update": "s3", _REST: "other", _ELSE: "other"}


def steps(evidence: Evidence) -> Chart | None:
    """A column a step, stacked; the probe's own work is left out."""
    part = evidence.data_wait
    if part is None or not part.seconds or not all(map(finite, (*part.waits, *part.seconds))):
        return None
    layers = _split(part, synchronous=evidence.run.device == "cpu")
    totals = part.seconds
    y = axis(_within([1000 * total for total in totals]), zero=True, log=False)
    if y is None:
        return None
    columns = _columns(len(totals))
    paths = "".join(
        f'<path class="area {_COLOURS[name]}" d="{_stack(columns, values, y)}"/>'
        for name, values in reversed(layers)  # the highest first, the lower ones before it
    )
    conclusion = _conclusion(part)
    figure = svg.plot(
        _KEY, _TITLE, conclusion, steps_axis(len(totals) + 1), y, paths=paths, x_title="timed step", y_title="ms"
    )
    legend = tuple((f"{_COLOURS[name]} box", name) for name, _ in layers)
    return Chart(_KEY, _TITLE, conclusion, figure, legend, _table(layers), ("data-bound",))


def _split(part: DataWait, *, synchronous: bool) -> list[tuple[str, list[float]]]:
    """(name, seconds up to its end) of each share of a step; the last reaches the whole."""
    named = [("waiting for data", part.waits)]
    if synchronous:  # elsewhere a call returns before its work is done
        named += [("forward", part.forward), ("backward", part.backward), ("update", part.update)]
    named = [(name, values) for name, values in named if len(values) == len(part.seconds)]
    sums, result = [0.0] * len(part.seconds), []
    for name, values in named:
        sums = [min(a + b, whole) for a, b, whole in zip(sums, values, part.seconds, strict=True)]
        result.append((name, sums))
    return [*result, (_REST if len(named) > 1 else _ELSE, list(part.seconds))]


def _conclusion(part: DataWait) -> str:
    waited, whole = _median(part.waits), _median(part.seconds)
    share = f": {percent(min(waited / whole, 1))} of it" if whole else ""
    text = f"Half of the {plural(len(part.seconds), 'timed step')} took less than {seconds(whole)}"
    return f"{text}, and waited less than {seconds(waited)} for data{share}."


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _within(values: Sequence[float]) -> list[float]:
    """Without what a pause of the machine made: such a step is cut off at the top of the picture."""
    top = 4 * _median(values)
    return [min(value, top) for value in values] if top > 0 else list(values)


def _columns(count: int) -> list[tuple[int, int]]:
    most = min(count, _MOST_COLUMNS)
    return [(i * count // most, (i + 1) * count // most) for i in range(most)]


def _stack(columns: Sequence[tuple[int, int]], values: Sequence[float], y: Axis) -> str:
    """Columns from the ground up; several steps share one, the mean of them."""
    width = 1000 / len(columns)
    parts = []
    for place, (start, end) in enumerate(columns):
        height = 10 * min(y.at(1000 * sum(values[start:end]) / (end - start)), 100)
        parts.append(f"M{width * place:.1f} 1000v{-height:.1f}h{0.86 * width:.1f}v{height:.1f}z")
    return "".join(parts)


def _table(layers: Sequence[tuple[str, Sequence[float]]]) -> Table:
    kept, note = svg.sampled(len(layers[0][1]))
    rows = []
    for i in kept:
        ends = [values[i] for _, values in layers]
        shares = [number(float(f"{1000 * (b - a):.4g}")) for a, b in zip([0.0, *ends], ends, strict=False)]
        rows.append((str(i), *shares, number(float(f"{1000 * ends[-1]:.4g}"))))
    return Table(("step", *(name for name, _ in layers), "together, ms"), tuple(rows), note)
