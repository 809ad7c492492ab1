"""Which tokens a position's output depends on: some are replaced where they enter the embedding, beside the loop.

Replaced there and not in the arguments, so masks and labels that are made of the ids stay as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from auditor.evidence import TokenInfluence
from auditor.probe.batches import tensors
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.moved_layers import first_moved, outputs_of_layers
from auditor.probe.experiments.padded_features import declared, padded_features
from auditor.probe.experiments.padded_indices import beside_lists, padded_indices
from auditor.probe.experiments.series_influence import series_influence
from auditor.probe.maskuse import MasksUsed
from auditor.probe.paddingmask import PaddingMask, is_behind
from auditor.probe.parts.token_labels import OFFSETS, best_fit, counted_positions, window
from auditor.probe.positions import by_position, largest_of, movement
from auditor.probe.replay import Experiment, NotRun, Replay
from auditor.probe.tokenchanges import LossInputsHeard, as_many, exchange
from auditor.probe.tokens import Stream, behind_the_first, declared_padding, marks, padding_run, stream_of

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

CUTS = (0.25, 0.5, 0.75)  # of the length
LOCAL = (nn.RNNBase, nn.RNNCellBase, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)  # padding next to text is seen there
FEWEST_PADDED = 4


def token_influence(probe: Probe) -> Experiment:
    require_rewindable(probe)
    found: list[TokenInfluence] = []
    refused: list[NotRun] = []
    padded: list[Any] = []

    def look(examination: Examination, step: int) -> None:
        if found or refused:
            _look_further(probe, examination, found)
            return
        try:
            look = TokenLook(probe, examination)
            found.append(beside_lists(probe, examination, look.answer(), look.streams))
        except NotRun as why:
            other = series_influence(probe, examination) or padded_indices(probe, examination)
            if other is not None:
                found.append(other)
                return
            refused.append(why)
            padded.append(declared(examination))

    trail = yield Replay(steps=1, label="replace tokens", order=order(probe), examine=look, examine_each=True)
    if any(padded) and not found:
        return (yield from padded_features(probe))
    if refused and not found:
        raise refused[0]
    if trail.trouble and not found:
        raise NotRun(f"the model could not be called beside the loop: {trail.trouble}")
    if not found:
        trail.require(1)
        raise NotRun("the model was not called in the replayed step", "not-applicable")
    return found[0]


def _look_further(probe: Probe, examination: Examination, found: list[TokenInfluence]) -> None:
    """At a model that the step calls after the first: a decoder whose encoder is called by the loop, too. Asked for the
    order of its tokens alone, where the first one has no label a token."""
    if found and (found[0].cuts or found[0].series):
        return
    with suppress(NotRun):
        look = TokenLook(probe, examination)
        fields = look.causality()
        if fields.get("cuts"):
            found[:] = [(found[0] if found else look.outline()).model_copy(update=fields)]


@dataclass
class _Seen:
    """What one call of the model showed."""

    streams: list[Stream] = field(default_factory=list)
    given: list[tuple[str, torch.Tensor]] = field(default_factory=list)  # (module, tensor that it was called with)
    layers: list[tuple[nn.Module, torch.Tensor]] = field(default_factory=list)


class TokenLook:
    """One training forward, and what calls of the model with other tokens show. Raises NotRun without tokens."""

    def __init__(self, probe: Probe, examination: Examination) -> None:
        self._probe = probe
        self._examination = examination
        self._module = examination.module
        self._names = probe.program.module_names()
        self._window: tuple[int, int] | None = None  # of the logits, where they are more than the tokens
        with self._watched() as seen, MasksUsed() as used:
            self._base = examination.outputs()
        self.streams = seen.streams
        self._given = [*self._arguments(), *seen.given]
        self._used = used.masks if used.attention else []
        self._attends = used.attention
        if not self.streams:
            raise NotRun("no tokens enter an embedding where the model is called", "not-applicable")

    def outline(self) -> TokenInfluence:
        shown = self.streams[0]
        return TokenInfluence(
            embedding=self.name(shown.module),
            shape=tuple(shown.ids.shape),
            location=self._probe.program.location_of(self._module),
        )

    def answer(self) -> TokenInfluence:
        found = self.outline()
        found = found.model_copy(update=self.causality())
        return found.model_copy(update=self.padding())

    # ---------------------------------------------------------------------------------------------- order of the tokens

    def causality(self) -> dict[str, Any]:
        """Fields about the tokens that follow; {} where no loss has one label a token."""
        for site, fit, stream in self._labelled():
            counted = counted_positions(site, fit, stream.ids)
            if counted is None:
                continue
            share = {
                offset: equal / compared if compared else None
                for offset, (equal, compared) in zip(OFFSETS, fit.table.tolist(), strict=True)
            }
            fields = {
                "embedding": self.name(stream.module),
                "shape": tuple(stream.ids.shape),
                "shifted": share[1],
                "same": share[0],
                "later": share[2],
                "loss_location": site.location,
            }
            self._window = window(site, fit, stream.ids.shape[fit.axis])
            return fields | self._cut(stream, counted, fit.axis, site.classes)
        return {}

    def later_influence(self) -> float | None:
        """Largest change of an output in the first half of the positions, relative to the size of the outputs, when all
        tokens of the second half are replaced. None where no loss has one label a token."""
        for site, fit, stream in self._labelled():
            middle = stream.ids.shape[fit.axis] // 2
            base = self._positions(stream, fit.axis, site.classes)
            replaced = self._replaced(stream, fit.axis, middle, stream.ids.shape[fit.axis])
            moved = movement(base, self._positions(stream, fit.axis, site.classes, replaced))
            if moved is not None and middle > 0:
                return float(moved[:, :middle].max())
        return None

    def _labelled(self) -> Iterator[tuple[Any, Any, Stream]]:
        """The loss call sites with one label a token, how their labels fit the tokens, and these; most calls first."""
        collector = self._probe.collectors.find("token_labels")
        sites = [(site, best_fit(site)) for site in collector.sites()] if collector is not None else []
        for site, fit in sorted((pair for pair in sites if pair[1] is not None), key=lambda pair: -pair[0].calls):
            stream = self._stream(fit)
            if stream is not None:
                yield site, fit, stream

    def _stream(self, fit: Any) -> Stream | None:
        found = (each for each in self.streams if each.module is fit.embedding and each.index == fit.index)
        return next(found, None)

    def _cut(self, stream: Stream, counted: torch.Tensor, axis: int, classes: int) -> dict[str, Any]:
        base = self._positions(stream, axis, classes)
        if base is None:
            return {}
        again = self._positions(stream, axis, classes)
        noise = max(largest_of(movement(base, again)), 64 * torch.finfo(base.dtype).eps)
        counted = (counted if axis == 1 else counted.t()).to(base.device)
        length = stream.ids.shape[axis]
        changes: list[tuple[float, float, int]] = []
        for share in CUTS:
            cut = min(length - 2, max(0, int(share * length)))
            now = self._positions(stream, axis, classes, self._replaced(stream, axis, cut + 1, length))
            moved = movement(base, now)
            if moved is None or not bool(counted[:, : cut + 1].any()):
                continue
            before = torch.where(counted[:, : cut + 1], moved[:, : cut + 1], 0.0)
            changes.append((float(before.max()), float(moved[:, cut + 1 :].max()), cut))
        middle = length // 2
        own = movement(base, self._positions(stream, axis, classes, self._replaced(stream, axis, middle, middle + 1)))
        fields: dict[str, Any] = {"noise": noise, "cuts": len(changes)}
        if own is not None:
            fields["own"] = float(own[:, middle].max())
        if changes:
            worst = max(changes)
            fields |= {
                "before": worst[0],
                "after": max(change[1] for change in changes),
                "leaking": sum(before > noise for before, _, _ in changes),
            }
            if worst[0] > noise:
                fields |= self._locate(stream, axis, worst[2], noise)
        return fields

    def _replaced(self, stream: Stream, axis: int, start: int, end: int) -> torch.Tensor:
        """The ids with other tokens of the same batch from `start` to before `end`; padding stays."""
        inside = torch.zeros_like(stream.ids, dtype=torch.bool)
        inside.narrow(axis, start, end - start).fill_(True)
        pad = declared_padding(stream.module)
        if pad is not None:
            inside &= stream.ids != pad
        return exchange(stream.ids, inside, pad)

    def _positions(
        self, stream: Stream, axis: int, classes: int, ids: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """(batch, length, values) of the output at each position; None where the model returns no such thing."""
        with self.fed(stream, ids), LossInputsHeard() as losses:
            outputs = self._examination.outputs()
        return by_position([*outputs, *losses.found], stream.ids, axis, classes, self._window)

    # ---------------------------------------------------------------------------------------------------------- padding

    def padding(self) -> dict[str, Any]:
        """Fields of the padded stream whose padding matters most; {} where no mask marks any padding."""
        modules = list(self._module.modules())
        forward = [m for m in modules if isinstance(m, nn.RNNBase) and not m.bidirectional]
        local = next((type(m).__name__ for m in modules if isinstance(m, LOCAL) and m not in forward), "")
        best: dict[str, Any] = {}
        for stream in self.streams:
            found = self._mask_of(stream, bool(forward))
            if found is None:
                continue
            named: dict[str, Any] = {"mask": found.owner, "mask_made": found.made, "recurrent": bool(forward)}
            near = local or (type(forward[0]).__name__ if forward and not is_behind(found) else "")
            if near:
                return named | {"pad": found.pad, "padded": int(found.run.sum()), "local_layer": near}
            fields = self._in_padding(stream, found.pad, found.run, found.axis) | named
            if fields.get("pad_change", -1.0) > best.get("pad_change", -1.0) or not best:
                best = fields
        return best

    def mask(self) -> PaddingMask | None:
        """Of the first stream that has one."""
        return next((mask for stream in self.streams if (mask := self._mask_of(stream, False)) is not None), None)

    def _mask_of(self, stream: Stream, recurrent: bool) -> PaddingMask | None:
        declared = declared_padding(stream.module)
        corners = {int(stream.ids[row, column]) for row in (0, -1) for column in (0, -1)}
        edges = set(stream.ids[:16, -1].tolist()) | set(stream.ids[-1, :16].tolist())
        for pad in [declared] if declared is not None else sorted(corners | edges):
            for axis in (1, 0):
                run = padding_run(stream.ids, pad, axis)
                if int(run.sum()) < FEWEST_PADDED or bool(run.all()):
                    continue
                for name, tensor in self._given:
                    if tensor is not stream.ids and (marks(tensor, run) or marks(tensor, run.t())):
                        return PaddingMask(pad, behind_the_first(run, axis), axis, name)
                if any(marks(tensor, run) or marks(tensor, run.t()) for tensor in self._used):
                    owner = type(self._module).__name__
                    return PaddingMask(pad, behind_the_first(run, axis), axis, owner, made=True)
                if axis == 1 and (recurrent or self._attends) and self._tells_lengths(run):
                    return PaddingMask(pad, behind_the_first(run, axis), axis, type(self._module).__name__)
                blank = self._blank_mask(run) if declared is not None else ""
                if blank:
                    return PaddingMask(pad, behind_the_first(run, axis), axis, blank)
        return None

    def _tells_lengths(self, run: torch.Tensor) -> bool:
        """An argument of the model holds the numbers of positions before the padding. Not all are the same."""
        lengths = (~run).sum(1)
        numbers = (t for _, t in self._arguments() if not t.is_floating_point() and t.shape == lengths.shape)
        return bool((lengths != lengths[0]).any()) and any(torch.equal(t.to(lengths), lengths) for t in numbers)

    def _blank_mask(self, run: torch.Tensor) -> str:
        """An argument called a mask, in the shape of the tokens, that marks nothing at all though there is padding."""
        for name, tensor in self._arguments(names=True):
            constant = tensor.numel() == run.numel() and bool((tensor == tensor.reshape(-1)[0]).all())
            if "mask" in name and constant:
                return f"{type(self._module).__name__} ({name})"
        return ""

    def _in_padding(self, stream: Stream, pad: int, run: torch.Tensor, axis: int) -> dict[str, Any]:
        changed = self._difference(stream, exchange(stream.ids, run, pad), run, axis)
        real = as_many(stream.ids != pad, run, axis)
        control = self._difference(stream, exchange(stream.ids, real, pad), run | real, axis)
        noise = max(self._difference(stream, stream.ids, run, axis), 64 * torch.finfo(torch.float32).eps)
        return {
            "pad": pad,
            "padded": int(run.sum()),
            "pad_change": 0.0 if changed <= noise else changed,
            "real_change": control,
        }

    def _difference(self, stream: Stream, ids: torch.Tensor, outside: torch.Tensor, axis: int) -> float:
        """Largest change of any output, positions `outside` left out where outputs have positions."""
        with self.fed(stream, ids):
            now = self._examination.outputs()
        largest = 0.0
        for before, after in zip(self._base, now, strict=False):
            if before.shape != after.shape or not before.dim():
                continue
            apart = (after.double() - before.double()).abs().nan_to_num(0.0, 0.0, 0.0)
            scale = max(float(before.double().nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()), 1e-12)
            if before.dim() >= 2 and before.shape[:2] == stream.ids.shape:
                apart = apart[~outside.to(apart.device)]
            elif before.dim() >= 2 and before.shape[0] == stream.ids.numel():
                apart = apart[~outside.reshape(-1).to(apart.device)]
            largest = max(largest, float(apart.max()) / scale if apart.numel() else 0.0)
        return largest

    # ---------------------------------------------------------------------------------------------------------- helpers

    def name(self, module: nn.Module) -> str:
        return self._names.get(id(module), type(module).__name__)

    def _arguments(self, names: bool = False) -> list[tuple[str, torch.Tensor]]:
        """Tensors that the model itself is called with, by its class, or by the names of its parameters."""
        examination = self._examination
        bound: dict[str, Any] = dict(examination.kwargs)
        try:
            parameters = list(inspect.signature(self._module.forward).parameters)
        except (TypeError, ValueError):
            parameters = []
        for position, value in enumerate(examination.args):
            bound[parameters[position] if position < len(parameters) else str(position)] = value
        label = type(self._module).__name__
        return [(name if names else label, tensor) for name, value in bound.items() for tensor in tensors(value)]

    @contextmanager
    def _watched(self) -> Iterator[_Seen]:
        """Ids that enter embeddings, and what every layer is called with, during the calls inside."""
        seen = _Seen()
        handles = []
        for module in self._module.modules():
            handles.append(module.register_forward_hook(lambda m, args, result: self._enter(seen, m, args, result)))
            if module is not self._module:
                handles.append(
                    module.register_forward_pre_hook(
                        lambda m, args, kwargs: self._note(seen, m, (args, kwargs)), with_kwargs=True
                    )
                )
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, seen: _Seen, module: nn.Module, args: Any, result: Any) -> None:
        stream = stream_of(module, args, result)
        if stream is not None:
            stream.index = sum(other.module is module for other in seen.streams)
            seen.streams.append(stream)

    def _note(self, seen: _Seen, module: nn.Module, given: Any) -> None:
        for tensor in tensors(given):
            if len(seen.given) < 256 and tensor.dim() >= 2 and tensor.numel() <= 2**20 and not tensor.requires_grad:
                seen.given.append((self.name(module), tensor.detach()))

    @contextmanager
    def fed(self, stream: Stream, ids: torch.Tensor | None) -> Iterator[None]:
        """Inside, the stream's embedding gets these ids instead of its own."""
        calls = [0]

        def change(module: nn.Module, args: Any, kwargs: Any) -> Any:
            number, calls[0] = calls[0], calls[0] + 1
            first = next(tensors((args, kwargs)), None)
            if ids is None or number != stream.index or first is None or first.shape != ids.shape:
                return None
            if args:
                return (ids.to(first), *args[1:]), kwargs
            name = next(name for name, value in kwargs.items() if value is first)
            return args, {**kwargs, name: ids.to(first)}

        handle = stream.module.register_forward_pre_hook(change, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _locate(self, stream: Stream, axis: int, cut: int, noise: float) -> dict[str, Any]:
        """Fields about the first layer whose output at a position before the cut has moved."""
        replaced = self._replaced(stream, axis, cut + 1, stream.ids.shape[axis])
        runs = []
        for ids in (None, replaced):
            with self.fed(stream, ids):
                runs.append(outputs_of_layers(self._examination, stream.ids.shape))
        owner = first_moved(self._module, *runs, axis=axis, before=cut + 1, noise=noise)
        if owner is None:
            return {}
        return {"layer": self.name(owner), "layer_location": self._probe.program.location_of(owner)}
