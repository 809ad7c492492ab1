"""Metric code that compares, subtracts or joins tensors which spread over each other, a vector and a column for
example, or takes the largest of a single output.

Only the shapes of a comparison are looked at, until they are suspicious; then its operands have to be known by their
values: the labels of the latest batch, or what the model's latest output predicts.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from auditor.evidence import BroadcastComparison, Comparisons, Location, SingleArgmax
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.forward import gradients_wanted
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.program import LoaderSeen
from auditor.probe.spreading import spread_over_each_other

LARGEST = 2**20  # values of an output or of labels that are kept until the next ones
LARGEST_RESULT = 2**24  # elements of a comparison that is counted
MOST_ROWS = 4096  # of a comparison that is counted
MOST_ERRORS = 60  # calls of one place
LOOKS = 8  # at suspicious comparisons of one place
OVERLAPS = {"&": torch.logical_and, "|": torch.logical_or, "*": torch.mul}
EQUALITY = ("==", "!=")
FEWEST_ORDERED = 8  # different numbers that are no more than once in 10,000 in the order of others by chance
KEPT = 8  # results of argmax over a single column that are waited for


@dataclass
class _Site:
    function: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    evaluation: bool
    known: Literal["predictions", "labels", "both"]
    calls: int = 0
    paired: torch.Tensor | None = None  # share of equal pairs, or mean square of their differences
    reported: torch.Tensor | None = None
    errors: list[torch.Tensor] = field(default_factory=list)  # how far the two are apart, call by call


@dataclass
class _Single:
    function: str
    shape: tuple[int, ...]
    calls: int = 0
    compared: Location | None = None
    hit: bool = False


class ComparisonsCollector(Collector):
    name = "comparisons"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._labels: list[torch.Tensor] = []  # of the latest batch, and the latest target of a loss
        self._target: torch.Tensor | None = None
        self._output: torch.Tensor | None = None
        self._compared = 0
        self._looked: dict[Location | None, int] = {}
        self._sites: dict[Location | None, _Site] = {}
        self._largest: list[tuple[weakref.ref[torch.Tensor], Location | None]] = []
        self._singles: dict[Location | None, _Single] = {}

    # ------------------------------------------------------------------------------------------- what is known of data

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None:
        found = (tensor for tensor in tensors(batch) if tensor.layout == torch.strided)
        self._labels = [
            t for t in found if t.dim() and (t.dim() > 2 or t.numel() == t.shape[0]) and t.numel() <= LARGEST
        ]

    def forwarded(self, module: nn.Module, result: Any) -> None:
        self._keep(result)

    def evaluation_forwarded(self, module: nn.Module, result: Any) -> None:
        self._keep(result)

    def _keep(self, result: Any) -> None:
        found = [t for t in tensors(result) if t.is_floating_point() and t.dim() > 0]
        first = next((t for t in found if t.dim() <= 2), found[0] if found else None)
        self._output = first.detach() if first is not None and first.numel() <= LARGEST else None

    def loss_called(self, call: LossCall) -> None:
        self._target = call.target.detach() if call.target.numel() <= LARGEST else None

    def evaluation_loss(self, call: LossCall) -> None:
        self.loss_called(call)

    # ------------------------------------------------------------------------------------------------------ comparisons

    def compared(self, function: str, left: torch.Tensor, right: torch.Tensor, result: Any) -> None:
        self._compared += 1
        if self._largest:
            self._compared_with_largest(left, right)
        if _every_with_every(left, right, result):
            self._suspicious(function, left, right, result)

    def subtracted(self, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        """A metric by hand, the residuals of R2 for example. What carries a graph is a loss or a part of a model."""
        if not result.requires_grad and _every_with_every(left, right, result):
            self._suspicious("-", left, right, result)

    def combined(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        """The overlap of a prediction and a mask, for example."""
        if not result.requires_grad and _every_with_every(left, right, result):
            self._suspicious(function, left, right, result)

    def _suspicious(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        location = user_location()
        looks = self._looked[location] = self._looked.get(location, 0) + 1
        if location in self._sites:
            self._called_again(self._sites[location], left, right, result)
        flat = left.numel() <= left.shape[0]  # one number a sample
        if looks > LOOKS or (flat and result.shape[0] > MOST_ROWS) or location in self._sites:
            return
        known = [self._recognised(left, function), self._recognised(right, function)]
        # Of one and the same thing, it is a mask that tells which samples belong together.
        if not any(known) or known[0] == known[1] or _related(left, right):
            return
        # Kernels, distances and overlaps of all pairs are worked out on purpose: they write the axis in themselves.
        column, vector = (left, right) if left.dim() > right.dim() else (right, left)
        certain = all(known) and self._came_so(column, function)
        beside = function == "-" and flat and self._beside_a_column(column, vector, known[0] or known[1])
        if (function not in EQUALITY or not flat) and not certain and not beside:
            return
        paired, reported = _figures(function, left, right, result)
        site = _Site(
            function=function,
            left=tuple(left.shape),
            right=tuple(right.shape),
            evaluation=not gradients_wanted(),
            known="both" if all(known) else ("labels" if "labels" in known else "predictions"),
            calls=1,
            paired=paired,
            reported=reported,
        )
        self._note_error(site, left, right, result)
        self._sites[location] = site

    def _called_again(self, site: _Site, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        site.calls += 1
        if len(site.errors) >= MOST_ERRORS or result.shape[0] > MOST_ROWS:
            return
        self._note_error(site, left, right, result)

    @staticmethod
    def _note_error(site: _Site, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        if result.numel() > LARGEST_RESULT:
            return
        paired, reported = _figures(site.function, left, right, result, several=True)
        if paired is not None and reported is not None:
            site.errors.append((reported - paired).abs())

    def _recognised(self, operand: torch.Tensor, function: str) -> str:
        """'labels' or 'predictions', by value; '' for what is not known. A longer operand, gathered over batches, is
        recognised by its end, and in differences what was brought to other units by its order."""
        flat = operand.detach().reshape(-1)
        labels = [*self._labels, *([self._target] if self._target is not None else [])]
        output = self._output
        for kept in labels:
            if _ends_with(flat, kept.detach().reshape(-1)):
                return "labels"
        if output is not None and any(_ends_with(flat, decision) for decision in _decisions(output)):
            return "predictions"
        if function == "-" and output is not None and _in_other_units(flat, output):
            return "predictions"
        return "labels" if function == "-" and any(_in_other_units(flat, kept) for kept in labels) else ""

    def _came_so(self, operand: torch.Tensor, function: str) -> bool:
        """The loader or the model handed these values out with that further axis, and no `[:, None]` wrote it in. Views
        leave no trace in inference mode."""
        if operand.is_inference() or _axis_written_in(operand):
            return False
        flat = operand.detach().reshape(-1)
        for kept in (*self._labels, *([self._output] if self._output is not None else [])):
            alike = kept.shape[1:] == operand.shape[1:]
            decided = _decisions(kept) if kept is self._output else [kept.detach().reshape(-1)]
            if alike and any(_ends_with(flat, each) for each in decided):
                return True
            if alike and function == "-" and _in_other_units(flat, kept):
                return True
        return False

    def _beside_a_column(self, column: torch.Tensor, vector: torch.Tensor, known: str) -> bool:
        """What the model answers for these samples, and one number for each of them that no loader has handed out: one
        of the two is a column because the model, or the data that the loss is called with, has it so."""
        target = self._target
        if known != "predictions" or target is None or not target.is_floating_point() or not vector.is_floating_point():
            return False
        if self._came_so(column, "-"):
            return target.numel() == target.shape[0]
        kept = self._output is not None and self._output.dim() == 1 and not column.is_inference()
        return kept and target.dim() == 2 and target.shape[1] == 1 and not _axis_written_in(column)

    # ------------------------------------------------------------------------------------------------- a single column

    def took_largest(self, function: str, given: torch.Tensor, result: Any) -> None:
        output = self._output
        if output is None or given.shape[0] < 2 or tuple(output.shape) != tuple(given.shape):
            return
        indices = result if function == "argmax" else getattr(result, "indices", None)
        if not isinstance(indices, torch.Tensor) or indices.dim() < 1 or indices.shape[0] != given.shape[0]:
            return
        location = user_location()
        single = self._singles.setdefault(location, _Single(function, tuple(given.shape)))
        single.calls += 1
        self._largest = [*self._largest[-KEPT + 1 :], (weakref.ref(indices), location)]

    def _compared_with_largest(self, left: torch.Tensor, right: torch.Tensor) -> None:
        for operand in (left, right):
            for reference, location in self._largest:
                indices = reference()
                same = indices is not None and (operand is indices or operand._base is indices)
                single = self._singles.get(location)
                if same and single is not None and not single.hit:
                    single.hit, single.compared = True, user_location()

    def part(self) -> Comparisons:
        if not self._compared and not self._sites:
            raise Unavailable("no two tensors were compared outside of the model")
        return Comparisons(
            compared=self._compared,
            broadcast=tuple(
                BroadcastComparison(
                    function=site.function,
                    left=site.left,
                    right=site.right,
                    calls=site.calls,
                    evaluation=site.evaluation,
                    known=site.known,
                    paired=float(site.paired) if site.paired is not None else None,
                    reported=float(site.reported) if site.reported is not None else None,
                    errors=tuple(map(float, site.errors)),
                    location=location,
                )
                for location, site in self._sites.items()
            ),
            single=tuple(
                SingleArgmax(
                    function=single.function,
                    shape=single.shape,
                    calls=single.calls,
                    location=location,
                    compared_location=single.compared,
                )
                for location, single in self._singles.items()
                if single.hit
            ),
        )


def _every_with_every(left: torch.Tensor, right: torch.Tensor, result: Any) -> bool:
    """(B,) against (B, 1), which gives (B, B), or (B, H, W) against (B, 1, H, W)."""
    if not isinstance(result, torch.Tensor) or left.dim() == right.dim() or not left.dim() or not right.dim():
        return False
    whole = left.shape[0] == right.shape[0] == result.shape[0] > 1
    return whole and spread_over_each_other(tuple(left.shape), tuple(right.shape))


def _figures(
    function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor, several: bool = False
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(in pairs, as reported): shares of hits, or mean squares of differences; None for other operations.

    `several`: also of operands with several numbers a sample, such as masks, and of their overlaps.
    """
    if left.numel() != right.numel() or (left.numel() > left.shape[0] and not several):
        return None, None
    if function == "-":
        return (left.reshape(-1) - right.reshape(-1)).float().square().mean(), result.float().square().mean()
    if function in EQUALITY:
        hits = (left.reshape(-1) == right.reshape(-1)).float().mean()
        return hits if function == "==" else 1 - hits, result.float().sum() / left.numel()
    if several and function in OVERLAPS and not result.is_floating_point():
        joined = OVERLAPS[function](left.reshape(-1), right.reshape(-1)).float().mean()
        return joined, result.float().sum() / left.numel()
    return None, None


