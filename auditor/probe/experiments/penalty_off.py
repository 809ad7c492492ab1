"""Replay with the penalties off: is it the data or a penalty that the training follows?"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from auditor.evidence import Explained, PairedReplay, PenaltyOff
from auditor.probe.batches import tensors
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import end_level, favours_treatment, hopeless
from auditor.probe.explained import explained
from auditor.probe.losscall import LossCall
from auditor.probe.replay import Experiment, NotRun, Replay
from auditor.probe.rowprints import row_prints

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from auditor.probe.probe import Probe
    from auditor.probe.replay import Trail

STEPS = 40
DIVIDED_STEPS = 60  # what a decay that is divided with the gradient takes away shows as the gradient becomes small
AUXILIARY_STEPS = 120  # such a term is often small at the start
PROGRESS = 0.2  # of the first data loss gone: no term beside it keeps it from falling
FEWEST = 20
WORTH_A_LOOK = 0.5  # penalty's gradient over that of the data
TOLD = 0.1  # of what the targets differ in: a loss function that was told less stands with the constant answer
LATER_STEPS, EACH = 480, 24
SAME, SAME_STEPS = 0.02, 20  # largest relative difference from the observed losses, and over how many steps
SUMMED = 100.0  # weight of a value of a sum over that of a mean beside it: the two were reduced in different ways
ADAPTIVE = ("Adam", "RMSprop", "Adagrad", "Adadelta")
NEW = 0.9  # of the rows of a step: it shows what has not been learned from yet
STRONG = 1.0  # decoupled decay: its pull over the largest step of the optimizer itself


def penalty_off(probe: Probe) -> Experiment:
    require_rewindable(probe)
    decay = max(_coupled_decay(probe), _strong_decay(probe))
    whole, alone = _Gradients(), _Gradients()
    trail = yield Replay(steps=1, label="penalty off", order=order(probe), penalty=False, at_update=alone.keep)
    trail.require(1)
    terms = max(trail.penalties, default=0)
    trail = yield Replay(steps=1, label="loss function alone", order=order(probe), auxiliary=False)
    auxiliary = max(trail.penalties, default=0) if trail.losses else 0
    summed = trail.summed
    if not terms and not decay and not auxiliary:
        raise NotRun("the loss has no weight penalty, and the optimizer adds none to the gradient", "not-applicable")
    if terms:
        trail = yield Replay(steps=1, label="penalty on", order=order(probe), at_update=whole.keep)
        trail.require(1)
    ratio = max(_ratio(probe, whole if terms else alone, alone), _decoupled_ratio(probe)) if terms or decay else 0.0
    record = probe.program.stepped()[0] if probe.program.stepped() else None
    found = PenaltyOff(
        terms=terms,
        weight_decay=decay,
        ratio=ratio,
        auxiliary=auxiliary,
        summed=summed,
        fidelity=probe.fidelity,
        optimizer=type(record.optimizer).__name__ if record is not None else "",
        location=record.location if record is not None else None,
        loss_location=probe.loss_facts().location,
    )
    if ratio >= WORTH_A_LOOK:
        fed = _Fed() if _adaptive(probe) and not terms else None
        steps = DIVIDED_STEPS if fed is not None else STEPS
        looks = yield from _looks(probe, steps, explicit=bool(terms), off="penalty", fed=fed)
        fresh = fed.share if fed is not None else None
        found = found.model_copy(update={"looks": tuple(looks), "fresh": fresh, "adaptive": fed is not None})
    elif auxiliary:
        hopeful = found.summed < SUMMED
        told: list[Explained] = []
        looks = yield from _looks(probe, AUXILIARY_STEPS, explicit=True, off="auxiliary", hopeful=hopeful, told=told)
        found = found.model_copy(update={"auxiliary_looks": tuple(looks), "explained": tuple(told)})
        if len(told) > 1 and all(each.kept <= TOLD < each.without for each in told):
            later = yield from _later(probe)
            found = found.model_copy(update=later)
    return found


class _Fed:
    """Prints of the rows that a look is fed with: do samples come for the first time?"""

    def __init__(self) -> None:
        self.share: float | None = None  # see `fresh`, of the first look
        self._prints: list[torch.Tensor] = []
        self._known = True

    def keep(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        given = next((each for each in tensors((args, kwargs)) if each.dim() > 1), None)
        found = row_prints(given) if given is not None else None
        self._known &= found is not None
        if found is not None:
            self._prints.append(found.cpu())
        return args, kwargs

    def fresh(self, steps: int) -> tuple[int, float | None]:
        """(leading steps in which nearly all rows come for the first time, the share of new rows in them; in all steps
        where these are too few). (0, None) where rows cannot be told apart."""
        calls = len(self._prints) // max(1, steps)
        if not self._known or not calls or calls * steps != len(self._prints):
            return 0, None
        found = [torch.cat(self._prints[calls * step : calls * (step + 1)]) for step in range(steps)]
        leading = 0
        while leading < steps and _share_new(found[leading], found[:leading]) >= NEW:
            leading += 1
        rows = torch.cat(found[:leading] if leading >= FEWEST else found)
        return leading, len(torch.unique(rows)) / len(rows)


def _share_new(rows: torch.Tensor, before: list[torch.Tensor]) -> float:
    return float((~torch.isin(rows, torch.cat(before))).double().mean()) if before else 1.0


def _later(probe: Probe) -> Generator[Replay, Trail, dict[str, Any]]:
    """Some models wake up late: the loop goes on as it is, until its loss function has been told something."""
    heard: list[torch.Tensor] = []

    def listen(call: LossCall) -> torch.Tensor | None:
        figure = explained(call)
        heard.extend([] if figure is None else [figure])
        return figure

    def awake(losses: list[float]) -> bool:
        if hopeless(losses) or len(losses) % EACH:
            return hopeless(losses)
        return bool(heard) and float(torch.stack(heard[-EACH:]).median()) > TOLD

    recorded, batches = order(probe), max(1, probe.observed - probe.first_recorded)
    trail = yield Replay(
        steps=max(AUXILIARY_STEPS, min(LATER_STEPS, probe.director.affordable_steps())),
        label="with the terms, for longer",
        fewest=AUXILIARY_STEPS,
        order=lambda step: recorded(step % batches),
        measure=listen,
        stop=awake,
    )
    return {"explained_later": _end(trail.measured), "later_steps": len(trail.losses)} if trail.usable else {}


def _end(figures: list[float]) -> float | None:
    known = [each for each in figures[-max(1, len(figures) // 3) :] if math.isfinite(each)]
    return statistics.median(known) if known else None


def _as_observed(probe: Probe, losses: list[float]) -> bool:
    """The replay goes the way that was observed: no weight of a term has grown in the meantime."""
    seen = probe.observed_losses()[probe.first_recorded :]
    pairs = list(zip(losses, seen, strict=False))[:SAME_STEPS]
    return all(abs(a - b) <= SAME * max(abs(a), abs(b), 1e-12) for a, b in pairs)


class _Gradients:
    """Of the first update, on the host."""

    def __init__(self) -> None:
        self.kept: dict[int, torch.Tensor] = {}

    def keep(self, step: int, parameters: list[torch.Tensor]) -> None:
        for parameter in parameters:
            if step == 0 and parameter.grad is not None and parameter.grad.layout == torch.strided:
                self.kept[id(parameter)] = parameter.grad.detach().double().cpu()


def _coupled_decay(probe: Probe) -> float:
    """Largest weight decay that an optimizer adds to the gradient; decoupled ones (AdamW) do not."""
    found = [
        float(group.get("weight_decay") or 0.0) for record in probe.program.stepped() for group in _coupled(record)
    ]
    return max(found, default=0.0)


def _adaptive(probe: Probe) -> bool:
    """The optimizer divides by the size of the gradient after the decay was added to it, as Adam does."""
    return any(
        any(name in type(record.optimizer).__name__ for name in ADAPTIVE)
        for record in probe.program.stepped()
        if _coupled(record)
    )


def _strong_decay(probe: Probe) -> float:
    """Largest decoupled weight decay, where it is strong enough to be looked at."""
    if _decoupled_ratio(probe) <= STRONG:
        return 0.0
    return max(
        float(group.get("weight_decay") or 0.0) for record in probe.program.stepped() for group in _adamw(record)
    )


def _decoupled_ratio(probe: Probe) -> float:
    """Largest pull of a decoupled decay on a group of weights, over the step of the optimizer itself: both times the
    rate. Adam's own step has a root mean square of at most about 1 (its m over the root of its v)."""
    found = [0.0]
    for record in probe.program.stepped():
        for group in _adamw(record):
            kept = [probe.initial.initial(parameter) for parameter in group["params"]] if probe.initial else []
            weights = [weight for weight in kept if weight is not None and weight.is_floating_point()]
            count = sum(weight.numel() for weight in weights)
            if count:
                square = sum(float(weight.double().square().sum()) for weight in weights) / count
                found.append(float(group["weight_decay"]) * square**0.5)
    return max(found)


