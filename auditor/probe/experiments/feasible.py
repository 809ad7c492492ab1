"""Whether, and how, this loop can be fed recorded data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from auditor.probe.batches import equal
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe
    from auditor.probe.stepdata import StepData


REPLACED = "after {steps} steps the script went on with another optimizer or another model"


def require_rewindable(probe: Probe, *, unfed: bool = False) -> None:
    """Raises NotRun where rewinding this loop makes no sense. `unfed`: it is enough that the random numbers with which
    the loop draws its batch are put back, though nothing can be fed to it."""
    if probe.loop.interleaved:
        raise NotRun(
            "several optimizers take turns with their own backward calls (adversarial or alternating training): "
            "there is no single loss to follow",
            "not-applicable",
        )
    if probe.loop.replaced_after is not None:
        raise NotRun(REPLACED.format(steps=probe.loop.replaced_after))
    if probe.trouble:
        raise NotRun(f"the audit itself failed while it watched the loop: {probe.trouble}")
    if probe.initial is None or probe.observed < 1:
        raise NotRun("no complete training step was seen", "inconclusive")
    if not probe.feed.has_loader and probe.feed.full and not any(step.calls for step in probe.feed.steps):
        raise NotRun(
            f"a batch of {probe.feed.largest / 2**20:.0f} MB is too large to be kept for a replay "
            f"({probe.spec.batch_memory} MB are allowed; see --batch-memory)"
        )
    if not probe.feed.has_loader and not (unfed and without_calls(probe)):
        _require_repeatable_calls(probe)


def without_calls(probe: Probe) -> bool:
    """The loop has no model that it calls: its loss is a formula over tensors that an optimizer holds."""
    return not probe.feed.has_loader and not any(step.calls for step in probe.feed.steps)


def _require_repeatable_calls(probe: Probe) -> None:
    probe.feed.drop_evaluations(probe.observed)
    steps = probe.feed.steps[: probe.observed]
    if not steps or not steps[0].calls:
        raise NotRun(
            "the loop uses no DataLoader, and its training forward does not go through a call of the model: "
            "the probe has no place to feed it recorded data"
        )
    if len({len(step.calls) for step in steps[1:] or steps}) > 1:
        raise NotRun(
            "the number of model calls differs from step to step: what the loop trains on depends on what the model "
            "did before (as in reinforcement learning), so a step cannot be repeated",
            "not-applicable",
        )


def is_constant(probe: Probe) -> bool:
    """True when every step consumes the same tensors: full-batch training."""
    if probe.feed.has_loader or without_calls(probe):
        return False
    steps = probe.feed.steps[: min(4, probe.observed)]
    first = steps[0] if steps else None
    return first is not None and all(
        equal([call.args for call in step.calls], [call.args for call in first.calls])
        and equal([target for _, target in step.targets], [target for _, target in first.targets])
        for step in steps[1:]
    )


def can_substitute(probe: Probe) -> bool:
    """True when recorded model arguments and loss targets are all that a step reads."""
    steps = probe.feed.steps[: probe.observed]
    return bool(steps) and not without_calls(probe) and probe.loss_facts().covers_loss()


def choose_feeding(probe: Probe) -> None:
    """Set how recorded data reach a loop without loader: by substitution where that covers the loss, else by
    restoring the random numbers with which the loop draws its batch."""
    if probe.feed.has_loader:
        probe.substituting, probe.first_recorded = False, 0
        return
    probe.substituting = can_substitute(probe)
    # The state before the very first draw is not known: without substitution the second recorded step comes first. So
    # it does where the model was tried out before the loop: what the first step recorded is more than the step.
    drawn = not probe.substituting and not is_constant(probe)
    steps = probe.feed.steps[: probe.observed]
    probe.first_recorded = 1 if (drawn or _tried_out(steps)) and probe.observed > 2 else 0


def _tried_out(steps: Sequence[StepData]) -> bool:
    """The model was called before the loop, too: the random numbers of the first step are not known."""
    return len(steps) > 1 and (steps[0].trimmed or len(steps[0].calls) != len(steps[1].calls))


def substitute_formulas(probe: Probe) -> bool:
    """Feed a loop without loader, whose random numbers did not bring its batch back, with its model's arguments and
    with what its losses, or its own formula, compare the outputs with. The rewind check shows whether that is all."""
    steps = probe.feed.steps[: probe.observed]
    if probe.substituting or probe.feed.has_loader or without_calls(probe):
        return False
    if len({tuple(name for name, _ in step.targets) for step in steps[1:] or steps}) > 1:
        return False
    return _substitute(probe)


def substitute_rows(probe: Probe) -> bool:
    """The same, also with the rows that the loop takes by an index itself. False where it takes none."""
    if probe.feed.has_loader or without_calls(probe) or not probe.feed.rows.serve():
        return False
    return _substitute(probe)


def _substitute(probe: Probe) -> bool:
    steps = probe.feed.steps[: probe.observed]
    probe.substituting = True
    probe.first_recorded = 1 if len(steps) > 2 and _tried_out(steps) else 0
    return True


def order(probe: Probe, shift: int = 0, backwards: bool = False) -> _Order:
    return _Order(probe.first_recorded, max(1, probe.observed - probe.first_recorded), shift, backwards)


class _Order:
    """Replay step -> recorded step, around and around."""

    def __init__(self, first: int, count: int, shift: int, backwards: bool) -> None:
        self._first, self._count, self._shift, self._backwards = first, count, shift, backwards

    def __call__(self, step: int) -> int:
        position = (step + self._shift) % self._count
        return self._first + (self._count - 1 - position if self._backwards else position)
