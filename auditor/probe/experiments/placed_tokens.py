"""Does a model see in which order its tokens come, and where it does not: does it learn more when it is told?

Whether it does is an identity: tokens change places where they leave the embedding, and no output changes but with its
token. Whether that matters is an experiment: the loop is replayed with a sinusoidal code of its place added to each
token (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import PlacedTokens
from auditor.probe.batches import tensors
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import paired_looks
from auditor.probe.experiments.token_influence import TokenLook
from auditor.probe.replay import Experiment, NotRun, Replay, Trail
from auditor.probe.tokenchanges import exchange
from auditor.probe.tokens import Stream, declared_padding, padding_run

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

STEPS, LONGER, FEWEST = 240, 480, 60
TRAINED = 8  # steps before the last look: places that are learned may start from zero
ROUNDING = 1e-5  # of the size of the outputs
MIXED = 100 * ROUNDING  # what a token has to do to the others' outputs
COLUMNS = 3  # a token of a vocabulary stands at many places, the value of a field at one
COMMON = 0.5  # share of such tokens


def placed_tokens(probe: Probe) -> Experiment:
    require_rewindable(probe)
    yield from _asked(probe, 1)
    found = yield from _asked(probe, TRAINED)
    code = _Code(found)
    looks = yield from paired_looks(
        probe, "tell tokens their places", STEPS, FEWEST, longer=LONGER, prepare=code.add, undo=code.remove
    )
    return found.part.model_copy(update={"looks": tuple(looks), "fidelity": probe.fidelity})


@dataclass
class Unordered:
    """Tokens whose order no output depends on."""

    stream: Stream
    axis: int  # of the positions, in the ids
    part: PlacedTokens


def _asked(probe: Probe, steps: int) -> Generator[Replay, Trail, Unordered]:
    """The tokens without an order after so many steps. Raises NotRun where there are none."""
    found: list[Unordered] = []
    refused: list[NotRun] = []

    def look(examination: Examination, step: int) -> None:
        if step != steps - 1 or found or refused:
            return
        try:
            found.append(_unordered(probe, examination))
        except NotRun as why:
            refused.append(why)

    trail = yield Replay(steps=steps, label="exchange tokens", order=order(probe), examine=look)
    if refused:
        raise refused[0]
    if trail.trouble and not found:
        raise NotRun(f"the model could not be called beside the loop: {trail.trouble}")
    if not found:
        trail.require(steps)
        raise NotRun("the model was not called in the replayed step", "not-applicable")
    return found[0]


def _unordered(probe: Probe, examination: Examination) -> Unordered:
    look = TokenLook(probe, examination)  # raises NotRun without tokens
    for stream in look.streams:
        for axis in (1, 0):
            found = _Places(look, examination, stream, axis).exchanged()
            if found is not None:
                outline = look.outline()
                part = PlacedTokens(
                    embedding=look.name(stream.module),
                    shape=tuple(stream.ids.shape),
                    location=outline.location,
                    **found,
                )
                return Unordered(stream, axis, part)
    raise NotRun("the outputs depend on the order of the tokens, or on single tokens alone", "not-applicable")


class _Places:
    """One embedding's ids as (samples, positions), and the model called with some of them elsewhere."""

    def __init__(self, look: TokenLook, examination: Examination, stream: Stream, axis: int) -> None:
        self._look, self._examination = look, examination
        self._stream, self._axis = stream, axis
        self._ids = stream.ids if axis == 1 else stream.ids.t()
        self._real = _inside(stream, axis)

    def exchanged(self) -> dict[str, Any] | None:
        """Fields of the part; None where the order matters, where it cannot be told, or where tokens are fields."""
        if min(self._ids.shape) < 2 or not self._is_text():
            return None
        turned = _reversed_inside(self._real)
        other = self._ids.gather(1, turned)
        moved = int((other != self._ids).sum())
        if 2 * int((other != self._ids).any(1).sum()) < len(other):
            return None
        base = self._outputs(self._ids)
        mixing = self._mixing(base)
        if mixing is None or mixing < MIXED:
            return None
        change = _largest(base, self._outputs(other), turned)
        return {"exchanged": moved, "change": change, "mixing": mixing} if change <= ROUNDING else None

    def _is_text(self) -> bool:
        """Most tokens stand at several places of the batch: they are no values of fields that have a place each."""
        rows, columns = self._real.nonzero(as_tuple=True)
        values = self._ids[rows, columns]
        pairs = torch.stack([values, columns]).unique(dim=1)  # type: ignore[no-untyped-call]
        tokens, places = pairs[0].unique(return_counts=True)
        common = tokens[places >= COLUMNS]
        return bool(values.numel()) and float(torch.isin(values, common).double().mean()) >= COMMON

    def _mixing(self, base: list[torch.Tensor]) -> float | None:
        """What another token in the middle of the first sample does: to its other positions, or to its only output.
        None where other samples change as well: then the axis is not that of the positions."""
        row = int(self._real.sum(1).argmax())
        places = self._real[row].nonzero().flatten()
        if len(places) < 3:
            return None
        place = int(places[len(places) // 2])
        inside = torch.zeros_like(self._real)
        inside[row, place] = True
        other = exchange(self._ids, inside, declared_padding(self._stream.module))
        if torch.equal(other, self._ids):
            return None
        largest = 0.0
        for before, after in zip(base, self._outputs(other), strict=True):
            apart = _apart(before, after)
            if apart is None:
                return None
            own = apart[row].clone()
            apart[row] = 0.0
            if float(apart.max()) > ROUNDING:
                return None
            if own.dim() and before.dim() >= 3 and before.shape[:2] == self._ids.shape:
                own[place] = 0.0
            largest = max(largest, float(own.max()))
        return largest

    def _outputs(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """Those with one row a sample, or one a position, as (samples, ...) or (samples, positions, ...)."""
        with self._look.fed(self._stream, ids if self._axis == 1 else ids.t()):
            outputs = self._examination.outputs()
        return list(self._shaped(outputs))

    def _shaped(self, outputs: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        samples, positions = self._ids.shape
        for output in outputs:
            if self._axis == 0 and output.dim() >= 2 and output.shape[:2] == (positions, samples):
                yield output.transpose(0, 1)
            elif output.dim() and output.shape[0] == samples:
                yield output
            elif output.dim() == 2 and output.shape[0] == samples * positions and self._axis == 1:
                yield output.reshape(samples, positions, -1)


def _inside(stream: Stream, axis: int) -> torch.Tensor:
    """(samples, positions) bool: what is no padding, without the first and the last of it, which may have a role."""
    ids = stream.ids if axis == 1 else stream.ids.t()
    pad = declared_padding(stream.module)
    real = torch.ones_like(ids, dtype=torch.bool)
    for value in [pad] if pad is not None else [int(ids[:, end].mode().values) for end in (0, -1)]:
        real &= ~padding_run(ids, value, 1)
    place = real.cumsum(1)
    return real & (place > 1) & (place < real.sum(1, keepdim=True))


def _reversed_inside(inside: torch.Tensor) -> torch.Tensor:
    """(samples, positions) of indices: each row's places inside in reverse order, the others where they are."""
    turned = torch.arange(inside.shape[1], device=inside.device).expand(inside.shape).clone()
    for row, mine in enumerate(inside):
        places = mine.nonzero().flatten()
        turned[row, places] = places.flip(0)
    return turned


def _largest(base: list[torch.Tensor], now: list[torch.Tensor], turned: torch.Tensor) -> float:
    """Largest change, where each position's output has gone with its token; infinite without an output to compare."""
    found = []
    for before, after in zip(base, now, strict=True):
        if before.dim() >= 3 and before.shape[:2] == turned.shape:
            index = turned.to(before.device).reshape(*turned.shape, *(1,) * (before.dim() - 2)).expand_as(before)
            before = before.gather(1, index)
        apart = _apart(before, after)
        found.append(math.inf if apart is None else float(apart.max()))
    return max(found, default=math.inf)


def _apart(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor | None:
    """(samples,) or (samples, positions): largest change there, relative to the size of the outputs."""
    if before.shape != after.shape or not before.numel():
        return None
    scale = max(float(before.double().nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()), 1e-12)
    apart = (after.double() - before.double()).abs().nan_to_num(math.inf, math.inf, math.inf) / scale
    return apart.reshape(*before.shape[: 2 if before.dim() >= 3 else 1], -1).amax(-1)


class _Code:
    """A sinusoidal code of its place, as large as the tokens' own vectors, added to what the embedding returns."""

    def __init__(self, found: Unordered) -> None:
        self._module, self._axis = found.stream.module, found.axis
        self._size: torch.Tensor | None = None  # of the vectors, at the first step that is told
        self._handles: list[Any] = []

    def add(self) -> None:
        self._handles.append(self._module.register_forward_hook(self._placed))

    def remove(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _placed(self, module: Any, args: Any, result: Any) -> Any:
        ids = next(tensors(args), None)
        if not isinstance(result, torch.Tensor) or result.dim() != 3 or ids is None or ids.shape != result.shape[:2]:
            return None
        if self._size is None:
            self._size = result.detach().float().square().mean().sqrt()
        code = sinusoids(result.shape[self._axis], result.shape[2]).to(result)
        return result + self._size.to(result) * math.sqrt(2) * (code if self._axis == 1 else code.unsqueeze(1))


def sinusoids(length: int, width: int) -> torch.Tensor:
    """(length, width) of sines and cosines with wavelengths from 2 pi to 20000 pi."""
    place = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    pair = torch.arange(width) // 2
    angle = place / 10_000 ** (2 * pair / width)
    return torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos())
