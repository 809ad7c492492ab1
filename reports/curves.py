"""Charts over steps or rates: loss, memorisation, learning-rate sweep, replays, left-over gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from auditor.evidence import Evidence, OverfitArm, PairedReplay

from . import clean, svg
from .scale import axis, finite, steps_axis
from .svg import Chart, Table
from .words import number, plural

_SMOOTHED_FROM = 30  # fewer points are their own trend


def loss(evidence: Evidence) -> Chart | None:
    """The observed loss with everything that it can be held against."""
    path = evidence.trajectory
    if path is None or not path.losses:
        return None
    values, first = path.losses, evidence.initial_loss
    steps = list(range(len(values)))
    uniform = first.uniform if first else None
    held_out = [(step, value) for step, value in path.held_out if finite(value)]
    x = steps_axis(len(steps))
    y = axis([*values, uniform, *(value for _, value in held_out)])
    conclusion = _course(values)
    legend = [("s1", "loss of the step")]
    if y is None:
        return Chart("chart-loss", "Loss", conclusion, nothing(), rules=_LOSS_RULES, wide=True)
    smooth = smoothed(values)
    paths = svg.line(steps, values, x, y, "s1 faint" if smooth else "s1")
    if smooth:
        paths += svg.line(smooth.steps, smooth.values, x, y, "s1 bold")
        legend[0] = ("s1", f"loss of the step; bold: mean of {smooth.window} steps around it")
    under = "".join(svg.down(start, x, "", "epoch") for start in path.epoch_starts[1:60])
    over = ""
    if first and uniform is not None:
        over += svg.across(uniform, y, f"ln {first.classes} = {number(uniform)}: guessing", "reference")
    shown, _ = svg.sampled(len(held_out), svg.POINTS)
    over += "".join(svg.dot(*held_out[i], x, y, "s2") for i in shown)
    legend += [("s2 dot", "held-out loss")] if held_out else []
    legend += [("epoch", "a new epoch")] if len(path.epoch_starts) > 1 else []
    legend += [("gap", "not finite")] if not all(map(finite, values)) else []
    figure = svg.plot(
        "chart-loss",
        "Loss",
        conclusion,
        x,
        y,
        paths=paths,
        under=svg.gaps(steps, values, x) + under,
        over=over,
        y_title="loss",
    )
    rows = {"loss": values, "gradient norm": path.grad_norms, "learning rate": path.learning_rates}
    return Chart(
        "chart-loss", "Loss", conclusion, figure, tuple(legend), columns("step", steps, rows), _LOSS_RULES, True
    )


_LOSS_RULES = ("nonfinite-loss", "initial-loss", "loss-plateau", "loss-oscillation")


def _course(values: Sequence[float]) -> str:
    bad = [step for step, value in enumerate(values) if not finite(value)]
    start = next((value for value in values if finite(value)), None)
    tail = [value for value in values[-max(1, len(values) // 5) :] if finite(value)]
    if start is None:
        return f"The loss was not finite in any of {plural(len(values), 'step')}."
    text = f"The loss went from {number(start)} "
    text += f"to {number(_mean(tail))} (mean of the last fifth)" if tail else "to no finite value"
    text += f" in {plural(len(values), 'step')}"
    return f"{text}; it first was not finite in step {bad[0]}." if bad else f"{text}."


def _mean(values: Sequence[float]) -> float:
    return math.fsum(value / len(values) for value in values)


@dataclass(frozen=True)
class Smooth:
    """The course of a noisy curve: at some of its steps, the mean of so many values around it."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    window: int


