"""How the labels of a token model lie to its input tokens, and how many of those that count are padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, Offset, TokenLabels, TokenSite
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.graph import REARRANGING
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.lossgraph import kind
from auditor.probe.picked import picked_labels
from auditor.probe.serieslabels import Series, inputs, shifted_series
from auditor.probe.tokens import Stream, behind_the_first, declared_padding, marks, padding_run, stream_of

OFFSETS = (-2, -1, 0, 1, 2, 3)
MOST_STREAMS = 6
MOST_MASKS = 6
PASSED = REARRANGING | {"LogSoftmax", "Softmax", "Log", "Sub"}  # from a probability to the logits that it is made of
MOST_CALLS = 24  # of one call site, whose labels are kept


@dataclass
class _Fit:
    """Labels of one call site against one embedding, along one axis."""

    embedding: nn.Module
    index: int  # which of its calls in a forward
    axis: int
    shape: tuple[int, ...]
    table: torch.Tensor  # (offsets, 2): equal, compared
    calls: int = 0


@dataclass
class _Site:
    function: str
    location: Location | None
    calls: int = 0
    streams: int = 1
    classes: int = 0
    fits: dict[tuple[int, int, int], _Fit] = field(default_factory=dict)
    seen: list[_Labels] = field(default_factory=list)


@dataclass
class _Labels:
    """One call: labels in the shape of the tokens they fit, and which of them had a gradient."""

    step: int
    labels: torch.Tensor  # as many as positions, in the shape of the logits' rows
    valid: torch.Tensor
    counted: torch.Tensor | None
    streams: list[Stream]
    masks: list[torch.Tensor]
    first: dict[int, int]  # axis -> position of the first row of logits
    whole: dict[int, int]  # axis -> rows of logits before they were sliced, where they were

    def count(self, counted: torch.Tensor) -> None:
        self.counted = counted if self.counted is None else self.counted | counted


class TokenLabelsCollector(Collector):
    name = "token_labels"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._sites: dict[tuple[str, Location | None], _Site] = {}
        self._streams: list[Stream] = []
        self._masks: list[torch.Tensor] = []
        self._called = False  # a loss function has been, with labels, in the step at hand
        self.series: Series | None = None  # of numbers instead, with their own later values for targets
        self._given: list[torch.Tensor] = []
        self._model = 0
        self._calls: Counter[int] = Counter()  # of each embedding in the forward at hand

    # ---------------------------------------------------------------------------------------------------------- events

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._calls.clear()
        if sampled(self.step):
            given = [t for t in tensors((args, kwargs)) if not t.requires_grad and t.dim() >= 2]
            self._masks = [t.detach() for t in given][:MOST_MASKS]
            self._given, self._model = inputs(args, kwargs), id(module)

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        stream = stream_of(module, args, result) if sampled(self.step) else None
        if stream is not None:
            stream.index = self._calls[id(module)]
            self._calls[id(module)] += 1
            self._streams = [*self._streams, stream][-MOST_STREAMS:]

    def loss_called(self, call: LossCall) -> None:
        if not sampled(self.step):
            return
        if not call.class_labels or not self._streams:
            self._hear_series(call)
            return
        self._called = True
        target = call.target.detach()
        valid, node = target != call.ignore_index, call.input.grad_fn
        kept = self._heard(call.name, call.location, target, valid, call.classes, node)
        if kept is not None and call.input.requires_grad:
            call.input.register_hook(_counter(kept, target, call.classes))  # type: ignore[no-untyped-call]

    def _hear_series(self, call: LossCall) -> None:
        given, self._given = self._given, []
        if given and not call.in_model:
            self.series = shifted_series(given, call, _slices(call.input.grad_fn)[0][1])
            if self.series is not None:
                self.series.model = self._model

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        self._given = []
        root = roots[0].grad_fn if roots else None
        if root is not None and self._streams and not self._called and sampled(self.step):
            for taken in picked_labels(root):
                everywhere = torch.ones_like(taken.labels, dtype=torch.bool)
                node = taken.node.next_functions[0][0]
                kept = self._heard("gather", user_location(), taken.labels, everywhere, taken.classes, node)
                if kept is not None:
                    taken.tell_counted(kept.count)
        self._streams, self._masks, self._called = [], [], False

    def _heard(
        self,
        name: str,
        location: Location | None,
        target: torch.Tensor,
        valid: torch.Tensor,
        classes: int,
        node: Any,
    ) -> _Labels | None:
        """None where no tokens fit these labels, or enough of them are kept."""
        streams = [stream for stream in self._streams if shapes(target.numel(), stream)]
        if not streams:
            return None
        site = self._sites.setdefault((name, location), _Site(name, location))
        site.calls += 1
        site.classes = classes
        site.streams = max(site.streams, len({id(stream.module) for stream in streams}))
        labels = target.reshape(-1).clone()
        sizes = {stream.ids.numel() for stream in streams}
        masks = [mask for mask in self._masks if mask.numel() in sizes]
        kept = _Labels(self.step, labels, valid.reshape(-1), None, streams, masks, *_slices(node))
        for stream in streams:
            for axis, shape in shapes(labels.numel(), stream):
                key = (id(stream.module), stream.index, axis)
                fit = site.fits.get(key)
                if fit is None:
                    empty = torch.zeros(len(OFFSETS), 2, dtype=torch.long, device=labels.device)
                    fit = site.fits[key] = _Fit(stream.module, stream.index, axis, tuple(stream.ids.shape), empty)
                fit.table = fit.table + compare(stream.ids, labels, kept.valid, shape, axis, kept.first[axis])
                fit.calls += 1
        if len(site.seen) >= MOST_CALLS:
            return None
        site.seen.append(kept)
        return kept

    # -------------------------------------------------------------------------------------------------------- the part

    def part(self) -> TokenLabels:
        sites = tuple(described for site in self._sites.values() for described in self._describe(site))
        if not sites:
            raise Unavailable("no loss with one label a token, for tokens that enter an embedding, was seen")
        return TokenLabels(sites=sites)

    def sites(self) -> list[_Site]:
        """For the experiment, which asks for their labels again."""
        return list(self._sites.values())

    def _describe(self, site: _Site) -> Iterator[TokenSite]:
        fit = best_fit(site)
        if fit is None:
            return
        names = self.probe.program.module_names()
        table = fit.table.tolist()
        described = TokenSite(
            function=site.function,
            location=site.location,
            calls=site.calls,
            embedding=names.get(id(fit.embedding), type(fit.embedding).__name__),
            streams=site.streams,
            shape=fit.shape,
            offsets=tuple(
                Offset(offset=offset, equal=equal, compared=compared)
                for offset, (equal, compared) in zip(OFFSETS, table, strict=True)
            ),
            counted=sum(int(kept.counted.sum()) for kept in site.seen if kept.counted is not None),
        )
        pad, reason = certain_padding(site, fit)
        if pad is None:
            yield described
            return
        padded, counted = 0, 0
        for kept in site.seen:
            run = _rows_in_padding(kept, fit, pad)
            if run is not None and kept.counted is not None:
                padded += int(run.sum())
                counted += int((run & kept.counted.to(run.device)).sum())
        yield described.model_copy(
            update={"pad": pad, "pad_reason": reason, "padded": padded, "padded_counted": counted}
        )


def shapes(labels: int, stream: Stream) -> list[tuple[int, tuple[int, int]]]:
    """(axis of the positions, shape of the labels) that fit the tokens: one label a position, or one less a row."""
    first, second = stream.ids.shape
    found = []
    if second >= 3 and labels in (first * second, first * (second - 1)):
        found.append((1, (first, labels // first)))
    if first >= 3 and labels in (first * second, (first - 1) * second):
        found.append((0, (labels // second, second)))
    return found


def compare(
    ids: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor, shape: tuple[int, int], axis: int, first: int
) -> torch.Tensor:
    """(offsets, 2) counts of labels equal to the token `offset` positions on, and of those that have such a token.

    `first`: the position that the first row of logits belongs to, where there are fewer rows than tokens."""
    ids, labels, valid = ids.to(labels.device), labels.reshape(shape), valid.reshape(shape)
    if axis == 0:
        ids, labels, valid = ids.t(), labels.t(), valid.t()
    length, rows = ids.shape[1], labels.shape[1]
    start = first if rows < length else 0
    counts = []
    for offset in OFFSETS:
        low = max(0, -(start + offset))
        high = min(rows, length - start - offset)
        if high <= low:
            counts.append(torch.zeros(2, dtype=torch.long, device=labels.device))
            continue
        inside = valid[:, low:high]
        same = (labels[:, low:high] == ids[:, low + start + offset : high + start + offset]) & inside
        counts.append(torch.stack([same.sum(), inside.sum()]))
    return torch.stack(counts)


def best_fit(site: Any) -> Any:
    """The embedding and axis whose next token the labels are most often; among equals, whose own token."""

    def quality(fit: _Fit) -> tuple[float, float, float]:
        share = [equal / compared if compared else 0.0 for equal, compared in fit.table.tolist()]
        return share[OFFSETS.index(1)], share[OFFSETS.index(2)], share[OFFSETS.index(0)]

    fits = [fit for fit in site.fits.values() if fit.calls >= site.calls]
    return max(fits, key=quality) if fits else None


def certain_padding(site: Any, fit: Any) -> tuple[int | None, str]:
    """(id, how it is known): declared by the embedding, or marked by a mask that the model is given."""
    declared = declared_padding(fit.embedding)
    if declared is not None:
        return declared, "padding_idx of the embedding"
    found: set[int] = set()
    for kept in site.seen:
        stream = _stream(kept, fit)
        if stream is None:
            continue
        for candidate in {int(stream.ids[0, -1]), int(stream.ids[-1, -1]), int(stream.ids.min())} | _ends(stream.ids):
            run = padding_run(stream.ids, candidate, fit.axis)
            if int(run.sum()) >= 2 and any(marks(mask, run) for mask in kept.masks):
                found.add(candidate)
    return (found.pop(), "the mask that the model is given") if len(found) == 1 else (None, "")


def _ends(ids: torch.Tensor) -> set[int]:
    """Tokens at the corners of the batch: padding stands there."""
    return {int(ids[row, column]) for row in (0, -1) for column in (0, -1)} | set(ids[:16, -1].tolist())


def _stream(kept: _Labels, fit: _Fit) -> Stream | None:
    same = (stream for stream in kept.streams if stream.module is fit.embedding and stream.index == fit.index)
    return next(same, None)


def counted_positions(site: Any, fit: Any, ids: torch.Tensor) -> torch.Tensor | None:
    """Bool in the shape of these ids: the label at this position counts. None where their batch was not looked at."""
    for kept in site.seen:
        stream = _stream(kept, fit)
        if stream is None or stream.ids.shape != ids.shape or not torch.equal(stream.ids, ids):
            continue
        length = ids.shape[fit.axis]
        counted = kept.valid if kept.counted is None else kept.valid & kept.counted
        for axis, shape in shapes(kept.labels.numel(), stream):
            if axis == fit.axis:
                rows = shape[axis]
                start = min(kept.first[axis], length - rows) if rows < length else 0
                whole = torch.zeros_like(ids, dtype=torch.bool)
                whole.narrow(axis, start, rows).copy_(counted.reshape(shape))
                return whole
    return None


def _rows_in_padding(kept: _Labels, fit: _Fit, pad: int) -> torch.Tensor | None:
    """Flat bool, one a label: its position lies behind the first padding token."""
    stream = _stream(kept, fit)
    if stream is None:
        return None
    run = behind_the_first(padding_run(stream.ids, pad, fit.axis), fit.axis)
    length = stream.ids.shape[fit.axis]
    for axis, shape in shapes(kept.labels.numel(), stream):
        if axis == fit.axis:
            rows = shape[axis]
            start = min(kept.first[axis], length - rows) if rows < length else 0
            return run.narrow(axis, start, rows).reshape(-1)
    return None


def _counter(kept: _Labels, target: torch.Tensor, classes: int) -> Any:
    """A hook for the gradient of the logits: a label counts when the gradient at its own class is not 0."""

    def count(gradient: torch.Tensor) -> None:
        flat = gradient.detach()
        flat = flat.movedim(1, -1) if flat.dim() > 2 else flat
        flat = flat.reshape(-1, classes)
        own = target.reshape(-1).clamp(0, classes - 1).long()
        kept.count(flat.gather(1, own[:, None]).squeeze(1) != 0)

    return count


def window(site: Any, fit: Any, length: int) -> tuple[int, int]:
    """(first, number) of the rows of logits that one label a token belongs to, where something is put before the
    tokens and logits are longer; (0, length) otherwise."""
    for kept in site.seen:
        first, whole = kept.first[fit.axis], kept.whole.get(fit.axis, length)
        stream = _stream(kept, fit)
        one_each = stream is not None and kept.labels.numel() == stream.ids.numel()
        if one_each and whole > length and first + length <= whole:
            return first, whole
    return 0, length


def _slices(node: Any) -> tuple[dict[int, int], dict[int, int]]:
    """(axis -> position of the first row of logits, axis -> rows before slicing): `logits[:, 1:]` begins at 1. Read
    from the slices in the graph."""
    found, whole = {0: 0, 1: 0}, {}
    for _ in range(12):
        if node is None or kind(node) not in PASSED or not node.next_functions:
            break
        first, axis = getattr(node, "_saved_start", None), getattr(node, "_saved_dim", None)
        if kind(node) == "Slice" and isinstance(first, int) and axis in found:
            given = tuple(node._saved_self_sym_sizes)
            found[axis] += first if len(given) > axis and 0 < first < int(given[axis]) else 0
            whole[axis] = int(given[axis]) if len(given) > axis else 0
        node = node.next_functions[0][0]
    return found, whole
