"""Two arms of one replay compared: the same batches, weights and random numbers, with one change in one arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auditor.evidence import LowerRate, PairedReplay
from auditor.series import diverged, middle, signed, tail, width

FEW = 13  # differences: with more, or with none of equal size, scipy takes no time


@dataclass(frozen=True)
class Comparison:
    """One look: levels at the end (median of the last third), how far they lie apart, and how sure that is.

    `gain` lies in [-1, 1]: the share of the control's end loss that the change removes, negative when it adds. Losses
    that can be negative have no zero to relate to; there it is the share of the width of everything seen.
    """

    start: str
    steps: int
    first: float
    treated_first: float
    control_end: float
    treated_end: float
    control_diverged: bool
    treated_diverged: bool
    gain: float
    p_value: float
    control_fall: float
    whole_control_fall: float  # over all steps of the control, where the other arm was cut short
    treated_fall: float
    signed: bool

    @property
    def stuck(self) -> bool:
        """The control ends no lower than the other arm begins: there, a small gain says much."""
        return not self.signed and self.control_end >= 0.95 * self.treated_first


def compare(look: PairedReplay, whole: bool = False) -> Comparison:
    """Judge one look. Arms of unequal length are compared over the steps that both took; one that ended because its
    loss was no number any more has lost the other's further steps as well.

    `whole`: the values are no course in time, and all of them count as its end.
    """
    end: Callable[[Sequence[float]], Sequence[float]] = tuple if whole else tail
    longest = max(len(look.control), len(look.treated))
    every, other = _gone_on(look.control, longest), _gone_on(look.treated, longest)
    steps = min(len(every), len(other))
    control, treated = every[:steps], other[:steps]
    gone, treated_gone = diverged(control), diverged(treated)
    low, high = middle(end(treated)), middle(end(control))
    apart = signed(control, treated)
    first = _first(control, treated, apart)
    scale = width(control, treated) if apart else abs(first)
    return Comparison(
        start=look.start,
        steps=steps,
        first=first,
        treated_first=middle(treated[:3]),
        control_end=math.inf if gone else high,
        treated_end=math.inf if treated_gone else low,
        control_diverged=gone,
        treated_diverged=treated_gone,
        gain=_gain(high, low, gone, treated_gone, scale if apart else max(abs(high), abs(low))),
        p_value=_p_value(end(control), end(treated)),
        control_fall=_fall(first, high, scale, gone),
        whole_control_fall=_fall(first, middle(end(look.control)), scale, diverged(look.control)),
        treated_fall=_fall(first, low, scale, treated_gone),
        signed=apart,
    )


def settles(lower: LowerRate, min_gain: float, max_p_value: float) -> bool:
    """The script lowers its rate as it goes, and once it has come down, the loss is no higher than at a rate that is
    far lower all along. `min_gain`, `max_p_value`: what it takes to be higher."""
    if not lower.annealed or not lower.far_looks:
        return False
    found = compare(PairedReplay(start="initial", control=lower.annealed, treated=lower.far_looks[0].treated))
    ahead = found.gain >= min_gain and found.p_value <= max_p_value
    return math.isfinite(found.control_end) and not found.control_diverged and not ahead


def _gone_on(losses: Sequence[float], steps: int) -> tuple[float, ...]:
    lost = bool(losses) and not math.isfinite(losses[-1])
    return (*losses, *((math.nan,) * (steps - len(losses) if lost else 0)))


def untrue(fidelity: float | None, most: float) -> bool:
    """The replay of an unchanged loop did not give the losses that were observed."""
    return fidelity is not None and not abs(fidelity) <= most


def _first(control: Sequence[float], treated: Sequence[float], apart: bool) -> float:
    """Loss level before training. Both arms share their first loss; the next two come from the treated arm.

    Where the treated arm blows up at once, those two say nothing about the start, hence the bound.
    """
    if not control:
        return math.nan
    level = middle([control[0], *treated[1:3]])
    return level if apart or not math.isfinite(control[0]) else min(level, 1.5 * control[0])


def _fall(first: float, end: float, scale: float, gone: bool) -> float:
    if gone:
        return -math.inf
    fall = (first - end) / scale if scale else 0.0
    return fall if math.isfinite(fall) else 0.0


def _gain(control: float, treated: float, control_gone: bool, treated_gone: bool, scale: float) -> float:
    if control_gone or treated_gone:
        return float(control_gone) - float(treated_gone)
    gain = (control - treated) / scale if scale else 0.0
    return max(-1.0, min(1.0, gain)) if math.isfinite(gain) else 0.0


def _p_value(control: Sequence[float], treated: Sequence[float]) -> float:
    """One-sided paired Wilcoxon test that the treated losses are lower.

    Losses of neighbouring steps are not independent, so this is a lower bound of the doubt: rules ask for an effect
    size and a second look besides.
    """
    differences = [c - t for c, t in zip(control, treated, strict=True)]
    differences = [d for d in differences if math.isfinite(d) and d != 0]
    if len(differences) < 6:
        return 1.0
    if len(differences) <= FEW and len({abs(d) for d in differences}) < len(differences):
        return _p_value_with_ties(differences)
    from scipy.stats import wilcoxon  # type: ignore[import-untyped]

    return float(wilcoxon(differences, alternative="greater").pvalue)


def _p_value_with_ties(differences: Sequence[float]) -> float:
    """The same, of few differences that are not all of different sizes. scipy goes through all assignments of signs
    one by one for these, which takes seconds; here, the sums of ranks are counted instead."""
    sizes = sorted(abs(d) for d in differences)
    # Twice the mean rank of equal sizes, a whole number: the first of them has rank index + 1.
    ranks = {size: 2 * sizes.index(size) + 1 + sizes.count(size) for size in sizes}
    observed = sum(ranks[abs(d)] for d in differences if d > 0)
    ways = {0: 1}  # sum of the ranks of the positive differences -> in how many assignments of signs
    for size in sizes:
        more = {total + ranks[size]: number for total, number in ways.items()}
        ways = {total: ways.get(total, 0) + more.get(total, 0) for total in {*ways, *more}}
    return float(sum(number for total, number in ways.items() if total >= observed) / 2 ** len(sizes))
