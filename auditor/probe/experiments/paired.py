"""The same batches from the same weights with the same random numbers, with and without an intervention."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from auditor.evidence import PairedReplay
from auditor.probe.experiments.feasible import order
from auditor.probe.replay import Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

WORTH_A_SECOND_LOOK = 0.97  # treated over control, median of the last third
ARRANGEMENTS = ((None, False), (20_011, True))  # seed and order of the batches: as recorded, and another one
CHECKED = 2  # steps of a control that is there already that are taken again
MOVED = 0.1  # of the first loss gone
SAME = 1e-3  # relative difference of a loss from the one that it repeats
Looks = Generator[Replay, Trail, list[PairedReplay]]
Arm = Generator[Replay, Trail, Trail]


@dataclass(frozen=True)
class Start:
    """What both arms have in common besides the loop as it is: interventions, and their name."""

    key: tuple[object, ...] = ()
    interventions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Both arms of one look."""

    control: Trail
    treated: Trail
    seed: int


def paired_trails(
    probe: Probe,
    label: str,
    steps: int,
    fewest: int,
    interesting: Callable[[Pair], bool],
    start: Start = Start(),
    longer: int = 0,
    **interventions: Any,
) -> Generator[Replay, Trail, list[Pair]]:
    """One look at control and treatment; a second one, with the batches in reverse and other random numbers, when the
    first is interesting, that is, favours the treatment: one look has a false alarm in some thirty healthy programs.

    `longer`: steps to take instead, where neither arm has moved within `steps`, and all looks fit into the time.
    `interventions`: fields of the treated arm's Replay.
    """
    # Both arms of the first look must fit into the time; the second look repeats it, if there is time for that.
    steps = max(fewest, min(steps, probe.director.affordable_steps() // 2))
    pairs = yield from _pairs(probe, label, steps, fewest, interesting, start, interventions)
    if longer > steps and pairs and _unmoved(pairs[0]) and probe.director.affordable_steps() >= 4 * longer:
        pairs = yield from _pairs(probe, label, longer, fewest, interesting, start, interventions)
    return pairs


def _unmoved(pair: Pair) -> bool:
    """Neither arm has learned anything yet."""
    ends = [(arm.losses[0], end_level(arm.losses)) for arm in (pair.control, pair.treated)]
    return all(math.isfinite(end) and first - end < MOVED * abs(first) for first, end in ends)


def _pairs(
    probe: Probe,
    label: str,
    steps: int,
    fewest: int,
    interesting: Callable[[Pair], bool],
    start: Start,
    interventions: Mapping[str, Any],
) -> Generator[Replay, Trail, list[Pair]]:
    pairs: list[Pair] = []
    for seed, backwards in ARRANGEMENTS:
        if pairs and probe.director.affordable_steps() < 2 * steps:
            return pairs
        request = Replay(
            steps=steps,
            label=f"{label}: control",
            fewest=fewest,
            order=order(probe, backwards=backwards),
            seed=seed,
            stop=hopeless,
            **start.interventions,
        )
        control = yield from control_trail(probe, request, backwards, start.key)
        if not pairs:
            control.require(fewest)
        if not control.usable and len(control.losses) < fewest:
            return pairs
        treated = yield replace(request, label=label, **interventions)
        if not pairs:
            treated.require(fewest)
        if not treated.usable and len(treated.losses) < fewest:
            return pairs
        pairs.append(Pair(control, treated, seed or 0))
        if not interesting(pairs[-1]):
            return pairs
    return pairs


def paired_looks(
    probe: Probe, label: str, steps: int, fewest: int, *, unit: float = 1.0, longer: int = 0, **interventions: Any
) -> Looks:
    """The losses of `paired_trails`, to which `longer` goes. `unit`: what the control's losses are divided by, where
    the treatment changes the unit of the loss."""

    def look(pair: Pair) -> PairedReplay:
        control = tuple(loss / unit for loss in pair.control.losses)
        return PairedReplay(start="initial", control=control, treated=tuple(pair.treated.losses), seed_offset=pair.seed)

    pairs = yield from paired_trails(
        probe, label, steps, fewest, lambda pair: favours_treatment(look(pair)), longer=longer, **interventions
    )
    return [look(pair) for pair in pairs]


def control_trail(probe: Probe, request: Replay, backwards: bool, key: tuple[object, ...] = ()) -> Arm:
    """The replay of the loop as it is. One that an earlier experiment has made serves again, if its first steps still
    come out the same: a script may count its steps, and do something else later on."""
    known = probe.director.controls
    kept = known.get((request.seed, backwards, key))
    if kept is not None and (len(kept.losses) >= request.steps or kept.ended == "stopped"):
        again = yield replace(request, steps=CHECKED, fewest=CHECKED)
        if len(again.losses) < CHECKED:
            return again
        if all(math.isclose(a, b, rel_tol=SAME) for a, b in zip(again.losses, kept.losses, strict=False)):
            return cut(kept, request.steps)
    trail = yield request
    if trail.usable:
        known[(request.seed, backwards, key)] = trail
    return trail


def cut(trail: Trail, steps: int) -> Trail:
    """Its first steps."""
    return replace(
        trail,
        losses=trail.losses[:steps],
        accuracies=trail.accuracies[:steps],
        spreads=trail.spreads[:steps],
        balanced=trail.balanced[:steps],
        data_losses=trail.data_losses[:steps],
        measured=trail.measured[:steps],
        rates=trail.rates[:steps],
    )


def hopeless(losses: list[float]) -> bool:
    """Five non-finite losses in a row: nothing more to learn from this arm."""
    return len(losses) >= 5 and not any(math.isfinite(loss) for loss in losses[-5:])


def favours_treatment(look: PairedReplay) -> bool:
    """The treated arm ended lower by more than a little."""
    control, treated = list(look.control), list(look.treated)
    if not control or not treated:
        return False
    ends = [end_level(control), end_level(treated)]
    if not math.isfinite(ends[1]):
        return False
    if not math.isfinite(ends[0]):
        return True
    spread = abs(control[0]) or 1.0
    return ends[1] < ends[0] - (1 - WORTH_A_SECOND_LOOK) * max(abs(ends[0]), 0.01 * spread)


def end_level(losses: Sequence[float]) -> float:
    """Median of the last third; infinite where that is not finite, or nothing."""
    tail = losses[-max(1, len(losses) // 3) :]
    return statistics.median(tail) if tail and all(math.isfinite(loss) for loss in tail) else math.inf