def smoothed(values: Sequence[float]) -> Smooth | None:
    """Means at as many steps as a plot has room for; centred, so that they do not lag behind. None for short curves."""
    around = min(len(values) // 24, 25)
    if len(values) < _SMOOTHED_FROM or not around:
        return None
    steps, _ = svg.sampled(len(values), svg.POINTS)
    result, before = [], 0
    for step in steps:
        near = [v for v in values[max(0, step - around) : step + around + 1] if finite(v)]
        whole = all(map(finite, values[before : step + 1]))  # a hole between two means stays one
        result.append(_mean(near) if whole else math.nan)
        before = step + 1
    return Smooth(tuple(steps), tuple(result), 2 * around + 1)


def overfit(evidence: Evidence) -> Chart | None:
    """Can the loop memorise a handful of samples? One line an arm."""
    part = evidence.overfit
    if part is None:
        return None
    arms = part.arms[:4]
    best = next((arm for arm in arms if arm.reached), None)
    what = plural(part.samples, "pinned sample")
    conclusion = (
        f"The loop memorised {what} at {_rate(best.rate_factor)}."
        if best
        else f"The loop did not memorise {what}: the loss stayed above {number(part.target)}."
    )
    lines: list[tuple[str, Sequence[float]]] = [
        (f"{_rate(arm.rate_factor)} ({number(arm.learning_rate)}){_accuracy(arm)}", arm.losses) for arm in arms
    ]
    marks: list[tuple[float | None, str, str]] = [
        (part.target, f"target {number(part.target)}", "target"),
        (part.floor, f"floor {number(part.floor)}", "floor"),
    ]
    return _compared(
        "chart-overfit", "Memorising a few samples", conclusion, lines, marks, ("cannot-overfit", "constant-output")
    )


def _times(factor: float) -> str:
    return f"{number(factor)}×"


def _rate(factor: float) -> str:
    return "the script's own rate" if factor == 1 else f"{_times(factor)} the rate"


def _accuracy(arm: OverfitArm) -> str:
    text = f", {100 * arm.accuracy:.0f} % right" if arm.accuracy is not None and math.isfinite(arm.accuracy) else ""
    return text + (", noise frozen" if arm.frozen_noise else "")


def replays(evidence: Evidence) -> list[Chart]:
    """The same batches from the same weights, as is and with one change."""
    found = []
    if evidence.lower_rate and evidence.lower_rate.looks:
        part = evidence.lower_rate
        label = f"{_times(part.factor)} the learning rate ({number(part.learning_rate * part.factor)})"
        found.append(
            _replay("chart-lower-rate", "Replay at a lower learning rate", label, part.looks, ("lr-too-high",))
        )
    if evidence.standardized_inputs and evidence.standardized_inputs.looks:
        looks = evidence.standardized_inputs.looks
        rules = ("uncentered-inputs", "feature-scale-mismatch")
        found.append(
            _replay("chart-standardized", "Replay with standardized inputs", "standardized inputs", looks, rules)
        )
    return found


def _replay(key: str, title: str, label: str, looks: Sequence[PairedReplay], rules: tuple[str, ...]) -> Chart:
    look = looks[0]
    ends = [_mean(tail) if (tail := _tail(values)) else math.nan for values in (look.control, look.treated)]
    weights = "the initial weights" if look.start == "initial" else "later weights"
    conclusion = f"From {weights}, the loss ended at {number(ends[0])} as is and at {number(ends[1])} with {label}."
    lines = [("as is", look.control), (label, look.treated)]
    if len(looks) > 1:
        lines += [("as is, second look", looks[1].control), (f"{label}, second look", looks[1].treated)]
    drawn = _compared(key, title, conclusion, lines, (), rules, noisy=True)
    return replace(drawn, pairs=tuple((each.control, each.treated) for each in looks))


def _tail(values: Sequence[float]) -> list[float]:
    return [value for value in values[-max(1, len(values) // 5) :] if finite(value)]


def left_over(evidence: Evidence) -> Chart | None:
    """Gradients that earlier steps left behind, beside those that were used."""
    resets = evidence.gradient_resets.optimizers if evidence.gradient_resets else ()
    worst = max(resets, key=lambda reset: reset.stale_steps, default=None)
    if worst is None or not worst.stale_steps or not worst.stale_norms:
        return None
    conclusion = (
        f"In {worst.stale_steps} of {plural(worst.steps_checked, 'step')}, gradients of earlier steps were still there."
    )
    lines = [("gradient norm as used", worst.grad_norms), ("left over from earlier steps", worst.stale_norms)]
    return _compared(
        "chart-left-over",
        "Left-over gradients",
        conclusion,
        lines,
        (),
        ("missing-zero-grad", "misplaced-zero-grad"),
        "norm",
        "checked step",
    )


def _compared(
    key: str,
    title: str,
    conclusion: str,
    lines: Sequence[tuple[str, Sequence[float]]],
    marks: Sequence[tuple[float | None, str, str]],
    rules: tuple[str, ...],
    y_title: str = "loss",
    x_title: str = "step",
    *,
    noisy: bool = False,
) -> Chart:
    """Some curves in one plot. Of noisy ones the course is drawn, below that of the first two what was measured."""
    lines = [(clean.name(label), values) for label, values in lines if values]
    longest = max((len(values) for _, values in lines), default=0)
    steps = list(range(longest))
    x = steps_axis(len(steps))
    y = axis([value for _, values in lines for value in values] + [mark for mark, _, _ in marks if mark])
    if y is None:
        return Chart(key, title, conclusion, nothing(), rules=rules)
    courses = [smoothed(values) if noisy else None for _, values in lines]
    paths = "".join(
        (svg.line(steps, values, x, y, f"s{n} faint" if course else f"s{n}") if n <= 2 or not course else "")
        + (svg.line(course.steps, course.values, x, y, f"s{n} bold") if course else "")
        for n, ((_, values), course) in enumerate(zip(lines, courses, strict=True), 1)
    )
    under = "".join(svg.gaps(steps, values, x) for _, values in lines)
    over = "".join(svg.across(value, y, label, style, left=style == "floor") for value, label, style in marks)
    legend = [(f"s{n}", label) for n, (label, _) in enumerate(lines, 1)]
    legend += [("gap", "not finite")] if under else []
    figure = svg.plot(
        key, title, conclusion, x, y, paths=paths, under=under, over=over, x_title=x_title, y_title=y_title
    )
    windows = {course.window for course in courses if course}
    note = f"Bold: mean of {max(windows)} steps around each" if windows else ""
    return Chart(key, title, conclusion, figure, tuple(legend), columns("step", steps, dict(lines)), rules, note=note)


def sweep(evidence: Evidence) -> Chart | None:
    """Loss against the learning rate, with the user's rate, the suggested one and where it diverged."""
    part = evidence.rate_sweep
    if part is None or not part.rates:
        return None
    conclusion = f"The script's rate is {number(part.user_rate)}"
    conclusion += f"; the loss fell fastest near {number(part.suggested)}" if part.suggested is not None else ""
    conclusion += f" and diverged from {number(part.diverged_at)}." if part.diverged_at is not None else "."
    rules = ("lr-too-high", "lr-too-low")
    x = axis([rate for rate in (*part.rates, part.user_rate) if rate > 0], log=True)
    usual = [value for value in part.smoothed if finite(value)]
    top = 2.5 * max(usual[: max(1, len(usual) // 4)]) if usual else math.inf  # divergence must not flatten the rest
    y = axis([min(value, top) for value in usual], log=None if min(usual, default=0) > 0 else False)
    if x is None or y is None:
        return Chart("chart-sweep", "Learning-rate sweep", conclusion, nothing(), rules=rules)
    paths = svg.line(part.rates, part.losses, x, y, "s1 faint") + svg.line(part.rates, part.smoothed, x, y, "s1 bold")
    over = svg.down(part.suggested, x, f"suggested {number(part.suggested)}", "good", 0)
    over += svg.down(part.user_rate, x, f"yours {number(part.user_rate)}", "yours", 1)
    over += svg.down(part.diverged_at, x, f"diverged {number(part.diverged_at)}", "bad", 2)
    figure = svg.plot(
        "chart-sweep",
        "Learning-rate sweep",
        conclusion,
        x,
        y,
        paths=paths,
        over=over,
        x_title="learning rate",
        y_title="loss",
    )
    table = columns("rate", part.rates, {"loss": part.losses, "smoothed": part.smoothed})
    legend = (("s1", "smoothed loss (faint: as measured)"),)
    return Chart("chart-sweep", "Learning-rate sweep", conclusion, figure, legend, table, rules)


def columns(first: str, xs: Sequence[float], series: Mapping[str, Sequence[float]]) -> Table:
    """The numbers behind curves: a row a step or rate, a column a curve."""
    kept, note = svg.sampled(len(xs))
    used = {name: values for name, values in series.items() if values}
    rows = tuple(
        (number(xs[i]), *(number(values[i]) if i < len(values) else "" for values in used.values())) for i in kept
    )
    return Table((first, *used), rows, note)


def nothing() -> str:
    """In place of a picture."""
    return '<p class="nothing">Not one value was finite: there is nothing to draw.</p>'
