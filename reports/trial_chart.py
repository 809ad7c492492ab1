"""The two curves of a trial: the loop as it is, and with the fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.result import Trial

from . import curves, svg, tried
from .scale import Axis, axis, finite, steps_axis
from .svg import Chart


@dataclass(frozen=True)
class _Curve:
    """One course: its name, its line's style, the values, and their smoothed course where they are many."""

    name: str
    style: str
    values: tuple[float, ...]
    smooth: curves.Smooth | None


def draw(trial: Trial, key: str) -> Chart | None:
    """Both curves in one plot, or None when the trial kept none."""
    pair = [_curve(trial, *row) for row in zip(tried.curves(trial), ("s1", "s2"), strict=False)]
    if not pair:
        return None
    steps = list(range(max(len(curve.values) for curve in pair)))
    roof = tried.top(trial)
    x = steps_axis(len(steps))
    y = axis([min(value, roof) for curve in pair for value in curve.values if finite(value)])
    if y is None:
        return None
    name = tried.metric(trial)
    title = f"{name[:1].upper()}{name[1:]} {tried.AS_IT_IS} and {tried.WITH_FIX}"
    said = conclusion(trial)
    paths = "".join(_path(steps, curve, x, y) for curve in pair)
    over = "".join(_ending(curve, x, y, roof, row) for row, curve in enumerate(pair, 1))
    over += svg.names([(_last(curve), curve.name, curve.style) for curve in pair if not _ends_early(curve, roof)], y)
    unit = f"{name}, %" if tried.is_share(trial) else name
    figure = svg.plot(key, title, said, x, y, paths=paths, over=over, y_title=unit, style="named")
    table = curves.columns("step", steps, {curve.name: curve.values for curve in pair})
    return Chart(key, title, said, figure, _legend(pair), table, wide=True)


def conclusion(trial: Trial) -> str:
    """One sentence: what the two curves say."""
    name = tried.metric(trial)
    before, after = tried.level(trial, trial.before), tried.level(trial, trial.after)
    broke = tried.diverged(trial.control)
    if not trial.helped:
        return f"No help: the {name} ended at {after} with this change, and at {before} as it is."
    if broke is not None and not finite(trial.before):
        return f"As it is, the loop diverged at step {broke}; with this change, the {name} ended at {after}."
    return f"With this change, the {name} ended at {after} instead of {before}."


def _curve(trial: Trial, course: tuple[str, tuple[float, ...]], style: str) -> _Curve:
    name, values = course
    if tried.is_share(trial):
        values = tuple(100 * value for value in values)
    return _Curve(name, style, values, curves.smoothed(values))


def _path(steps: Sequence[int], curve: _Curve, x: Axis, y: Axis) -> str:
    """The curve; a long noisy one faintly, below its smoothed course."""
    if not curve.smooth:
        return svg.line(steps, curve.values, x, y, curve.style)
    faint = svg.line(steps, curve.values, x, y, f"{curve.style} faint")
    return faint + svg.line(curve.smooth.steps, curve.smooth.values, x, y, f"{curve.style} bold")


def _last(curve: _Curve) -> float:
    return curve.smooth.values[-1] if curve.smooth else curve.values[-1]


def _end(curve: _Curve, roof: float) -> int | None:
    """The step at which the curve leaves the plot or breaks off, or None when it goes through."""
    return next((step for step, value in enumerate(curve.values) if not finite(value) or value > roof), None)


def _ends_early(curve: _Curve, roof: float) -> bool:
    return tried.diverged(curve.values) is not None or not _last(curve) <= roof


def _ending(curve: _Curve, x: Axis, y: Axis, roof: float, row: int) -> str:
    """Of a curve that does not go through: its name where it ends, and a mark where it diverged."""
    if not _ends_early(curve, roof):
        return ""
    broke, end = tried.diverged(curve.values), _end(curve, roof)
    name = ""
    if end:
        height = roof if finite(curve.values[end]) else curve.values[end - 1]
        name = svg.beside(end - 1, height, x, y, curve.name, curve.style)
    label = f"diverged at step {broke}" if name else f"{curve.name}: diverged at step {broke}"
    return name + svg.down(broke, x, label, "bad", row, turn=75)


def _legend(pair: Sequence[_Curve]) -> tuple[tuple[str, str], ...]:
    window = max(curve.smooth.window if curve.smooth else 0 for curve in pair)
    bold = f"; bold: mean of {window} steps around it" if window else ""
    first, second = pair
    return ((first.style, f"{first.name} (solid{bold})"), (second.style, f"{second.name} (dashed)"))
