"""Does the loop learn more from its inputs than without them? One pinned batch, once with its inputs and once with the
first sample's inputs in place of everybody's; targets, weights and random numbers are the same."""

from __future__ import annotations

import inspect
import math
import statistics
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import EmbeddingLookups, IgnoredInput, InputUse, UnreadPlaces
from auditor.probe.batches import equal, map_tensors, tensors
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.replay import Experiment, NotRun, Replay
from auditor.probe.unread import unread_places

if TYPE_CHECKING:
    from collections.abc import Generator

    from auditor.probe.examination import Examination
    from auditor.probe.losscall import LossCall
    from auditor.probe.probe import Probe
    from auditor.probe.replay import Trail

STEPS = (30, 120)  # of both arms; the longer ones only where the shorter ones leave it open
FEWEST = 12
CLEAR = 0.85  # loss with inputs over loss without them that settles it
MOST_INPUTS = 8  # that are exchanged one by one
SEED = 60_013
TARGETS = ("label", "labels", "target", "targets", "y", "tgt", "decoder_input_ids", "start_positions", "end_positions")
MASKS = ("mask", "length", "position", "lens")


def input_use(probe: Probe) -> Experiment:
    require_rewindable(probe)
    facts = probe.loss_facts()
    size = probe.feed.batch_size() if (probe.feed.has_loader or probe.substituting) else None
    if facts.contrasts_the_batch():
        raise NotRun("every sample's target is its own place in the batch", "not-applicable")
    if size is None or size < 2:
        raise NotRun("the inputs of one sample cannot take the place of another's: no common batch dimension")
    looks = _Arms(probe, size)
    if not facts.name:  # a formula, whose targets are not known: whether the outputs depend on the inputs can be seen
        yield from looks.take(FEWEST, both=False)
        return looks.answer()
    for steps in STEPS:
        if looks.real and probe.director.affordable_steps() < 2 * steps:
            break
        yield from looks.take(steps)
        if looks.settled():
            break
    return looks.answer()


