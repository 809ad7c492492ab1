"""Two questions about the loss scale: does the update depend on it, and does the loop need one that has none?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from auditor.evidence import Location, ScaleChange, Underflow, UnscaledShare
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.replay import Experiment, NotRun, Replay, Trail

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from auditor.probe.probe import Probe

FACTOR = 0.5
ROOM = 4.0  # below the scale at the end of the observation: the first steps may have larger gradients
# Largest scale under which a loss that is not scaled is looked for: small enough for its gradient not to be lost in the
# rounding of the others', large enough for it to be small beside them, which keeps clipping from bending the relation.
APART = 256.0
ELEMENTS = 65_536  # of one gradient, compared
STEPS = 8
SCALES = (65_536.0, 1_024.0, 32.0)  # as GradScaler starts, and lower for a loss that overflows under it


def scale_change(probe: Probe) -> Experiment:
    """The first step, at two scales of the program's own GradScaler."""
    if reason := no_scale_to_change(probe):
        raise NotRun(reason, "not-applicable")
    require_rewindable(probe)
    scalers = scalers_used(probe)
    if len(scalers) > 2:
        raise NotRun("the GradScaler is built anew all the time: its scale cannot be set from outside")
    scale = max(1.0, min(float(scaler.get_scale()) for scaler in scalers) / ROOM)
    (first, second), limits = yield from _gradients_at(probe, scalers, (scale, scale * FACTOR))
    if not first or len(first) != len(second):
        raise NotRun("the step was skipped under the scales tried, so there is no update to compare")
    pairs = list(zip(first, second, strict=True))
    if any(not bool(torch.isfinite(each).all()) or not bool(each.any()) for pair in pairs for each in pair):
        raise NotRun("a gradient of the first step is zero or not finite, so there is nothing to compare")
    return ScaleChange(
        scale=scale,
        factor=FACTOR,
        ratios=tuple(float(b.norm() / a.norm()) for a, b in pairs),
        differences=tuple(float((b - a).norm() / a.norm()) for a, b in pairs),
        limit_ratio=limits[1] / limits[0] if len(limits) == 2 and limits[0] else None,
        unscaled=(yield from _unscaled_shares(probe, scalers, min(scale, APART))),
    )


def _gradients_at(
    probe: Probe, scalers: list[Any], scales: tuple[float, ...]
) -> Generator[Replay, Trail, tuple[list[list[torch.Tensor]], list[float]]]:
    """(per scale the gradients that the optimizers used, limit of the first clipping) in the first step."""
    arms: list[list[torch.Tensor]] = []
    limits: list[float] = []
    for value in scales:
        seen: list[torch.Tensor] = []
        trail = yield Replay(
            steps=1,
            label=f"loss scale {value:g}",
            order=order(probe),
            prepare=scale_setter(scalers, value),
            at_update=_recorder(probe, seen),
        )
        trail.require(1)
        arms.append(seen)
        limits.extend(trail.clip_limits[:1])
    return arms, limits


def _unscaled_shares(
    probe: Probe, scalers: list[Any], scale: float
) -> Generator[Replay, Trail, tuple[UnscaledShare, ...]]:
    """() unless the loop mixes scaled and other losses, or where a scale tried skips the step."""
    collector = probe.collectors.find("scaler_use")
    if collector is None or not collector.mixes():
        return ()
    arms, _ = yield from _gradients_at(probe, scalers, (scale, scale / 2, scale / 4))
    if not arms[0] or any(len(arm) != len(arms[0]) for arm in arms):
        return ()
    return tuple(_unscaled_share(scale, *three) for three in zip(*arms, strict=True))


def _unscaled_share(scale: float, whole: torch.Tensor, half: torch.Tensor, quarter: torch.Tensor) -> UnscaledShare:
    """From (n,) gradients s + g / scale, s + 2 g / scale and s + 4 g / scale."""
    first, second = half - whole, quarter - half
    shrunk = scale / 2 * second
    entire = whole + shrunk * (1 - 1 / scale)
    return UnscaledShare(
        share=float(shrunk.norm() / entire.norm().clamp(min=1e-300)),
        error=float((second - 2 * first).norm() / second.norm().clamp(min=1e-300)),
    )


def scalers_used(probe: Probe) -> list[Any]:
    """GradScalers that have scaled a loss: only then they hold a scale."""
    return [scaler for scaler in probe.program.scalers if getattr(scaler, "_scale", None) is not None]


def no_scale_to_change(probe: Probe) -> str:
    """Why `scale_change` makes no sense here, '' where it does."""
    return "" if scalers_used(probe) else "no GradScaler scales a loss here"


def nothing_to_scale(probe: Probe) -> str:
    """Why `underflow` makes no sense here, '' where it does."""
    if not half_precision(probe)[0]:
        return "nothing is computed in float16 (bfloat16 has the range of float32)"
    return "a GradScaler scales the loss" if scalers_used(probe) else ""