def _adamw(record: Any) -> list[dict[str, Any]]:
    """Its groups with a decay that is not added to the gradient."""
    if "Adam" not in type(record.optimizer).__name__:
        return []
    coupled = [id(group) for group in _coupled(record)]
    return [g for g in record.optimizer.param_groups if g.get("weight_decay") and id(g) not in coupled]


def _coupled(record: Any) -> list[dict[str, Any]]:
    if type(record.optimizer).__name__ == "AdamW":
        return []
    groups = record.optimizer.param_groups
    return [group for group in groups if not group.get("decoupled_weight_decay") and group.get("weight_decay")]


def _ratio(probe: Probe, whole: _Gradients, alone: _Gradients) -> float:
    """Norm of the penalty's gradient, decay included, over that of the data."""
    decays = {
        id(parameter): float(group["weight_decay"])
        for record in probe.program.stepped()
        for group in _coupled(record)
        for parameter in group["params"]
    }
    penalty, data = 0.0, 0.0
    for record in probe.program.stepped():
        for parameter in record.parameters:
            key = id(parameter)
            own = alone.kept.get(key)
            if own is None:
                continue
            initial = probe.initial.initial(parameter) if probe.initial is not None else None
            push = whole.kept.get(key, own) - own
            if initial is not None and key in decays:
                push = push + decays[key] * initial.double()
            penalty += float(push.square().sum())
            data += float(own.square().sum())
    return (penalty / data) ** 0.5 if data > 0 else float("inf") if penalty > 0 else 0.0


