"""Does a sample's output depend on which other samples are in its batch? One after the other is replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from auditor.evidence import CrossSample
from auditor.probe.batches import batch_dimension, map_tensors, tensors
from auditor.probe.experiments.batch_operations import NORMALIZERS, STATISTICS, BatchOperations
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.sample_places import asked, first_by_place, same_in_fewer
from auditor.probe.parts.program import describe_loader
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

REPLACED = 4  # samples, one at a time
CLEAR = 1e-3  # of the size of the outputs: more than sums in another order come to
FEWEST_ROWS = 6  # in a loop without loader, of which half are tried
SEQUENTIAL = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def cross_sample(probe: Probe) -> Experiment:
    require_rewindable(probe)
    size = _batch_size(probe)
    found: list[CrossSample] = []
    refused: list[NotRun] = []

    def look(examination: Examination, step: int) -> None:
        try:
            found.append(_Look(probe, examination, size).answer())
        except NotRun as why:
            refused.append(why)

    trail = yield Replay(steps=1, label="replace single samples", order=order(probe), examine=look)
    if refused:
        raise refused[0]
    if trail.trouble:
        raise NotRun(f"the model could not be called with other samples: {trail.trouble}")
    if not found:
        trail.require(1)
        raise NotRun("the model was not called in the replayed step")
    return found[0]


def _batch_size(probe: Probe) -> int:
    """Samples in a batch, where it is certain which dimension counts them: the loader's batch size, in everything that
    it hands out. 0 for a loop without loader: what the model does with its rows tells. Raises NotRun otherwise."""
    if not probe.feed.has_loader:
        return 0
    training = [seen.loader for seen in probe.program.loaders if seen.training_credits]
    size = probe.feed.batch_size()
    batching = [getattr(each, "batch_size", None) for each in training]
    batching += [getattr(getattr(each, "batch_sampler", None), "batch_size", None) for each in training]
    if size is None or size not in batching:
        raise NotRun(
            "the batches are not tensors with one row a sample (graphs, packed or time-first sequences, several views)",
            "not-applicable",
        )
    if size < 3:
        raise NotRun(f"a batch holds {size} samples: none can be replaced by another", "not-applicable")
    return size


def influence_of_others(probe: Probe, examination: Examination) -> tuple[float, float]:
    """(largest relative change of the outputs of others when a sample is replaced, least of that of its own)."""
    look = _Look(probe, examination, _batch_size(probe))
    moves = [move for move in map(look._replace, look._chosen()) if move is not None]
    if not moves:
        raise NotRun("the samples of the batch are all alike: none can be replaced by another")
    return max(move.others for move in moves), min(move.own for move in moves)


def _rows_of_one_vector(examination: Examination) -> int:
    """Without a loader: the rows of the inputs, where they are certain to be samples. Each row is a sequence, a table
    or an image, the model returns one vector for each, works on fewer rows, and no layer takes them for a sequence."""
    uncertain = NotRun(
        "the loop uses no DataLoader, and it is not certain which dimension of the inputs counts the samples",
        "not-applicable",
    )
    given = (examination.args, examination.kwargs)
    size = batch_dimension(given) or 0
    found = list(tensors(given))
    largest = max(found, key=lambda tensor: tensor.dim(), default=None)
    if largest is None or size < FEWEST_ROWS or largest.dim() < 3:
        raise uncertain
    single = [False]

    def look(layer: nn.Module, args: Any, result: Any) -> None:
        states = next(tensors(args), None)
        single[0] |= states is not None and (states.dim() < 3 or min(states.shape[:2]) == 1)

    handles = [m.register_forward_hook(look) for m in examination.module.modules() if isinstance(m, SEQUENTIAL)]
    try:
        outputs = examination.outputs()
        half = [o.shape for o in examination.outputs(*_fewer(given, size // 2))]
    except Exception:
        raise uncertain from None
    finally:
        for handle in handles:
            handle.remove()
    vectors = [o for o in outputs if o.dim() in (1, 2) and o.shape[0] == size and o.shape[1:] != largest.shape[1:2]]
    if single[0] or len(vectors) != len(outputs) or any(shape[0] != size // 2 for shape in half):
        raise uncertain
    return size


def _fewer(given: tuple[Any, Any], rows: int) -> tuple[Any, Any]:
    return map_tensors(given[0], lambda t: t[:rows]), map_tensors(given[1], lambda t: t[:rows])


@dataclass
class _Moved:
    """Change of the outputs after one sample was replaced, relative."""

    others: float
    own: float
    share: float
    row: int
    source: int


class _Look:
    def __init__(self, probe: Probe, examination: Examination, size: int) -> None:
        self._probe = probe
        self._examination = examination
        size = self._size = size or _rows_of_one_vector(examination)
        rows = [t for t in tensors((examination.args, examination.kwargs)) if t.dim() and t.shape[0] == size]
        if not rows:
            raise NotRun("the model's inputs do not have one row a sample", "not-applicable")
        if any(t.dim() > 1 and t.shape[1] == size for t in rows):
            raise NotRun(
                "two dimensions of the model's inputs are as large as the batch: which one counts the samples is not "
                "certain",
                "not-applicable",
            )
        self._rows = rows
        self._base = self._usable(examination.outputs())
        if not self._base:
            raise NotRun("the model returns nothing with one row a sample", "not-applicable")
        self._scales = [float(output.double().square().mean().sqrt()) for output in self._base]

    def _usable(self, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """One row a sample, and no table of every sample with every other (similarities)."""
        return [o for o in outputs if o.dim() and o.shape[0] == self._size and self._size not in o.shape[1:]]

    def answer(self) -> CrossSample:
        again = self._difference(self._usable(self._examination.outputs()))
        random = self._difference(self._usable(self._examination.outputs(seed=1))) > 0
        noise = max(again, 4 * self._rounding(), 64 * max(torch.finfo(o.dtype).eps for o in self._base))
        moves = [move for move in map(self._replace, self._chosen()) if move is not None]
        if not moves:
            raise NotRun("the samples of the batch are all alike: none can be replaced by another")
        mixing = [move for move in moves if move.others > noise]
        module = self._examination.module
        found = CrossSample(
            module=type(module).__name__,
            batch_size=self._size,
            replaced=len(moves),
            mixing=len(mixing),
            moved=max(move.others for move in moves),
            own=max(move.own for move in moves),
            unmoved=sum(move.own <= noise for move in mixing),
            noise=noise,
            others=max(move.share for move in moves),
            swap_error=self._swapped(moves[0].row, moves[0].source),
            random=random,
            batch_statistics=tuple(self._without_statistics()),
            model_location=self._probe.program.location_of(module),
        )
        return self._locate(found, mixing[0], noise) if mixing else self._places(found, noise)

    def _chosen(self) -> list[int]:
        """Rows spread over the batch; each is replaced by the one before it, which keeps sorted lengths sorted."""
        step = max(1, (self._size - 1) // REPLACED)
        return list(range(1, self._size, step))[:REPLACED]

    def _call(self, rows: list[int]) -> list[torch.Tensor]:
        """Outputs with the samples in another order; row i gets sample rows[i]."""
        args, kwargs = self._exchanged(rows)
        return self._usable(self._examination.outputs(args, kwargs))

    def _exchanged(self, rows: list[int]) -> tuple[Any, Any]:
        def change(tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.dim() or tensor.shape[0] != self._size:
                return tensor
            return tensor.detach()[torch.tensor(rows, device=tensor.device)]

        return map_tensors(self._examination.args, change), map_tensors(self._examination.kwargs, change)

    def _replace(self, row: int) -> _Moved | None:
        """None where the two samples are the same, or the outputs have another shape then."""
        source = row - 1
        if all(torch.equal(t[row], t[source]) for t in self._rows):
            return None
        order = [source if index == row else index for index in range(self._size)]
        changed = self._call(order)
        if [o.shape for o in changed] != [o.shape for o in self._base]:
            return None
        others = torch.tensor([index != row for index in range(self._size)])
        apart = self._distances(changed)
        limit = 64 * max(torch.finfo(o.dtype).eps for o in self._base)
        return _Moved(
            others=float(apart[others].max()),
            own=float(apart[row]),
            share=float((apart[others] > limit).double().mean()),
            row=row,
            source=source,
        )

    def _distances(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        """(batch,) largest change of each sample's outputs, relative to their size. What is not finite counts as
        unchanged."""
        rows = torch.zeros(self._size, dtype=torch.float64)
        for before, after, scale in zip(self._base, outputs, self._scales, strict=True):
            apart = (after.double() - before.double()).abs().nan_to_num(0.0, 0.0, 0.0)
            rows = torch.maximum(rows, apart.reshape(self._size, -1).amax(1).cpu() / max(scale, 1e-12))
        return rows

    def _difference(self, outputs: list[torch.Tensor]) -> float:
        if [o.shape for o in outputs] != [o.shape for o in self._base]:
            return float("inf")
        return float(self._distances(outputs).max())

    def _rounding(self) -> float:
        """By how much the outputs move when every input moves by one unit in its last place."""

        def nudge(tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.is_floating_point() or not tensor.dim() or tensor.shape[0] != self._size:
                return tensor
            return tensor.detach() * (1 + torch.finfo(tensor.dtype).eps)

        examination = self._examination
        args, kwargs = map_tensors(examination.args, nudge), map_tensors(examination.kwargs, nudge)
        moved = self._difference(self._usable(examination.outputs(args, kwargs)))
        return moved if moved < 1e-2 else 0.0  # more than that is no rounding: a threshold was crossed

    def _swapped(self, first: int, second: int) -> float | None:
        order = list(range(self._size))
        order[first], order[second] = second, first
        swapped = self._call(order)
        if [o.shape for o in swapped] != [o.shape for o in self._base]:
            return None
        back = torch.tensor(order)
        return self._difference([output[back.to(output.device)] for output in swapped])

    def _without_statistics(self) -> list[str]:
        names = self._probe.program.module_names()
        return [
            names.get(id(m), type(m).__name__)
            for m in self._examination.module.modules()
            if isinstance(m, _BatchNorm) and m.running_mean is None
        ]

    def _places(self, found: CrossSample, noise: float) -> CrossSample:
        """The batch in reverse order: what the outputs of the same samples are in other places."""
        limit = max(noise, CLEAR)
        if found.random or not asked(self._examination, self._size) or not self._in_any_order():
            return found
        try:
            turned = [output.flip(0) for output in self._call(list(range(self._size))[::-1])]
        except Exception:  # sorted by length, for example
            return found
        if [o.shape for o in turned] != [o.shape for o in self._base]:
            return found
        apart = self._distances(turned)
        share = float((apart > limit).double().mean())
        if not share or not same_in_fewer(self._examination, self._base, self._size, limit):
            return found.model_copy(update={"placed": 0.0})
        layer = first_by_place(self._recorded, self._size, limit)
        return found.model_copy(
            update={
                "placed": share,
                "place_error": float(apart.max()),
                "layer": self._probe.program.module_names().get(id(layer), "") if layer is not None else "",
                "layer_kind": type(layer).__name__ if layer is not None else "",
                "location": self._probe.program.location_of(layer) if layer is not None else None,
            }
        )

    def _in_any_order(self) -> bool:
        """The loader shuffles: no place in the batch means anything. A loop without loader was asked what a row is."""
        training = [seen for seen in self._probe.program.loaders if seen.training_credits]
        return all(describe_loader(seen).shuffled is True for seen in training)

    # -------------------------------------------------------------------------------------------- where they are mixed

    def _locate(self, found: CrossSample, move: _Moved, noise: float) -> CrossSample:
        order = [move.source if index == move.row else index for index in range(self._size)]
        layer = self._first_module(order, move.row, noise)
        through = self._through(order, move.row, noise)
        if layer is None:
            return found.model_copy(update={"through": through})
        first = isinstance(layer, SEQUENTIAL) and not _batch_first(layer)
        return found.model_copy(
            update={
                "layer": self._probe.program.module_names().get(id(layer), ""),
                "layer_kind": type(layer).__name__,
                "location": self._probe.program.location_of(layer),
                "through": through,
                "sequence_first": first,
            }
        )

    def _first_module(self, order: list[int], row: int, noise: float) -> nn.Module | None:
        """The first module to return something in which another sample has moved."""
        before = self._recorded(list(range(self._size)))
        after = self._recorded(order)
        others = torch.tensor([index != row for index in range(self._size)])
        for (module, was), (same, now) in zip(before, after, strict=False):
            if module is not same or was.shape != now.shape:
                return None
            scale = max(float(was.double().square().mean().sqrt()), 1e-12)
            apart = (now.double() - was.double()).abs().reshape(self._size, -1).amax(1).cpu() / scale
            if float(apart[others].max()) > noise:
                return module
        return None

    def _recorded(self, order: list[int]) -> list[tuple[nn.Module, torch.Tensor]]:
        found: list[tuple[nn.Module, torch.Tensor]] = []

        def note(module: nn.Module, args: Any, result: Any) -> None:
            first = next(tensors(result), None)
            if first is not None and first.dim() and first.shape[0] == self._size and first.is_floating_point():
                found.append((module, first.detach().clone()))

        handles = [module.register_forward_hook(note) for module in self._examination.module.modules()]
        try:
            self._call(order)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def _through(self, order: list[int], row: int, noise: float) -> str:
        """'mean', 'softmax', ... when the others stay where they are once the results of all such operations over the
        batch are those of the unchanged batch."""
        for names in (STATISTICS, NORMALIZERS):
            kept = BatchOperations(names, self._size)
            with kept:
                self._call(list(range(self._size)))
            if not kept.results:
                continue
            held = BatchOperations(names, self._size, kept.results)
            with held:
                changed = self._call(order)
            apart = self._distances(changed)
            others = torch.tensor([index != row for index in range(self._size)])
            if float(apart[others].max()) <= noise:
                return kept.names[0]
        return ""


def _batch_first(layer: nn.Module) -> bool:
    inner = getattr(layer, "self_attn", layer)
    return bool(getattr(inner, "batch_first", False))
