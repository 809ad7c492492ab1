"""Whether other initial weights make the difference: how the replays with weights drawn anew are judged."""

from __future__ import annotations

from typing import Protocol

from auditor.evidence import CalmedRecurrence, PairedReplay, Reinitialized
from auditor.paired import Comparison, compare
from auditor.series import middle, tail

RECURRENT_GAIN = 0.3  # for recurrent weights of more than 3 / sqrt(fan-in): no common start is anywhere near that


class RedrawnLimits(Protocol):
    """Options that the rules which use this have in common."""

    @property
    def min_gain(self) -> float: ...
    @property
    def min_fall(self) -> float: ...
    @property
    def min_large_gain(self) -> float: ...
    @property
    def max_p_value(self) -> float: ...
    @property
    def min_steps(self) -> int: ...


def long_looks(again: Reinitialized | CalmedRecurrence | None, limits: RedrawnLimits) -> list[PairedReplay]:
    """Those with enough steps in both arms."""
    replayed = again.looks if again is not None else ()
    return [look for look in replayed if min(len(look.control), len(look.treated)) >= limits.min_steps]


def all_better(looks: list[PairedReplay], limits: RedrawnLimits, large_gain: float = 0.0) -> list[Comparison]:
    """The comparisons, where every look favours the weights drawn anew; one look is enough only for a divergence.
    A loss that only comes down towards where the others begin makes no progress. `large_gain`: instead of the limit's.
    """
    compared = [compare(look) for look in looks]
    large = large_gain or limits.min_large_gain
    clear = all(
        _better(seen, limits.min_gain if seen.stuck or _stuck(look, limits) else large, limits)
        for seen, look in zip(compared, looks, strict=True)
    )
    return compared if clear and (len(looks) > 1 or (looks and compared[0].control_diverged)) else []


def _stuck(look: PairedReplay, limits: RedrawnLimits) -> bool:
    """The loss makes no progress with the weights as they are. Both arms start at losses of their own."""
    first, end = middle(look.control[: max(1, len(look.control) // 3)]), middle(tail(look.control))
    return not end < (1 - limits.min_fall) * first if first > 0 else True


def _better(look: Comparison, needed: float, limits: RedrawnLimits) -> bool:
    if look.treated_diverged:
        return False
    return look.control_diverged or (look.gain >= needed and look.p_value <= limits.max_p_value)