def _looks(
    probe: Probe,
    steps: int,
    *,
    explicit: bool,
    off: Literal["penalty", "auxiliary"],
    hopeful: bool = True,
    fed: _Fed | None = None,
    told: list[Explained] | None = None,
) -> Generator[Replay, Trail, list[PairedReplay]]:
    """Paired, as elsewhere; where the penalty is a part of the loss, what is compared are the loss functions alone."""
    looks: list[PairedReplay] = []
    fresh_only = False
    steps = max(FEWEST, min(steps, probe.director.affordable_steps() // 2))
    for seed, backwards in ((None, False), (20_011, True)):
        if looks and probe.director.affordable_steps() < 2 * steps:
            return looks
        pair: list[list[float]] = []
        shares: list[float | None] = []
        for treated in (False, True):
            request = Replay(
                steps=steps,
                label="without the penalty" if treated else "without the penalty: control",
                fewest=FEWEST,
                order=_first_backwards(probe, steps) if fresh_only else order(probe, backwards=backwards),
                seed=seed,
                stop=hopeless,
                measure=explained if told is not None else None,
            )
            if treated and off == "penalty":
                request = replace(request, penalty=False, weight_decay=False)
            elif treated:
                request = replace(request, auxiliary=False)
            elif fed is not None and not looks:
                request = replace(request, call_change=fed.keep)
            trail = yield request
            if not looks:
                trail.require(FEWEST)
            if not trail.usable and len(trail.losses) < FEWEST:
                return looks
            losses = trail.data_losses if explicit else trail.losses
            if explicit and all(math.isnan(loss) for loss in losses):  # none was heard
                raise NotRun("the loss of the data alone is not known: no loss function of torch was called")
            shares.append(_end(trail.measured))
            if off == "auxiliary" and not treated and not looks and not _as_observed(probe, trail.losses):
                told = None
            constant = told is not None and shares[0] is not None and shares[0] <= TOLD
            if off == "auxiliary" and not treated and hopeful and _falls(losses) and not constant:
                return looks  # a data loss that makes progress needs no comparison
            pair.append(losses)
        if fed is not None and not looks:
            leading, fed.share = fed.fresh(len(pair[0]))
            if leading >= FEWEST:  # what follows has been learned from already
                pair = [losses[:leading] for losses in pair]
                steps, fresh_only = leading, True
        look = PairedReplay(start="initial", control=tuple(pair[0]), treated=tuple(pair[1]), seed_offset=seed or 0)
        looks.append(look)
        if told is not None and None not in shares:
            told.append(Explained(steps=len(pair[1]), kept=shares[0] or 0.0, without=shares[1] or 0.0))
        if not favours_treatment(look):
            return looks
    return looks


def _first_backwards(probe: Probe, steps: int) -> Callable[[int], int]:
    """The batches of the first steps alone, the last one first."""
    recorded = order(probe)
    return lambda step: recorded(max(0, steps - 1 - step))


def _falls(losses: list[float]) -> bool:
    end = end_level(losses)
    return math.isfinite(end) and end < (1 - PROGRESS) * statistics.median(losses[:3])
