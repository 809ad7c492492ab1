"""What later values of a series do to the predictions before them, for models that are trained on the next values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from auditor.evidence import TokenInfluence
from auditor.probe.batches import map_tensors, tensors
from auditor.probe.serieslabels import Series

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

CUTS = (0.25, 0.5, 0.75)  # of the length


def series_influence(probe: Probe, examination: Examination) -> TokenInfluence | None:
    """None where the targets are no later values of an input, or the model returns nothing at each position."""
    look = _look(probe, examination)
    return look.answer() if look is not None else None


def later_values_influence(probe: Probe, examination: Examination) -> float | None:
    """Largest change of an output in the first half, relative to the size of the outputs, when the second half of the
    input is replaced. None as above."""
    look = _look(probe, examination)
    return look.of_second_half() if look is not None else None


def _look(probe: Probe, examination: Examination) -> _Look | None:
    collector = probe.collectors.find("token_labels")
    series = collector.series if collector is not None else None
    if series is None or series.model != id(examination.module):
        return None
    return _Look(probe, examination, series)


class _Look:
    def __init__(self, probe: Probe, examination: Examination, series: Series) -> None:
        self._probe = probe
        self._examination = examination
        self._series = series
        given = list(tensors((examination.args, examination.kwargs)))
        self._input = given[series.place] if series.place < len(given) else None

    def answer(self) -> TokenInfluence | None:
        series, values = self._series, self._input
        if values is None or values.dim() <= series.axis or values.shape[series.axis] != series.length:
            return None
        base, again = self._outputs(), self._outputs()
        if base is None or again is None:
            return None
        noise = max(float(_moved(base, again).max()), 64 * torch.finfo(base.dtype).eps)
        changes = []
        counted = series.length - series.first  # positions whose prediction has a target
        for cut in (min(series.length - 2, series.first + int(share * counted)) for share in CUTS):
            now = self._outputs(self._replaced(cut + 1))
            if now is None or now.shape != base.shape:
                return None
            moved = _moved(base, now)
            changes.append((float(moved[series.first : cut + 1].max()), float(moved[cut + 1 :].max()), cut))
        worst = max(changes)
        module = self._examination.module
        found = TokenInfluence(
            embedding="the input",
            series=True,
            shape=tuple(values.shape),
            shifted=1.0,
            cuts=len(changes),
            before=worst[0],
            after=max(after for _, after, _ in changes),
            leaking=sum(before > noise for before, _, _ in changes),
            noise=noise,
            location=self._probe.program.location_of(module),
            loss_location=series.location,
        )
        return found.model_copy(update=self._locate(worst[2], noise)) if worst[0] > noise else found

    def of_second_half(self) -> float | None:
        values, middle = self._input, self._series.length // 2
        if (
            values is None
            or values.dim() <= self._series.axis
            or values.shape[self._series.axis] != self._series.length
        ):
            return None
        base, now = self._outputs(), self._outputs(self._replaced(middle))
        if base is None or now is None or now.shape != base.shape:
            return None
        return float(_moved(base, now)[:middle].max())

    def _replaced(self, start: int) -> torch.Tensor:
        """The input with other values from `start` on: those of another sample, or the same ones backwards."""
        assert self._input is not None
        values, axis = self._input.detach(), self._series.axis
        late = values.narrow(axis, start, values.shape[axis] - start)
        other = late.roll(1, 0) if values.shape[0] > 1 else late.flip(axis)
        return torch.cat([values.narrow(axis, 0, start), other], dim=axis)

    def _call(self, values: torch.Tensor | None) -> list[torch.Tensor]:
        if values is None:
            return self._examination.outputs()

        def change(tensor: torch.Tensor) -> torch.Tensor:
            return values if tensor is self._input else tensor

        args, kwargs = self._examination.args, self._examination.kwargs
        return self._examination.outputs(map_tensors(args, change), map_tensors(kwargs, change))

    def _outputs(self, values: torch.Tensor | None = None) -> torch.Tensor | None:
        """(length, batch, values) of the first output with one prediction a position."""
        return next((t for t in map(self._by_position, self._call(values)) if t is not None), None)

    def _by_position(self, output: torch.Tensor) -> torch.Tensor | None:
        assert self._input is not None
        rows, length = self._input.shape[0], self._series.length
        if output.dim() not in (2, 3) or output.shape[0] != rows:
            return None
        axes = [axis for axis in range(1, output.dim()) if output.shape[axis] == length]
        return output.movedim(axes[0], 0).reshape(length, -1) if len(axes) == 1 else None

    def _locate(self, cut: int, noise: float) -> dict[str, Any]:
        """The first layer whose output at a position before the cut has moved."""
        before, after = self._recorded(None), self._recorded(self._replaced(cut + 1))
        for (module, was), (same, now) in zip(before, after, strict=False):
            if module is not same or was.shape != now.shape:
                break
            if float(_moved(was, now)[self._series.first : cut + 1].max()) > noise:
                names, program = self._probe.program.module_names(), self._probe.program
                name = names.get(id(module), type(module).__name__)
                return {"layer": name, "layer_location": program.location_of(module)}
        return {}

    def _recorded(self, values: torch.Tensor | None) -> list[tuple[nn.Module, torch.Tensor]]:
        found: list[tuple[nn.Module, torch.Tensor]] = []

        def note(module: nn.Module, args: Any, result: Any) -> None:
            first = next(tensors(result), None)
            shaped = self._by_position(first) if first is not None and first.is_floating_point() else None
            if shaped is not None:
                found.append((module, shaped.detach().clone()))

        handles = [module.register_forward_hook(note) for module in self._examination.module.modules()]
        try:
            self._call(values)
        finally:
            for handle in handles:
                handle.remove()
        return found


def _moved(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """(length,) largest change at each position, relative to the size of the outputs."""
    scale = max(float(before.double().nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()), 1e-12)
    return (after.double() - before.double()).abs().nan_to_num(0.0, 0.0, 0.0).reshape(len(before), -1).amax(1) / scale
