"""What every loss receives: shapes, ranges, and the operation that made the prediction. And how the loss adds up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, LoneSoftmax, LossSite, LossSites, LossTerm, PickedClass, RawLoss, TwiceSquashed
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.consumers import Consumers
from auditor.probe.differences import Difference, DifferenceWatch
from auditor.probe.graph import Producer, layer_behind, producer, producing_node
from auditor.probe.hiddenstates import HiddenStates
from auditor.probe.locate import user_location
from auditor.probe.loneweights import crossed, lone_softmaxes, weighs
from auditor.probe.losscall import LossCall
from auditor.probe.lossgraph import Term, bounds, differences_in, kind, size, softmax_axis, sole_softmax, terms
from auditor.probe.normalised import CLAMPING, normalizer_of, raw_output, squashed_twice, squasher
from auditor.probe.pickedclass import picked_class
from auditor.probe.spreading import spread_before, spread_over_each_other
from auditor.probe.steps import StepSeen

ELEMENTS = 2**20  # of one tensor that are looked at, whole rows from the front
WATCHED = (1, 4, 19)  # steps of which every operation outside the models is looked at
LOCATED = 10  # steps after which the places of operations are known: finding one walks the stack
LOG_PROBABILITIES = ("nll_loss", "kl_div")
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
BY_ELEMENT = (
    *REGRESSION,
    "kl_div",
    "poisson_nll_loss",
    "gaussian_nll_loss",
    "soft_margin_loss",
    "hinge_embedding_loss",
)
TARGETS = (*BY_ELEMENT, "binary_cross_entropy", "binary_cross_entropy_with_logits", "-")  # whose values are of interest
NOTHING = -1  # softmax size of an input that no softmax alone determines


@dataclass
class _Site:
    function: str
    location: Location | None
    made_by: Producer
    bounds: tuple[float | None, float | None]
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    recurrent: str = ""
    reduction: str = "mean"
    log_target: bool = False
    log_input: bool = False
    calls: int = 0
    broadcasts: int = 0
    normalizer: Any = None  # (shape, axis) of the softmax that made the input of nll_loss; False where not always
    softmax_sizes: set[int] = field(default_factory=set)
    softmax_axes: set[int | None] = field(default_factory=set)
    inputs: list[torch.Tensor] = field(default_factory=list)  # (4,) each: min, max, error of log rows, error of rows
    targets: list[torch.Tensor] = field(default_factory=list)  # (7,) each: see _target_sums
    own: list[torch.Tensor] = field(default_factory=list)  # 0-d: labels are the positions in the batch


class LossSitesCollector(Collector):
    name = "loss_sites"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._sites: dict[tuple[str, Location | None], _Site] = {}
        self._places: dict[Any, Producer] = {}  # graph node -> where it was called, of the step at hand
        self._hidden = HiddenStates()
        self._terms: list[Term] = []
        self._forwards = 0
        self._batch_size = 0
        self._over_batch: list[Location | None] = []
        self._watch = DifferenceWatch(probe)
        self._lone: dict[Location | None, LoneSoftmax] = {}
        self._crossed: dict[Location | None, LoneSoftmax] = {}
        self._twice: dict[tuple[str, str, Location | None], TwiceSquashed] = {}
        self._raw: RawLoss | None = None
        self._picked: PickedClass | None = None

    # -------------------------------------------------------------------------------------------------------- events

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self._batch_size:
            given = next((tensor for tensor in tensors((args, kwargs)) if tensor.dim()), None)
            self._batch_size = int(given.shape[0]) if given is not None else 0
        self._watch.given(tensors((args, kwargs)))

    def operation(self, name: str, output: torch.Tensor) -> None:
        if output.grad_fn is None:
            return
        per_sample = output.dim() > 1 and output.shape[0] == self._batch_size < output.numel()
        over_batch = per_sample and softmax_axis(output.grad_fn) == 0
        if self.step >= LOCATED and not over_batch:
            return
        stack = self.probe.calls.stack
        module = stack[-1] if stack else None
        own = module is not None and type(module).__module__.startswith("torch.nn")  # nn.Sigmoid: where it was built
        place = self.probe.program.location_of(module) if own else None
        layer = self.probe.program.module_names().get(id(module), "") if own else ""
        made = Producer(str(output.grad_fn.name()), layer, place or user_location())
        self._places[output.grad_fn] = made
        if over_batch:
            self._over_batch.append(made.location)

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        self._hidden.heard(module, args, result)

    def loss_called(self, call: LossCall) -> None:
        if not sampled(self.step) or not call.input.numel() or not call.target.numel():
            return
        key = (call.name, call.location)
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = self._new(call.name, call.location, call.input, call.target)
            site.reduction, site.log_target = call.reduction, bool(call.options.get("log_target", False))
            site.log_input = bool(call.options.get("log_input", False))
        self._add(site, call.input, call.target, spreads=call.name in BY_ELEMENT)
        site.inputs.append(_input_sums(call))
        if call.name == "nll_loss":
            normalizer = normalizer_of(producing_node(call.input))
            axis = softmax_axis(normalizer) if normalizer is not None else None
            same = axis is not None and (site.normalizer is None or site.normalizer[1:] == (axis,))
            site.normalizer = (size(normalizer), axis) if same else ((), None)
        labels = call.target.detach()
        if call.class_labels and labels.dim() == 1:
            site.own.append((labels == torch.arange(len(labels), device=labels.device)).all())

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        root = roots[0].grad_fn if roots else None
        if root is not None and sampled(self.step):
            self._terms, self._forwards = terms(root), self.probe.loop.forwards
            self._weights(roots)
            self._formula(root)
            self._root(root, roots[0])
        if root is not None and self._watch.found:
            inside = differences_in(root)
            for difference in self._watch.found:
                if difference.node in inside:
                    self._difference(difference)
        self._watch.clear()
        self._places = {}
        self._hidden.clear()
        self._watch.end()

    def backward_ended(self) -> None:
        if self.probe.manual():  # a step ends where the next one's forward or backward begins: too late
            self._begin_watch()

    def step_ended(self, step: StepSeen) -> None:
        if not self.probe.manual():
            self._watch.clear()
            self._places = {}
            self._hidden.clear()
            self._begin_watch()

    def _begin_watch(self) -> None:
        """Of everything up to the first backward of the next step."""
        self._watch.end()
        if self.step + 1 in WATCHED and self.step + 1 < self.probe.director.steps_to_observe:
            self._watch.begin()

    def _weights(self, roots: tuple[torch.Tensor, ...]) -> None:
        """What the softmaxes inside the models weigh, at the steps in which their places are known."""
        softmaxes = [node for node in self._places if softmax_axis(node) is not None]
        if not softmaxes:
            return
        consumers = Consumers(roots)
        for node in lone_softmaxes(softmaxes):
            summands = weighs(node, consumers)
            if summands:
                self._lone[self._places[node].location] = self._seen(node, self._lone, summands)
        for node in softmaxes:
            if crossed(node, consumers):
                self._crossed[self._places[node].location] = self._seen(node, self._crossed, size(node)[-1])

    def _seen(self, node: Any, known: dict[Location | None, LoneSoftmax], summands: int) -> LoneSoftmax:
        made = self._places[node]
        before = known.get(made.location)
        calls = before.calls + 1 if before is not None else 1
        return LoneSoftmax(
            shape=size(node),
            axis=softmax_axis(node),
            summands=summands,
            calls=calls,
            layer=made.layer,
            location=made.location,
        )

    def _formula(self, root: Any) -> None:
        """What the way from the loss back to the model shows of a loss written by hand."""
        counted = set()  # a step with the same formula twice is one
        for twice in squashed_twice(root, self._places):
            behind = layer_behind(twice.inner, self.probe)  # known at every step, where the place is not
            made = self._places.get(twice.inner) or behind
            key = (kind(twice.inner), kind(twice.outer), behind.location)
            known = self._twice.get(key)
            if key in counted:
                continue
            counted.add(key)
            self._twice[key] = TwiceSquashed(
                inner=key[0],
                outer=key[1],
                shape=size(twice.inner),
                calls=known.calls + 1 if known is not None else 1,
                layer=made.layer or behind.layer,
                location=known.location if known is not None else made.location,
                loss_location=self.probe.loss_facts().location,
            )
        picked = picked_class(root)
        if picked is not None:
            same = self._picked is not None and self._picked.normalised == picked.normalised
            self._picked = PickedClass(
                shape=picked.shape,
                normalised=picked.normalised,
                classes=picked.classes,
                calls=self._picked.calls + 1 if self._picked is not None and same else 1,
                location=user_location(),
            )
        raw = raw_output(root)
        # Of several optimizers, another one may train the layer: a generator is judged by raw outputs of its critic.
        if raw is not None and len(self.probe.program.optimizers) < 2:
            made = layer_behind(raw, self.probe)
            calls = self._raw.calls + 1 if self._raw is not None else 1
            self._raw = RawLoss(calls=calls, layer=made.layer, location=made.location)

    # ---------------------------------------------------------------------------------------------------- what is kept

    def _new(self, name: str, location: Location | None, input: torch.Tensor, target: torch.Tensor) -> _Site:
        node = _maker(input)
        made_by = self._places.get(node) or layer_behind(node, self.probe)
        limits = bounds(node, self._hidden.bounds) if node is not None else (None, None)
        recurrent = self._hidden.kinds.get(node, "")
        return _Site(name, location, made_by, limits, tuple(input.shape), tuple(target.shape), recurrent)

    def _add(self, site: _Site, input: torch.Tensor, target: torch.Tensor, spreads: bool) -> None:
        site.calls += 1
        spread = spread_over_each_other(tuple(input.shape), tuple(target.shape)) or spread_before(input, target)
        if spreads and spread:
            if not site.broadcasts:
                site.input_shape, site.target_shape = tuple(input.shape), tuple(target.shape)
            site.broadcasts += 1
        node = _maker(input)
        if (str(node.name()) if node is not None else "") != site.made_by.operation:
            site.made_by, site.bounds = Producer(), (None, None)  # not always the same: nothing is known
        softmax = sole_softmax(input.grad_fn)
        axis = softmax_axis(softmax) if softmax is not None else None
        site.softmax_sizes.add(NOTHING if softmax is None or axis is None else size(softmax)[axis])
        site.softmax_axes.add(softmax_axis(input.grad_fn) if input.grad_fn is not None else None)
        if site.function in TARGETS and not target.requires_grad:
            site.targets.append(_target_sums(target, site.bounds))

    def _root(self, root: Any, value: torch.Tensor) -> None:
        """A loss that is nothing but a function of one softmax over an axis of size 1: written by hand."""
        softmax = sole_softmax(root)
        axis = softmax_axis(softmax) if softmax is not None else None
        if softmax is None or axis is None or size(softmax)[axis] != 1:
            return
        made_by = self._places.get(softmax) or producer(value, self.probe)
        key = ("backward", made_by.location)
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = _Site("backward", made_by.location, made_by, (None, None), size(softmax), ())
        site.calls += 1
        site.softmax_sizes.add(1)

    def _difference(self, seen: Difference) -> None:
        key = (seen.symbol, seen.location)
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = self._new(seen.symbol, seen.location, seen.input, seen.target)
        self._add(site, seen.input, seen.target, spreads=not seen.reshaped)

    # -------------------------------------------------------------------------------------------------------- the part

    def part(self) -> LossSites:
        if not self._sites and not self._terms:
            raise Unavailable("no loss with a graph was seen at a sampled step", "inconclusive")
        facts = self.probe.loss_facts()
        return LossSites(
            sites=tuple(map(_describe, self._sites.values())),
            terms=tuple(LossTerm(kind=term.kind, factor=term.factor, rows=term.rows) for term in self._terms[:32]),
            summands=len(self._terms),
            forwards=self._forwards,
            batch_size=self._batch_size,
            batch_softmaxes=len(self._over_batch),
            batch_softmax_location=next(iter(self._over_batch), None),
            lone_softmaxes=tuple(self._lone.values()),
            crossed_softmaxes=tuple(self._crossed.values()),
            twice=tuple(self._twice.values()),
            raw=self._raw,
            picked=self._picked,
            covered=facts.covers_loss(),
            multiple=facts.calls_in_loss() if facts.covers_loss() else 1.0,
        )


def _maker(input: torch.Tensor) -> Any:
    """The operation that computed the values. A limit that keeps probabilities off 0 and 1 is not what made them."""
    node = producing_node(input)
    return squasher(node) if node is not None and kind(node) in CLAMPING and squasher(node) is not None else node


def _front(tensor: torch.Tensor) -> torch.Tensor:
    """Whole rows from the front, detached, in single precision at least."""
    rows = max(1, ELEMENTS // max(1, tensor.numel() // tensor.shape[0])) if tensor.dim() else 1
    kept = tensor.detach()[:rows] if tensor.dim() else tensor.detach()
    return kept.float() if kept.dtype in (torch.float16, torch.bfloat16) or not kept.is_floating_point() else kept


def _input_sums(call: LossCall) -> torch.Tensor:
    """(4,): minimum, maximum; for log-probabilities the largest errors of log sum exp and of the sum over classes."""
    values = _front(call.input)
    low, high = values.aminmax()
    nothing = torch.zeros_like(low)
    if call.name not in LOG_PROBABILITIES or values.dim() < 1:
        return torch.stack([low, high, nothing, nothing])
    # The classes of nll_loss lie on axis 1; kl_div has no say in that, so the axis that fits best counts.
    axes = {values.dim() - 1} | ({1} if values.dim() > 1 else set())
    chosen = sorted(axes) if call.name == "kl_div" else [1 if values.dim() > 1 else 0]
    logs = torch.stack([values.logsumexp(axis).abs().max() for axis in chosen]).amin()
    sums = torch.stack([(values.sum(axis) - 1).abs().max() for axis in chosen]).amin()
    return torch.stack([low, high, logs, sums])


def _target_sums(target: torch.Tensor, limits: tuple[float | None, float | None]) -> torch.Tensor:
    """(7,): minimum, maximum, count, sum, sum of squares, values outside the limits, their squared distances summed."""
    values = _front(target).double().reshape(-1)
    distance = torch.zeros_like(values)
    if limits[0] is not None:
        distance = torch.maximum(distance, limits[0] - values)
    if limits[1] is not None:
        distance = torch.maximum(distance, values - limits[1])
    low, high = values.aminmax()
    count = torch.full_like(low, values.numel())
    outside = (distance > 1e-6).sum().double()
    return torch.stack([low, high, count, values.sum(), values.square().sum(), outside, distance.square().sum()])


def _describe(site: _Site) -> LossSite:
    described = LossSite(
        function=site.function,
        location=site.location,
        calls=site.calls,
        reduction=site.reduction,
        log_target=site.log_target,
        log_input=site.log_input,
        normalizer=site.normalizer[0] if site.normalizer else (),
        normalizer_axis=site.normalizer[1] if site.normalizer else None,
        input_shape=site.input_shape,
        target_shape=site.target_shape,
        broadcasts=site.broadcasts,
        operation=site.made_by.operation,
        operation_layer=site.made_by.layer,
        operation_location=site.made_by.location,
        recurrent=site.recurrent,
        lower=site.bounds[0],
        upper=site.bounds[1],
        softmax_size=max(site.softmax_sizes) if site.softmax_sizes and NOTHING not in site.softmax_sizes else None,
        softmax_axis=next(iter(site.softmax_axes)) if len(site.softmax_axes) == 1 else None,
        own_index=bool(site.own) and bool(torch.stack(site.own).any()),
    )
    values: dict[str, Any] = {}
    if site.inputs:
        table = torch.stack(site.inputs).double().cpu()
        values |= {"input_min": float(table[:, 0].min()), "input_max": float(table[:, 1].max())}
        if site.function in LOG_PROBABILITIES:
            values |= {"row_error": float(table[:, 2].max()), "sum_error": float(table[:, 3].max())}
    if site.targets:
        table = torch.stack(site.targets).cpu()
        low, high = float(table[:, 0].min()), float(table[:, 1].max())
        count, total, squares, outside, distance = table[:, 2:].sum(0).tolist()
        variance = squares / count - (total / count) ** 2
        values |= {"target_min": low, "target_max": high, "target_mean": total / count, "targets": int(count)}
        values |= {"outside": int(outside), "unreachable": distance / count / variance if variance > 0 else 0.0}
    return described.model_copy(update=values)
