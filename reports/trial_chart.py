"""The two curves of a trial: the loop as it is, and with the fix."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.result import Trial

from . import curves, svg, tried
from .scale import Axis, axis, finite, steps_axis
from .svg import Chart

_STYLES = ("s1", "s2")  # solid and dashed, beside their colours


def draw(trial: Trial, key: str) -> Chart | None:
    """Both curves in one plot, or None when the trial kept none."""
    pair = tried.curves(trial)
    if not pair:
        return None
    steps = list(range(max(len(values) for _, values in pair)))
    roof = tried.top(trial)
    x = steps_axis(len(steps))
    y = axis([min(value, roof) for _, values in pair for value in values if finite(value)])
    name = tried.metric(trial)
    title = f"{name[:1].upper()}{name[1:]} {tried.AS_IT_IS} and {tried.WITH_FIX}"
    said = conclusion(trial)
    table = curves.columns("step", steps, dict(pair))
    if y is None:
        return Chart(key, title, said, curves.nothing(), table=table, wide=True)
    paths = "".join(_curve(steps, values, x, y, style) for (_, values), style in zip(pair, _STYLES, strict=True))
    figure = svg.plot(key, title, said, x, y, paths=paths, over=_names(pair, x, y), y_title=name)
    return Chart(key, title, said, figure, _legend(pair), table, wide=True)


def conclusion(trial: Trial) -> str:
    """One sentence: what the two curves say."""
    name, after = tried.metric(trial), tried.level(trial, trial.after)
    before = tried.level(trial, trial.before)
    broke = tried.diverged(trial.control)
    if not trial.helped:
        return f"With {tried.change(trial)}, the {name} ended at {after}, and without at {before}: no help."
    if broke is not None and not finite(trial.before):
        return f"As it is, the loop diverged at step {broke}; with {tried.change(trial)}, the {name} ended at {after}."
    return f"With {tried.change(trial)}, the {name} ended at {after} instead of {before}."


def _curve(steps: Sequence[int], values: Sequence[float], x: Axis, y: Axis, style: str) -> str:
    """The curve; a long noisy one faintly, below its smoothed course."""
    smooth, _ = curves.smoothed(values)
    if not smooth:
        return svg.line(steps, values, x, y, style)
    return svg.line(steps, values, x, y, f"{style} faint") + svg.line(steps, smooth, x, y, f"{style} bold")


def _names(pair: Sequence[tuple[str, Sequence[float]]], x: Axis, y: Axis) -> str:
    """Each curve's name at its end; where one diverged, a mark says at which step."""
    marks, ends = "", []
    for row, ((name, values), style) in enumerate(zip(pair, _STYLES, strict=True)):
        broke = tried.diverged(values)
        if broke is not None:
            marks += svg.down(broke, x, f"{name}: diverged at step {broke}", "bad", row)
        else:
            smooth, _ = curves.smoothed(values)
            ends.append((len(values) - 1, (smooth or values)[-1], name, style))
    return marks + svg.labels(ends, x, y)


def _legend(pair: Sequence[tuple[str, Sequence[float]]]) -> tuple[tuple[str, str], ...]:
    window = max(curves.smoothed(values)[1] for _, values in pair)
    bold = f"; bold: mean of {window} steps around it" if window else ""
    return ((_STYLES[0], f"{pair[0][0]} (solid{bold})"), (_STYLES[1], f"{pair[1][0]} (dashed)"))
