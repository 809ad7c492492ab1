"""Outputs with one row a position, in batches of padded sequences: did the loss have a gradient at the padding?

The padding is known by what the script itself tells of it: lengths or a mask in the batch or among the arguments,
`pad_sequence`, or zeros behind the rows of batches that are as wide as their longest row.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, PaddedOutputs, PaddedSite
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.consumers import Consumers
from auditor.probe.graph import kind_of
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.paddings import Padding, Table, named_padding, paddings
from auditor.probe.tokens import behind_the_first

LOSSES = frozenset(
    {"MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "NllLoss",
     "NllLoss2D", "NllLossNd", "Gather", "SoftMarginLoss"}
)  # fmt: skip
OF_DIFFERENCES = frozenset({"Pow", "Abs", "Mul", "LogCosh", "Sqrt"})
PASSED = frozenset(
    {"View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "Transpose", "Clone", "Alias",
     "ToCopy", "LogSoftmax", "Sigmoid", "Log", "Index", "MaskedSelect", "Slice", "Clamp"}
)  # fmt: skip
FAR = 24  # operations behind an output
KEPT_TABLES = 8  # of pad_sequence
CONFIGURATIONS = ("config", "cfg", "args", "hparams", "vocab")


@dataclass
class _Call:
    """One output of one forward, and what its backward told: () counts, and gradients' mean squares."""

    padding: Padding
    node: Any
    inside: torch.Tensor  # (batch, length): padded, the position next to the sequence left out
    flat: bool  # one number a position: its axis may be one of classes or of steps ahead, as long by chance
    blank: bool = False  # a loss was called with targets that are blank there, too
    told: list[torch.Tensor] = field(default_factory=list)  # (4,) each

    def hear(self, gradient: torch.Tensor) -> None:
        """Inside the user's own backward: no failure of ours may leave it."""
        with suppress(Exception):
            self._measure(gradient)

    def _measure(self, gradient: torch.Tensor) -> None:
        flat = _by_position(gradient.detach(), self.padding.run)
        if flat is None:
            return
        inside, run = self.inside.reshape(-1).to(flat.device), self.padding.run.reshape(-1).to(flat.device)
        squares = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float32).square() / flat.shape[1]
        there = squares > 0
        counts = torch.stack([(there & inside).sum(), there.sum()]).float()
        sizes = torch.stack([squares[run].mean(), squares[~run].mean()])
        self.told.append(torch.cat([counts, sizes]))


@dataclass
class _Site:
    module: str
    location: Location | None
    calls: list[_Call] = field(default_factory=list)


class PaddedOutputsCollector(Collector):
    name = "padded_outputs"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._batch: Any = None
        self._given: tuple[Any, Any] = ((), {})
        self._sites: dict[tuple[str, Location | None], _Site] = {}
        self._waiting: list[_Call] = []  # of the last forward
        self._module = ""
        self._named: dict[int, str] | None = None
        self.tables: deque[Table] = deque(maxlen=KEPT_TABLES)

    def batch_fetched(self, seen: Any, batch: Any) -> None:
        self._batch = batch if sampled(self.step) else None

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._given = (args, kwargs) if sampled(self.step) else ((), {})
        self._waiting = []

    def forwarded(self, module: nn.Module, result: Any) -> None:
        if not sampled(self.step):
            return
        if self._named is None:
            self._named = named_padding(vars(sys.modules["__main__"]), *self._attributes(module))
        fed = (self._batch, self._given)
        known = [each for each in paddings(fed, self.tables, self._named) if not _is_filled(each, fed)]
        self._given = ((), {})
        if not known:
            return
        self._module = type(module).__name__
        for output in tensors(result):
            fits = [
                padding for padding in known if output.requires_grad and _by_position(output, padding.run) is not None
            ]
            if fits and output.grad_fn is not None:
                padding = _common(fits)
                flat = output.dim() < 3 and output.shape == padding.run.shape
                call = _Call(padding, output.grad_fn, behind_the_first(padding.run, 1), flat)
                output.register_hook(call.hear)  # type: ignore[no-untyped-call]
                self._waiting.append(call)

    def loss_called(self, call: LossCall) -> None:
        if self._waiting and isinstance(call.target, torch.Tensor):
            self._waiting = [each for each in self._waiting if not _is_filled(each.padding, call.target)]
            for waiting in self._waiting:
                waiting.blank |= call.target.shape[:2] == waiting.padding.run.shape

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if not self._waiting:
            return
        uses = Consumers(roots)
        for call in self._waiting:
            if _is_judged(uses, call.node):
                place = user_location()
                site = self._sites.setdefault((self._module, place), _Site(self._module, place))
                site.calls.append(call)
            call.node = None  # it keeps the graph alive
        self._waiting, self._batch = [], None

    def _attributes(self, module: nn.Module) -> list[dict[str, Any]]:
        """Of the model and of the configuration that it keeps."""
        own = vars(module)
        kept = [own.get(name) for name in CONFIGURATIONS]
        found = [each if isinstance(each, dict) else getattr(each, "__dict__", None) for each in kept]
        return [own, *(each for each in found if isinstance(each, dict))]

    def part(self) -> PaddedOutputs:
        sites = tuple(each for each in map(_describe, self._sites.values()) if each is not None)
        if not sites:
            raise Unavailable("no output with one row a position was judged by a loss in padded batches")
        return PaddedOutputs(sites=sites)