def _decisions(output: torch.Tensor) -> list[torch.Tensor]:
    """What a metric may make of an output: classes, or yes and no; flat."""
    found = [output.argmax(1).reshape(-1)] if output.dim() > 1 and output.shape[1] > 1 else []
    if output.dim() != 2 or not found:
        single = output.reshape(-1)
        sure = single.sigmoid()
        found += [single > 0, single > 0.5, single.round(), sure.round(), single, sure]
        found.append(torch.zeros_like(single))  # argmax over the only column
    return found


def _in_other_units(values: torch.Tensor, kept: torch.Tensor) -> bool:
    """The same numbers in the same order of size, or in the reverse one: `y * spread + mean`, `y.exp()`."""
    count = kept.numel()
    alike = values.is_floating_point() and kept.is_floating_point() and values.device == kept.device
    if not alike or kept.numel() != kept.shape[0] or not FEWEST_ORDERED <= count == values.numel():
        return False
    source = kept.detach().reshape(-1)
    order = source.argsort()
    steps = values.double()[order].diff()
    distinct = source[order].diff() > 0
    if int(distinct.sum()) < FEWEST_ORDERED:
        return False
    return bool((steps >= 0).all()) or bool((steps <= 0).all())


def _axis_written_in(operand: torch.Tensor) -> bool:
    """A view, in which an axis may be new: `y[:, None]`. In a part of the rows of a column it is not."""
    base = operand._base
    return base is not None and (base.shape[1:] != operand.shape[1:] or base.shape[0] == operand.shape[0])


def _related(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Views of one tensor, or equal in every element."""
    if left.device != right.device or left.untyped_storage().data_ptr() == right.untyped_storage().data_ptr():
        return True
    return bool((left.reshape(-1) == right.reshape(-1)).all())


def _ends_with(values: torch.Tensor, last: torch.Tensor) -> bool:
    count = last.numel()
    if not 0 < count <= values.numel() or values.device != last.device:
        return False
    return bool((values[-count:].double() == last.double()).all())