def scale_setter(scalers: list[Any], value: float) -> Callable[[], None]:
    def prepare() -> None:
        for scaler in scalers:
            scaler._scale.fill_(value)

    return prepare


def _recorder(probe: Probe, seen: list[torch.Tensor]) -> Callable[[int, list[torch.Tensor]], None]:
    """Appends (n,) the gradient as the optimizer uses it, in float64 on the host, a strided sample of each tensor."""

    def at_update(step: int, parameters: list[torch.Tensor]) -> None:
        if step:
            return
        record = next((r for r in probe.program.stepped() if r.parameters and r.parameters[0] is parameters[0]), None)
        # Fused optimizers take the scale off inside their own kernel.
        inside = getattr(record.optimizer, "grad_scale", None) if record is not None else None
        divisor = float(inside) if inside is not None else 1.0
        _, gradients = dense_gradients(parameters)
        pieces = [each.reshape(-1)[:: max(1, each.numel() // ELEMENTS)].double().cpu() for each in gradients]
        seen.append(torch.cat(pieces) / divisor if pieces else torch.zeros(1, dtype=torch.float64))

    return at_update


# --------------------------------------------------------------------------------------------------------- underflow


def half_precision(probe: Probe) -> tuple[str, Location | None]:
    """('autocast' or 'weights' or '', where autocast is entered): where float16 gradients come from."""
    if any(parameter.dtype is torch.float16 for parameter in probe.program.trained_parameters()):
        return "weights", None
    if torch.float16 in probe.program.autocasts:
        return "autocast", probe.program.autocasts[torch.float16]
    return "", None


def underflow(probe: Probe) -> Experiment:
    """The first steps as they are, and with a loss scale of ours."""
    if reason := nothing_to_scale(probe):
        raise NotRun(reason, "not-applicable")
    require_rewindable(probe)
    source, location = half_precision(probe)
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer")
    plain: list[_Zeros] = []
    trail = yield Replay(steps=STEPS, label="no loss scale", order=order(probe), after_backward=_counter(plain))
    trail.require(1)
    for scale in SCALES:
        scaled: list[_Zeros] = []
        trail = yield Replay(
            steps=STEPS,
            label=f"loss scale {scale:g}",
            order=order(probe),
            loss_scale=scale,
            after_backward=_counter(scaled),
        )
        trail.require(1)
        if scaled and all(each.finite for each in scaled):
            return _compared(probe, plain, scaled, scale, "autocast" if source == "autocast" else "weights", location)
    raise NotRun("the gradients are not finite under any of the loss scales tried")


@dataclass
class _Zeros:
    """Exactly zero elements of all gradients after one backward."""

    step: int
    zeros: int
    elements: int
    finite: bool
    masks: dict[int, torch.Tensor]  # id(parameter) -> where its gradient is zero; of the first step only


def _counter(into: list[_Zeros]) -> Callable[[int, list[torch.Tensor]], None]:
    def after_backward(step: int, parameters: list[torch.Tensor]) -> None:
        owners, gradients = dense_gradients(parameters)
        if not gradients:
            return
        masks = [gradient == 0 for gradient in gradients]
        # Of the micro-batches of a step, the last counts: its gradient is what the optimizer uses.
        if into and into[-1].step == step:
            into.pop()
        into.append(
            _Zeros(
                step=step,
                zeros=int(torch.stack([mask.sum().cpu() for mask in masks]).sum()),
                elements=sum(mask.numel() for mask in masks),
                finite=bool(torch.isfinite(norms(gradients)).all()),
                masks=dict(zip(map(id, owners), masks, strict=True)) if step == 0 else {},
            )
        )

    return after_backward


def _compared(
    probe: Probe,
    plain: list[_Zeros],
    scaled: list[_Zeros],
    scale: float,
    source: Literal["autocast", "weights"],
    location: Location | None,
) -> Underflow:
    lost = [
        max(0, ours.zeros - theirs.zeros) / max(1, theirs.elements - theirs.zeros)
        for ours, theirs in zip(plain, scaled, strict=False)
    ]
    worst, share = _worst_layer(probe, plain[0], scaled[0])
    return Underflow(
        source=source,
        scale=scale,
        lost=tuple(lost),
        worst_layer=worst,
        worst_lost=share,
        elements=plain[0].elements,
        autocast_location=location,
    )


def _worst_layer(probe: Probe, plain: _Zeros, scaled: _Zeros) -> tuple[str, float]:
    """(layer, share lost) of the layer that lost most in the first step, element by element."""
    layers = probe.program.parameter_layers()
    found: dict[str, list[int]] = {}
    for owner, mask in plain.masks.items():
        other = scaled.masks.get(owner)
        if other is None or other.shape != mask.shape or owner not in layers:
            continue
        row = found.setdefault(layers[owner][0], [0, 0])
        row[0] += int((mask & ~other).sum())
        row[1] += int((~other).sum())
    shares = {name: lost / total for name, (lost, total) in found.items() if total}
    name = max(shares, key=lambda each: shares[each], default="")
    return name, shares.get(name, 0.0)
