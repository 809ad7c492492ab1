"""Lists of indices, of neighbours for example, padded with an index that real entries have as well: does it matter
what stands in the padding?

Where the padding has an index of its own, a row of zeros may stand behind it, and a sum over it is right.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from auditor.evidence import TokenInfluence
from auditor.probe.batches import map_tensors, tensors
from auditor.probe.tokenchanges import as_many, exchange
from auditor.probe.tokens import LARGEST, Stream

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

FEWEST_PADDED = 4
FEWEST_LENGTHS = 2  # that differ, for a mask to be one of lengths


@dataclass
class Listed:
    """An argument of indices, (..., entries), and where it is padded according to another argument."""

    indices: torch.Tensor
    run: torch.Tensor
    pad: int
    name: str


def padded_indices(probe: Probe, examination: Examination, streams: Sequence[Stream] = ()) -> TokenInfluence | None:
    """None where no list of indices is given with a mask of its padding, or the padding has an index of its own.
    `streams`: of tokens, which are no such lists."""
    listed = declared_lists(examination)
    if listed is None or any(torch.equal(each.ids, listed.indices) for each in streams):
        return None
    if any(map(_sees_beside, examination.module.modules())):
        return None
    base = examination.outputs()
    noise = max(_change(base, examination.outputs(), listed.run), 64 * torch.finfo(torch.float32).eps)
    change = _change(base, _outputs(examination, listed, listed.run), listed.run)
    flat = listed.run.reshape(-1, listed.run.shape[-1])
    real = as_many(~flat, flat, 1).reshape(listed.run.shape)
    return TokenInfluence(
        embedding="",
        shape=tuple(listed.indices.shape),
        mask=type(examination.module).__name__,
        indices=listed.name,
        pad=listed.pad,
        padded=int(listed.run.sum()),
        pad_change=0.0 if change <= noise else change,
        real_change=_change(base, _outputs(examination, listed, real), listed.run | real),
        noise=noise,
        location=probe.program.location_of(examination.module),
    )


def beside_lists(
    probe: Probe, examination: Examination, found: TokenInfluence, streams: Sequence[Stream]
) -> TokenInfluence:
    """With what the lists show in a model of tokens, the kinds of nodes for example, that are not padded themselves."""
    lists = padded_indices(probe, examination, streams) if not found.mask else None
    if lists is None:
        return found
    kept = ("mask", "indices", "pad", "padded", "pad_change", "real_change", "location")
    return found.model_copy(update={name: getattr(lists, name) for name in kept})


def _sees_beside(module: nn.Module) -> bool:
    """A layer that may see the padding next to an entry by its nature."""
    kernel = getattr(module, "kernel_size", 1)
    wide = max(kernel) > 1 if isinstance(kernel, tuple) else isinstance(kernel, int) and kernel > 1
    return wide or isinstance(module, nn.RNNBase | nn.RNNCellBase)


def declared_lists(examination: Examination) -> Listed | None:
    given = list(_named(examination))
    for name, indices in given:
        whole = not indices.is_floating_point() and not indices.is_complex() and indices.dtype != torch.bool
        if not whole or indices.dim() < 2 or not 2 <= indices.numel() <= LARGEST:
            continue
        for _, mask in given:
            for run in _ends(mask, indices):
                padding, real = indices[run].unique(), indices[~run].unique()  # type: ignore[no-untyped-call]
                if len(padding) == 1 and len(real) > 2 and bool(torch.isin(padding, real).all()):
                    return Listed(indices, run, int(padding), name)
    return None


def _ends(mask: torch.Tensor, indices: torch.Tensor) -> Iterator[torch.Tensor]:
    """The ends of its lists that a mask of yes and no marks: of several lengths, and no list is empty."""
    if mask is indices or mask.numel() != indices.numel() or mask.is_complex() or not mask.dim():
        return
    if [side for side in mask.shape if side != 1] != [side for side in indices.shape if side != 1]:
        return
    two = mask.dtype == torch.bool or bool(((mask == 0) | (mask == 1)).all())
    for run in (mask != 0, mask == 0) if two else ():
        run = run.detach().reshape(indices.shape)
        behind = run.int().flip(-1).cumprod(-1).flip(-1).bool()
        lengths = (~run).sum(-1)
        several = len(lengths.unique()) >= FEWEST_LENGTHS and int(lengths.max()) > 1  # type: ignore[no-untyped-call]
        if torch.equal(behind, run) and several and int(lengths.min()) > 0 and int(run.sum()) >= FEWEST_PADDED:
            yield run


def _named(examination: Examination) -> Iterator[tuple[str, torch.Tensor]]:
    try:
        names = list(inspect.signature(examination.module.forward).parameters)
    except (TypeError, ValueError):
        names = []
    for place, value in enumerate(examination.args):
        for tensor in tensors(value):
            yield names[place] if place < len(names) else f"argument {place}", tensor
    for name, value in examination.kwargs.items():
        for tensor in tensors(value):
            yield name, tensor


def _outputs(examination: Examination, listed: Listed, inside: torch.Tensor) -> list[torch.Tensor]:
    """With other indices that occur in the batch at the places `inside`."""
    other = exchange(listed.indices.detach(), inside, None)

    def change(tensor: torch.Tensor) -> Any:
        return other if tensor is listed.indices else tensor

    return examination.outputs(map_tensors(examination.args, change), map_tensors(examination.kwargs, change))


def _change(base: list[torch.Tensor], now: list[torch.Tensor], outside: torch.Tensor) -> float:
    """Largest change of any output relative to its size; of one for each entry of the lists, those `outside` are left
    out."""
    largest = 0.0
    for before, after in zip(base, now, strict=False):
        if before.shape != after.shape or not before.numel():
            continue
        apart = (after.double() - before.double()).abs().nan_to_num(0.0, 0.0, 0.0)
        scale = max(float(before.double().nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()), 1e-12)
        if before.shape[: outside.dim()] == outside.shape:
            apart = apart[~outside.to(apart.device)]
        largest = max(largest, float(apart.max()) / scale if apart.numel() else 0.0)
    return largest
