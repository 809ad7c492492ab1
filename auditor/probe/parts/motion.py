"""What the updates did to each parameter: whether it moved, how its norm grew, whether masked elements moved too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from auditor.evidence import Motion, ParameterMotion
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.locate import sources_mention
from auditor.probe.masks import LARGEST, LateMasks, Mask
from auditor.probe.masks import masked as masked_elements
from auditor.probe.owners import Owners, from_outside, owners, sample
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.program import OptimizerSeen
from auditor.probe.rewind import is_lazy
from auditor.probe.steps import StepSeen, fetch

NORM_EVERY = 4  # steps
ORTHOGONAL = 1e-4  # largest cosine of weight and gradient of a weight whose size does not matter
MOST_NORMS = 50
MOST_COSINES = 8
MOST_WATCHED = 400  # parameters that are looked at in a sampled step
MOST_LATE = 4  # optimizers
MOST_PARAMETERS = 200  # that are described; of larger models the noteworthy ones
GRADED = 5  # updates
BY_HAND = re.compile(r"""["']lr["']\]\s*[-+*/]?=(?!=)""")  # a source that sets the rate of a group itself


@dataclass
class _Watched:
    parameter: torch.Tensor
    graded: int = 0
    moved_within: list[torch.Tensor] = field(default_factory=list)
    cosines: list[torch.Tensor] = field(default_factory=list)
    mask: Mask | None = None
    first: torch.Tensor | None = None  # a sample before its first sampled update
    elsewhere: list[torch.Tensor] = field(default_factory=list)  # per later one: whether it began with another value


class MotionCollector(Collector):
    name = "motion"
    looks_on = True  # for the masks of optimizers that are built later

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._watched: dict[int, _Watched] = {}
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._nonzero: dict[int, torch.Tensor] = {}  # after the last backward
        self._cuts: list[tuple[int, torch.Tensor]] = []
        self._norms: list[tuple[int, list[int], torch.Tensor]] = []
        self._late: dict[int, LateMasks] = {}  # by optimizer
        self._optimizers = 0  # that had been built when the loop began to be looked on
        self._observed: Motion | None = None

    # ------------------------------------------------------------------------------------------------- inside a step

    def backward_ended(self) -> None:
        """Noted: which elements have a gradient now. The first steps show which parameters are worth it later."""
        if self.probe.looking_on:
            for record in self.probe.program.optimizers[self._optimizers :][:MOST_LATE]:
                self._late_masks(record).backward_ended()
            return
        if not sampled(self.step) or self.probe.updating:
            return
        parameters = [p for p in self.probe.program.trained_parameters() if _maskable(p)]
        if self.step < 3:
            self._nonzero = {id(p): p.grad.detach().count_nonzero() for p in parameters if p.grad is not None}
        for parameter in parameters:
            watched = self._watched.get(id(parameter))
            if watched is not None and watched.mask is not None:
                watched.mask.backward_ended(parameter)

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if self.probe.looking_on:
            if id(optimizer) in self._late:
                self._late[id(optimizer)].update_begins()
            return
        if optimizer is None or not sampled(self.step):
            return
        with_grad = [p for p in parameters if p.grad is not None and p.is_floating_point() and not is_lazy(p)]
        with_grad = with_grad[:MOST_WATCHED]
        for parameter in with_grad:
            watched = self._watched.setdefault(id(parameter), _Watched(parameter))
            self._look_at_mask(watched)
            if self.step > 1 and len(watched.cosines) < MOST_COSINES and parameter.dim() > 1:
                watched.cosines.append(_cosine(parameter))
        self._nonzero = {}
        if not self.probe.program.seen(optimizer).closure:
            self._before = [(parameter, sample(parameter)) for parameter in with_grad]
            for parameter, before in self._before:
                watched = self._watched[id(parameter)]
                if watched.first is None:
                    watched.first = before
                else:
                    watched.elsewhere.append((before != watched.first).any())

    def _late_masks(self, record: OptimizerSeen) -> LateMasks:
        found = self._late.get(id(record.optimizer))
        if found is None:
            found = self._late[id(record.optimizer)] = LateMasks(
                [p for p in record.parameters if _maskable(p)], self.step
            )
        return found

    def _look_at_mask(self, watched: _Watched) -> None:
        parameter = watched.parameter
        before = self._nonzero.get(id(parameter))
        if before is not None and parameter.grad is not None and watched.mask is None:
            self._cuts.append((id(parameter), before - parameter.grad.detach().count_nonzero()))
        if watched.mask is not None:
            watched.mask.update_begins(parameter)

    def update_ended(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        for parameter, before in self._before:
            self._watched[id(parameter)].moved_within.append((sample(parameter) != before).any())
        self._before = []

    # ------------------------------------------------------------------------------------------------- between steps

    def step_ended(self, step: StepSeen) -> None:
        if self.probe.looking_on:
            return
        cuts, self._cuts = self._cuts, []
        for (key, _), gone in zip(cuts, fetch([gone for _, gone in cuts]), strict=True):
            watched = self._watched[key]
            if gone > 0 and watched.mask is None:
                watched.mask = Mask()
        if self.step % NORM_EVERY == 0 and len(self._norms) < MOST_NORMS and not self.probe.manual():
            weights = [p for p in self.probe.program.trained_parameters() if p.dim() > 1 and _maskable(p, None)]
            if weights:
                self._norms.append((self.step, [id(p) for p in weights], norms([p.detach() for p in weights])))

    # ------------------------------------------------------------------------------------------------------ the part

    def part(self) -> Motion:
        """Told twice, if the loop is looked on: then what was observed, and what came later."""
        if self._observed is None:
            self._observed = self._motions()
            self._optimizers = len(self.probe.program.optimizers)
            return self._observed
        late = [motion for record in self.probe.program.stepped() for motion in self._masked_late(record)]
        return self._observed.model_copy(update={"parameters": (*self._observed.parameters, *late)})

    def _masked_late(self, record: OptimizerSeen) -> list[ParameterMotion]:
        late = self._late.get(id(record.optimizer))
        if late is None or not late.masks:
            return []
        known = owners(self.probe.program)
        chosen = [each for each in self._held(record) if id(each[0]) in late.masks]
        self._watched.update({id(p): _Watched(p, mask=late.masks[id(p)]) for p, _, _ in chosen})
        found = [self._motion(p, record, [], decay, {}, late.starts, known, {}, ()) for p, _, decay in chosen]
        return [each.model_copy(update={"since": late.began}) for each in found]

    def _motions(self) -> Motion:
        probe = self.probe
        stepped = probe.program.stepped()
        if probe.manual() or not stepped:
            raise Unavailable("the weights are updated without a torch optimizer")
        if probe.initial is None or not probe.observed:
            raise Unavailable("no training step was complete", "inconclusive")
        graded = probe.collectors.find("gradients").graded()
        starts = probe.initial.kept()
        known = owners(probe.program)
        table: dict[int, dict[int, float]] = defaultdict(dict)
        for step, keys, vector in self._norms:
            for key, value in zip(keys, vector.tolist(), strict=True):
                table[key][step] = float(f"{value:.5g}")
        steps = tuple(step for step, _, _ in self._norms)
        found = [
            self._motion(parameter, record, rates, decay, graded, starts, known, table.get(id(parameter), {}), steps)
            for record in stepped
            for parameter, rates, decay in self._held(record)
        ]
        if not found:
            raise Unavailable("the optimizer holds no parameters", "inconclusive")
        kept = found if len(found) <= MOST_PARAMETERS else sorted(found, key=_noteworthy)[:MOST_PARAMETERS]
        return Motion(
            steps=probe.observed,
            total=len(found),
            graded=sum(each.graded_updates >= GRADED for each in found),
            norm_steps=steps,
            parameters=tuple(kept),
        )

    def _held(self, record: OptimizerSeen) -> list[tuple[torch.Tensor, list[float], float]]:
        """(parameter, rates of its group at each update, weight decay of its group)."""
        found = []
        for index, group in enumerate(record.optimizer.param_groups):
            options = self.probe.recorded_groups.get((id(record.optimizer), index), [])
            rates = [_rate(option.get("lr")) for option in options]
            decay = group.get("weight_decay", 0.0)
            for parameter in group["params"]:
                if isinstance(parameter, torch.Tensor) and not is_lazy(parameter):
                    found.append((parameter, rates, float(decay) if isinstance(decay, int | float) else 0.0))
        return found

    def _motion(
        self,
        parameter: torch.Tensor,
        record: OptimizerSeen,
        rates: list[float],
        decay: float,
        graded: dict[int, int],
        starts: dict[int, torch.Tensor],
        known: Owners,
        norms_seen: dict[int, float],
        steps: tuple[int, ...],
    ) -> ParameterMotion:
        module, own = known.of.get(id(parameter), (None, ""))
        start = starts.get(id(parameter))
        now = parameter.detach().cpu()
        watched = self._watched.get(id(parameter))
        within = watched.moved_within if watched is not None else []
        masked, moved, rows, drift = masked_elements(watched.mask if watched is not None else None, start, now)
        cosines = fetch(list(watched.cosines)) if watched is not None else []
        return ParameterMotion(
            name=f"{known.name(module)}.{own}" if module is not None else "(a loose parameter)",
            kind=type(module).__name__ if module is not None else "",
            location=self.probe.program.location_of(module),
            shape=tuple(parameter.shape),
            dtype=str(parameter.dtype).removeprefix("torch."),
            optimizer=type(record.optimizer).__name__,
            graded_updates=min(graded.get(id(parameter), 0), sum(1 for rate in rates if rate > 0)),
            idle_updates=graded.get(id(parameter), 0) if _is_idle(rates) else 0,
            returns=watched is not None and len(watched.elsewhere) > 2 and not any(map(bool, watched.elsewhere)),
            loaded=module is not None and from_outside(self.probe.program, known.path(module)),
            moved=start is None or start.shape != now.shape or not torch.equal(start, now),
            moved_within=any(bool(value) for value in within) or not within,
            rate=max((rate for rate in rates if rate == rate), default=0.0),
            norms=tuple(norms_seen.get(step, float("nan")) for step in steps) if norms_seen else (),
            scale_invariant=len(cosines) > 1 and max(map(abs, cosines)) < ORTHOGONAL,
            outward=-sorted(cosines)[len(cosines) // 2] if cosines else 0.0,
            masked=masked,
            masked_moved=moved,
            masked_rows=rows,
            drift=drift,
            weight_decay=decay,
            optimizer_location=record.location,
        )


def _noteworthy(each: ParameterMotion) -> tuple[bool, bool, float]:
    """A key: what did not move first, then what was masked, then what grew most."""
    grown = each.norms[-1] / each.norms[0] if each.norms and each.norms[0] > 0 else 0.0
    return each.moved, not each.masked, -grown if grown == grown else 0.0


def _maskable(parameter: torch.Tensor, largest: int | None = LARGEST) -> bool:
    if is_lazy(parameter) or parameter.layout != torch.strided or not parameter.is_floating_point():
        return False
    sparse = parameter.grad is not None and parameter.grad.is_sparse
    return not sparse and (largest is None or parameter.numel() <= largest)


def _cosine(parameter: torch.Tensor) -> torch.Tensor:
    """0-d: cosine of weight and gradient; infinite where one of them is zero."""
    _, [grad] = dense_gradients([parameter])
    weight = parameter.detach()
    if grad.shape != weight.shape:
        return torch.tensor(float("inf"))
    flat, flat_grad = weight.reshape(-1).float(), grad.reshape(-1).float()
    size = (flat.dot(flat) * flat_grad.dot(flat_grad)).sqrt()
    product = flat.dot(flat_grad) / size
    return torch.where(size > 0, product, torch.full_like(product, float("inf"))).double()


def _rate(value: Any) -> float:
    try:
        return float(value) if not (isinstance(value, torch.Tensor) and value.device.type != "cpu") else float("nan")
    except (TypeError, ValueError):
        return float("nan")


def _is_idle(rates: Sequence[float]) -> bool:
    """The rate has been 0, and no source sets one by hand, as gradual unfreezing does."""
    return bool(rates) and max(rates) == 0 and not sources_mention(BY_HAND)