class _Arms:
    """The two arms, and what was heard in them."""

    def __init__(self, probe: Probe, size: int) -> None:
        self._probe = probe
        self._size = size
        self.real: list[float] = []
        self._constant: list[float] = []
        self._targets: dict[bool, list[torch.Tensor]] = {}
        self._change: float | None = None
        self._examined = 0
        self._distinct = True
        self._changed = 0
        self._module: torch.nn.Module | None = None
        self._ignored: tuple[IgnoredInput, ...] = ()
        self._unread: tuple[UnreadPlaces, ...] = ()
        self._refused = ""  # why the model cannot be called with one sample's inputs for all

    def take(self, steps: int, both: bool = True) -> Generator[Replay, Trail, None]:
        for constant in (False, True) if both else (False,):
            if constant and self._refused:
                return
            trail = yield self._replay(steps, constant)
            if not trail.usable and len(trail.losses) < FEWEST:
                if not self.real:
                    trail.require(FEWEST)
                return
            if constant:
                self._constant = trail.losses
            else:
                self.real = trail.losses

    def _replay(self, steps: int, constant: bool) -> Replay:
        first = order(self._probe)(0)
        self._targets[constant] = []

        def look(examination: Examination, step: int) -> None:
            if step == steps - 1:
                self._examine(examination, step)

        def hear(call: LossCall, step: int) -> None:
            if step == 0:
                self._targets[constant].append(call.target.detach().clone())

        return Replay(
            steps=steps,
            label=f"learn {'without' if constant else 'with'} the inputs",
            fewest=FEWEST,
            order=lambda step: first,
            pinned=True,
            peak_rate=True,
            dropout=False,
            weight_decay=False,
            seed=SEED,
            call_change=self._same_for_all if constant else None,
            examine=None if constant else look,
            hear_loss=hear,
        )

    def _same_for_all(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return self._exchange(args, kwargs, lambda tensor: tensor[:1].expand_as(tensor).clone())

    def _exchange(self, args: Any, kwargs: Any, change: Any) -> tuple[Any, Any]:
        """Inputs of the model changed; what it is told about them, or compares its outputs with, stays."""

        def each(tensor: torch.Tensor) -> torch.Tensor:
            fits = tensor.dim() > 0 and tensor.shape[0] == self._size and tensor.dtype != torch.bool
            return change(tensor.detach()) if fits and not tensor.requires_grad else tensor

        if self._probe.loss_facts().in_model():
            args = (map_tensors(args[0], each), *args[1:]) if args else args
            if not args or isinstance(args[0], Mapping):
                kwargs = {key: value if _is_target(key) else map_tensors(value, each) for key, value in kwargs.items()}
            return args, kwargs
        named = {key: value if _is_target(key) else map_tensors(value, each) for key, value in kwargs.items()}
        return map_tensors(args, each), named

    def _examine(self, examination: Examination, step: int) -> None:
        """Outputs when every sample gets the inputs of the next one."""
        self._rehearse(examination)  # before the exchange: one changed copy of the batch at a time
        args, kwargs = self._exchange(examination.args, examination.kwargs, lambda tensor: tensor.roll(1, 0))
        before, after = list(tensors((examination.args, examination.kwargs))), list(tensors((args, kwargs)))
        self._changed = sum(a is not b for a, b in zip(before, after, strict=True))
        self._distinct = not equal(before, after)
        self._module = examination.module
        if not self._changed or not self._distinct:
            return
        moved = 0.0
        for training in (False, True):
            was = examination.outputs(training=training)
            now = examination.outputs(args, kwargs, training=training)
            moved = max([moved, *(_apart(a, b) for a, b in zip(was, now, strict=False))])
            if not was or len(was) != len(now):
                return
            if not self._probe.loss_facts().name and not all(o.dim() and o.shape[0] == self._size for o in was):
                return  # one number for the batch, as a loss inside the model: it does not know the order of the rows
        self._change, self._examined = moved, step
        if self._changed > 1 and moved > 0:
            self._ignored = tuple(self._without_effect(examination, before, after))
        if moved > 0:
            self._unread = tuple(unread_places(examination, self._size, _argument))

    def _without_effect(
        self, examination: Examination, before: list[torch.Tensor], after: list[torch.Tensor]
    ) -> Iterator[IgnoredInput]:
        """Inputs of which each sample can get another one's, and no output changes by one bit."""
        for place, (usual, other) in enumerate(zip(before, after, strict=True)):
            if place >= MOST_INPUTS or usual is other or torch.equal(usual, other):
                continue
            args, kwargs = (_replaced(given, usual, other) for given in (examination.args, examination.kwargs))
            if all(
                _same(examination.outputs(training=training), examination.outputs(args, kwargs, training=training))
                for training in (False, True)
            ):
                yield IgnoredInput(name=_argument(examination, usual), shape=tuple(usual.shape))

    def _rehearse(self, examination: Examination) -> None:
        """The loop must not break over inputs that are all alike: lengths may follow from them."""
        usual = [output.shape for output in examination.outputs(training=True)]
        try:
            args, kwargs = self._same_for_all(examination.args, examination.kwargs)
            if [output.shape for output in examination.outputs(args, kwargs, training=True)] != usual:
                self._refused = "the outputs have another shape when all samples have the same inputs"
        except Exception as error:
            self._refused = f"{type(error).__name__}: {str(error)[:120]}"

    def settled(self) -> bool:
        """The inputs do not matter at all, or clearly help."""
        if self._change == 0.0 or self._refused:
            return True
        ends = [statistics.median(arm[-max(1, len(arm) // 3) :]) for arm in (self.real, self._constant) if arm]
        return len(ends) == 2 and 0 <= ends[0] < CLEAR * ends[1]

    def answer(self) -> InputUse:
        facts = self._probe.loss_facts()
        mine, others = self._targets.get(False, []), self._targets.get(True, [])
        module = self._module
        return InputUse(
            module=type(module).__name__ if module is not None else "",
            samples=self._size,
            steps=len(self.real),
            real=tuple(self.real),
            constant=tuple(self._constant),
            output_change=self._change if self._change is None or math.isfinite(self._change) else None,
            examined=self._examined,
            changed_inputs=self._changed,
            same_targets=equal(mine, others) if mine and others else None,
            distinct_inputs=self._distinct,
            ignored=self._ignored,
            unread=self._unread,
            one_row=_one_row(self._probe),
            refused=self._refused,
            distinct_targets=_differ(mine[0], self._size) if mine else None,
            fidelity=self._probe.fidelity,
            loss_function=facts.name,
            location=facts.location,
            model_location=self._probe.program.location_of(module),
        )


def _one_row(probe: Probe) -> tuple[EmbeddingLookups, ...]:
    try:
        seen = probe.collectors.find("embedding_rows").part()
    except Unavailable:
        return ()
    return tuple(each for each in seen.layers if seen.fractions_only and each.lowest == each.highest)


def _replaced(given: Any, tensor: torch.Tensor, other: torch.Tensor) -> Any:
    return map_tensors(given, lambda each: other if each is tensor else each)


def _same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return bool(one) and len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _argument(examination: Examination, tensor: torch.Tensor) -> str:
    """What the model's forward calls it; '' where that is not known."""
    try:
        bound = inspect.signature(examination.module.forward).bind(*examination.args, **examination.kwargs)
    except (TypeError, ValueError):
        return ""
    return next((name for name, value in bound.arguments.items() if any(t is tensor for t in tensors(value))), "")


def _is_target(name: str) -> bool:
    return name.lower() in TARGETS or any(word in name.lower() for word in MASKS)


def _apart(before: torch.Tensor, after: torch.Tensor) -> float:
    """Largest change relative to the size of the outputs; NaN where both are not finite counts as none."""
    if before.shape != after.shape:
        return math.inf
    if not before.numel():
        return 0.0
    apart = (after.double() - before.double()).abs().nan_to_num(0.0, math.inf, math.inf)
    return float(apart.max()) / max(float(before.double().nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()), 1e-12)


def _differ(target: torch.Tensor, size: int) -> bool | None:
    """Whether the samples' targets are not all the same; None where there is not one row a sample."""
    if not target.dim() or target.shape[0] % size:
        return None
    rows = target.reshape(size, -1)
    return not bool((rows == rows[:1]).all())