def _by_position(output: torch.Tensor, run: torch.Tensor) -> torch.Tensor | None:
    """(positions, values) of an output that has one row a position; None for any other."""
    rows, length = run.shape
    if not output.is_floating_point() or not output.dim():
        return None
    if output.dim() >= 2 and output.shape[:2] == run.shape:
        return output.reshape(rows * length, -1)
    if output.dim() == 3 and output.shape[0] == rows and output.shape[2] == length:
        return output.transpose(1, 2).reshape(rows * length, -1)
    if output.dim() <= 2 and output.shape[0] == rows * length:
        return output.reshape(rows * length, -1)
    return None


def _is_filled(padding: Padding, fed: Any) -> bool:
    """Another tensor of the batch has values there that differ: what seems padded in this one is to be predicted."""
    for tensor in tensors(fed):
        if tensor.shape[:2] == padding.run.shape and tensor.layout == torch.strided and not tensor.is_complex():
            there = tensor.detach()[padding.run.to(tensor.device)]
            if there.numel() and bool((there != there[:1]).any()):
                return True
    return False


def _common(fits: list[Padding]) -> Padding:
    """What all tensors of this width say: several sequences may be as long by chance."""
    sure = [each for each in fits if each.sure] or fits
    run = sure[0].run
    for each in sure[1:]:
        if each.run.shape == run.shape:
            run = run & each.run.to(run.device)
    return replace(sure[0], run=run)


def _is_judged(uses: Consumers, node: Any) -> bool:
    """The output goes into a loss position by position: into a loss function, or a difference that is squared."""
    queue, seen = [node], {node}
    for current in queue:  # grows while it is read
        for following in uses.of(current):
            kind = kind_of(following)
            if kind in LOSSES:
                return True
            if kind in ("Sub", "Rsub") and any(kind_of(each) in OF_DIFFERENCES for each in uses.of(following)):
                return True
            passed = kind in PASSED or (kind == "Select" and 2 <= following._saved_dim < 2**63)  # [..., 0] of one value
            if passed and following not in seen and len(seen) < FAR:
                seen.add(following)
                queue.append(following)
    return False


def _describe(site: _Site) -> PaddedSite | None:
    calls = [call for call in site.calls if call.told]
    if not calls:
        return None
    widths = {call.padding.run.shape[1] for call in calls}
    if len(widths) < 2:  # zeros at the ends of rows of one width may be data like any other
        calls = [call for call in calls if call.padding.sure and not call.flat]
    if not calls:
        return None
    told = torch.stack([torch.stack(call.told).amax(0).cpu() for call in calls])
    within = [float(pad / real) ** 0.5 for pad, real in told[:, 2:].tolist() if real > 0]
    return PaddedSite(
        module=site.module,
        location=site.location,
        calls=len(calls),
        reason=next((call.padding.reason for call in calls if call.padding.sure), calls[0].padding.reason),
        told=any(call.padding.sure for call in calls),
        blank=any(call.blank for call in calls),
        padded=sum(int(call.inside.sum()) for call in calls),
        padded_counted=int(told[:, 0].sum()),
        counted=int(told[:, 1].sum()),
        strength=max(within, default=0.0),
    )
