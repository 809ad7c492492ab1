"""Is the backward of an autograd function the derivative of its forward? By central differences.

As torch.autograd.gradcheck, but by random directions (a handful of calls, whatever the size of the inputs), and telling
a backward that is meant to be something else - straight-through, reversed, clipped gradients - from a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from auditor.probe.batches import tensors
from auditor.probe.randomness import RandomState, reseed

SEED = 80_021
DIRECTIONS = 8
FEWEST = 4  # directions in which the numeric derivative is certain
WRONG = 1e-2  # relative error
# (dtype, step relative to the size of the input, how far the derivatives for two steps may lie apart)
PRECISIONS = ((torch.float64, 1e-6, 1e-3), (torch.float32, 1e-2, 3e-3))

Verdict = Literal["right", "wrong", "surrogate", "identity", "clipped", "unchecked"]


@dataclass
class Checked:
    verdict: Verdict
    input: int = 0
    missing: bool = False
    error: float = 0.0
    ratio: float | None = None
    directions: int = 0
    dtype: str = "float64"
    reason: str = ""


def check(function: Any, args: Sequence[Any], needed: Sequence[int]) -> Checked:
    """`needed`: positions of the tensors in `args` that require a gradient. Random numbers are as before afterwards."""
    reason = "none of its inputs requires a gradient"
    with _same_random_numbers():
        for dtype, step, apart in PRECISIONS:
            try:
                found = _Check(function, args, needed, dtype).run(step, apart)
            except Exception as error:  # the user's code, called with another precision than it was written for
                reason = f"{type(error).__name__}: {str(error)[:120]}"
                continue
            if found.verdict != "unchecked":
                return found
            reason = found.reason
    return Checked("unchecked", reason=reason)


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    state = RandomState.capture()
    try:
        yield
    finally:
        state.restore()


class _Check:
    def __init__(self, function: Any, args: Sequence[Any], needed: Sequence[int], dtype: torch.dtype) -> None:
        self._function = function
        self._needed = list(needed)
        self._dtype = dtype
        self._args = [self._cast(value) for value in args]
        self._generator = torch.Generator().manual_seed(SEED)

    def _cast(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().to(self._dtype, copy=True) if value.is_floating_point() else value.detach().clone()
        return value

    def run(self, step: float, apart: float) -> Checked:
        first, again = self._outputs(self._args), self._outputs(self._args)
        if not first or not all(torch.equal(a, b) for a, b in zip(first, again, strict=True)):
            return Checked("unchecked", reason="two calls with the same inputs gave different outputs")
        if not all(bool(torch.isfinite(output).all()) for output in first):
            return Checked("unchecked", reason="its outputs are not finite")
        found = [self._judge(position, first, step, apart) for position in self._needed]
        checked = [each for each in found if each.verdict != "unchecked"]
        if not checked:
            return found[0] if found else Checked("unchecked")
        # A stand-in for one input makes the gradients of the others part of the same design.
        worst = max(checked, key=lambda each: (_RANK[each.verdict], each.error))
        worst.dtype = str(self._dtype).removeprefix("torch.")
        return worst

    def _outputs(self, args: list[Any], grad: bool = False) -> list[torch.Tensor]:
        """Floating-point outputs of one call; inputs are copied, for functions that write into them."""
        reseed(SEED)
        with torch.set_grad_enabled(grad):
            given = [a if grad or not isinstance(a, torch.Tensor) else a.clone() for a in args]
            result = self._function.apply(*given)
        return [tensor for tensor in tensors(result) if tensor.is_floating_point()]

    def _judge(self, position: int, outputs: list[torch.Tensor], step: float, apart: float) -> Checked:
        given = self._args[position]
        scale = float(given.double().square().mean().sqrt()) if given.numel() else 0.0
        step *= scale if 0 < scale < 1e6 else 1.0
        numeric, analytic, missing, linear = [], [], False, True
        for _ in range(DIRECTIONS):
            direction = self._random(given)
            weights = [self._random(output) for output in outputs]
            slopes = [self._slope(position, direction, weights, size) for size in (step, step / 4)]
            gradient = self._gradient(position, weights, 1.0)
            if gradient is None:
                missing, gradient = True, torch.zeros_like(given)
            else:
                linear = linear and self._is_linear(position, weights, gradient)
            # At a kink, or where rounding hides the difference, two step sizes disagree.
            size = max(abs(slopes[0]), abs(slopes[1]))
            if abs(slopes[0] - slopes[1]) <= apart * size:
                numeric.append(slopes[0])
                analytic.append(float((gradient.double() * direction.double()).sum()))
        if len(numeric) < FEWEST:
            return Checked("unchecked", input=position, reason="its outputs jump: central differences do not settle")
        right, got = torch.tensor(numeric).double(), torch.tensor(analytic).double()
        size = float(torch.maximum(right.abs(), got.abs()).square().mean().sqrt())
        error = float((right - got).abs().median()) / size if size > 0 else 0.0
        ratio = _ratio(right, got)
        return Checked(
            self._verdict(given, outputs, right, got, error, linear),
            input=position,
            missing=missing,
            error=error,
            ratio=ratio,
            directions=len(numeric),
        )

    def _verdict(
        self, given: torch.Tensor, outputs: list[torch.Tensor], right: Any, got: Any, error: float, linear: bool
    ) -> Verdict:
        if not error > WRONG:
            return "right"
        if not bool(right.any()):
            return "surrogate"
        if any(output.shape == given.shape and torch.equal(output, given) for output in outputs):
            return "identity"
        return "wrong" if linear else "clipped"

    def _random(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self._generator, dtype=torch.float64).to(like)

    def _slope(self, position: int, direction: torch.Tensor, weights: list[torch.Tensor], step: float) -> float:
        sums = []
        for sign in (1, -1):
            args = list(self._args)
            args[position] = args[position] + sign * step * direction
            sums.append(self._outputs(args))
        total = 0.0
        for above, below, weight in zip(*sums, weights, strict=True):
            total += float(((above.double() - below.double()) * weight.double()).sum())
        return total / (2 * step)

    def _gradient(self, position: int, weights: list[torch.Tensor], factor: float) -> torch.Tensor | None:
        """Gradient of `factor` times the weighted outputs with respect to one input; None where there is none."""
        args = list(self._args)
        for needed in self._needed:
            args[needed] = args[needed].clone().requires_grad_()
        leaf = args[position]
        # Behind an operation, as in a network: a leaf must not be written into.
        given = [a.clone() if isinstance(a, torch.Tensor) and a.requires_grad else a for a in args]
        outputs = self._outputs(given, grad=True)
        pairs = [(o, factor * w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
        if not pairs:
            return None
        [gradient] = torch.autograd.grad([o for o, _ in pairs], leaf, [w for _, w in pairs], allow_unused=True)
        return None if gradient is None else gradient.detach()

    def _is_linear(self, position: int, weights: list[torch.Tensor], gradient: torch.Tensor) -> bool:
        for factor in (2.0**-10, 2.0**10):
            scaled = self._gradient(position, weights, factor)
            if scaled is None or not torch.allclose(scaled / factor, gradient, rtol=1e-4, atol=1e-9):
                return False
        return True


_RANK = {"right": 0, "wrong": 1, "clipped": 2, "identity": 3, "surrogate": 4, "unchecked": -1}


def _ratio(right: torch.Tensor, got: torch.Tensor) -> float | None:
    """got / right, where it is the same in every direction."""
    power = float(right.square().sum())
    if power == 0:
        return None
    ratio = float((right * got).sum()) / power
    rest = float((got - ratio * right).abs().max())
    return ratio if rest <= 1e-3 * float(got.abs().max()) and ratio != 0 else None
