"""Sequences of features in a model that is told their lengths: more padding must not matter, nor what stands in it.

Zeros are appended and not replaced: they may be what a sum over all positions relies on, and rightly so. Where
something else is left there, the rows of a buffer that were not cleared for example, it is exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from auditor.evidence import TokenInfluence
from auditor.probe.batches import map_tensors, tensors
from auditor.probe.experiments.feasible import order
from auditor.probe.operations import short_name
from auditor.probe.replay import Experiment, NotRun, Replay
from auditor.probe.tokenchanges import as_many
from auditor.probe.tokens import SHORTEST, marks

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

STEPS = 8  # in which batches of different widths have to be seen
FEWEST_PADDED = 4
FEWEST_LENGTHS = 3  # that differ, for a mask to be one of lengths
MOST_ZEROS = 0.5  # share of padded positions that hold something, for it to be left there
SHARE = 4  # one position is appended for this many
# Operations that see what is next to a position, by their nature, and how their names start. A recurrent layer that
# reads forward sees nothing of what is behind; single cells may be run either way, and so may what is turned round.
LOCAL = ("conv", "unfold", "avg_pool", "max_pool", "flip", "fliplr", "lstm_cell", "gru_cell", "rnn_tanh_cell",
         "rnn_relu_cell")  # fmt: skip


@dataclass
class Padded:
    """(batch, length, features) with zeros behind each sequence, and the tensor that says where they begin."""

    features: torch.Tensor
    run: torch.Tensor  # (batch, length): padded
    told: torch.Tensor  # a mask of the positions, or (batch,) lengths
    stale: bool = False  # no zeros stand there


def padded_features(probe: Probe) -> Experiment:
    widths: set[int] = set()
    found: list[TokenInfluence] = []
    stale: list[bool] = []
    unused = True

    def look(examination: Examination, step: int) -> None:
        nonlocal unused
        padded = declared(examination)
        if padded is None:
            return
        unused = unused and _is_unused(examination, padded)
        stale.append(padded.stale)
        widths.add(padded.features.shape[1])
        if not found:
            found.append(_answer(probe, examination, padded))

    trail = yield Replay(steps=STEPS, label="append padding", order=order(probe), examine=look)
    if trail.trouble:
        raise NotRun(f"the model could not be called with more padding: {trail.trouble}")
    trail.require(STEPS)
    if not found:
        raise NotRun("no padded sequences were seen when the step was replayed")
    if len(widths) < 2 and not stale[0] and not unused:  # padded to one length always: no other padding ever occurs
        raise NotRun("the batches are all padded to the same length", "not-applicable")
    return found[0].model_copy(update={"told_unused": unused})


def declared(examination: Examination) -> Padded | None:
    """None where no argument tells how long each of the padded sequences is."""
    given = list(tensors((examination.args, examination.kwargs)))
    for features in given:
        if features.dim() != 3 or not features.is_floating_point() or features.shape[1] < SHORTEST:
            continue
        left = _left_behind(features, given)
        if left is not None:
            return left
        run = _zeros_behind(features)
        if int(run.sum()) < FEWEST_PADDED or bool(run.all(1).any()):
            continue
        lengths = (~run).sum(1)
        for told in given:
            whole = not told.is_floating_point() and told.shape == lengths.shape
            if marks(told, run) or (whole and torch.equal(told.to(lengths), lengths)):
                return Padded(features, run, told)
    return None


def _left_behind(features: torch.Tensor, given: list[torch.Tensor]) -> Padded | None:
    """A mask of yes and no marks an end of each row, of several lengths, where features stand that are no constant."""
    rows, length = features.shape[:2]
    for told in given:
        if (
            told.dtype != torch.bool
            or told.numel() != rows * length
            or [s for s in told.shape if s != 1] != [rows, length]
        ):
            continue
        for run in (told.reshape(rows, length), ~told.reshape(rows, length)):
            behind = run.int().flip(1).cumprod(1).flip(1).bool()
            lengths = (~run).sum(1)
            several = len(set(lengths.tolist())) >= FEWEST_LENGTHS and int(lengths.min()) > 0
            if not torch.equal(behind, run) or not several or int(run.sum()) < FEWEST_PADDED:
                continue
            there = features.detach()[run]
            if bool((there != 0).any(-1).double().mean() > MOST_ZEROS) and bool((there != there[:1]).any()):
                return Padded(features, run, told, stale=True)
    return None


def _zeros_behind(features: torch.Tensor) -> torch.Tensor:
    zero = (features.detach() == 0).all(-1).int()
    return zero.flip(1).cumprod(1).flip(1).bool()


def _answer(probe: Probe, examination: Examination, padded: Padded) -> TokenInfluence:
    with _LocalHeard() as heard:
        base = examination.outputs()
    recurrent = [m for m in examination.module.modules() if isinstance(m, nn.RNNBase)]
    heard.names.extend(type(m).__name__ for m in recurrent if m.bidirectional)
    answer = TokenInfluence(
        embedding="",
        shape=tuple(padded.run.shape),
        mask=type(examination.module).__name__,
        padded=int(padded.run.sum()),
        local_layer=heard.names[0] if heard.names else "",
        recurrent=bool(recurrent),
        location=probe.program.location_of(examination.module),
    )
    if heard.names:
        return answer
    length = padded.run.shape[1]
    extra = appended(padded)
    real = as_many(~padded.run, padded.run, 1)
    exchanged = torch.where(real[..., None], padded.features.detach().roll(1, 0), padded.features.detach())
    changed = with_other_padding(examination, padded)
    control = _called(examination, padded, lambda tensor: exchanged if tensor is padded.features else tensor)
    again = examination.outputs()
    noise = max(difference(base, again, padded.run, length), 64 * torch.finfo(torch.float32).eps)
    change = difference(base, changed, padded.run, length + extra)
    return answer.model_copy(
        update={
            "appended": extra,
            "pad_change": 0.0 if change <= noise else change,
            "real_change": difference(base, control, padded.run | real, length),
        }
    )


def appended(padded: Padded) -> int:
    """Positions; none where what stands in the padding is exchanged instead."""
    return 0 if padded.stale else max(1, padded.run.shape[1] // SHARE)


def with_other_padding(examination: Examination, padded: Padded) -> list[torch.Tensor]:
    """The outputs for more padding, or for that of other rows where it is not blank."""
    if padded.stale:
        others = _others(padded)
        return _called(examination, padded, lambda tensor: others if tensor is padded.features else tensor)
    return _called(examination, padded, lambda tensor: _extended(tensor, padded, appended(padded)))


def _called(examination: Examination, padded: Padded, change: Any) -> list[torch.Tensor]:
    args, kwargs = map_tensors(examination.args, change), map_tensors(examination.kwargs, change)
    return examination.outputs(args, kwargs)


def _is_unused(examination: Examination, padded: Padded) -> bool:
    """No output changes by one bit when every row is told the padding of another one."""
    other = padded.told.detach().roll(1, 0)
    if torch.equal(other, padded.told):
        return False
    for training in (False, True):
        args, kwargs = (
            map_tensors(given, lambda tensor: other if tensor is padded.told else tensor)
            for given in (examination.args, examination.kwargs)
        )
        usual, now = examination.outputs(training=training), examination.outputs(args, kwargs, training=training)
        if len(usual) != len(now) or not all(torch.equal(a, b) for a, b in zip(usual, now, strict=True)):
            return False
    return True


def _others(padded: Padded) -> torch.Tensor:
    """The features with what stands in the padding of other rows in the place of what stands in their own."""
    result = padded.features.detach().clone()
    there = result[padded.run]
    result[padded.run] = there.roll(max(1, len(there) // 2), 0)
    return result


def _extended(tensor: torch.Tensor, padded: Padded, extra: int) -> torch.Tensor:
    """The features with more zeros, a mask with more of what it says of padding; lengths stay what they are."""
    if tensor is padded.features:
        return torch.cat([tensor.detach(), tensor.new_zeros(tensor.shape[0], extra, tensor.shape[2])], dim=1)
    if tensor is not padded.told or tensor.dim() < 2:
        return tensor
    axis = next(axis for axis in range(tensor.dim() - 1, -1, -1) if tensor.shape[axis] == padded.run.shape[1])
    more = list(tensor.shape)
    more[axis] = extra
    at_pad = tensor.detach().reshape(-1)[padded.run.reshape(-1)][0]
    return torch.cat([tensor.detach(), at_pad.expand(more)], dim=axis)


def difference(base: list[torch.Tensor], now: list[torch.Tensor], outside: torch.Tensor, length: int) -> float:
    """Largest change of any output relative to its size; of outputs with positions, those `outside` are left out."""
    largest = 0.0
    for before, after in zip(base, now, strict=False):
        if before.dim() >= 2 and before.shape[:2] == outside.shape and after.shape[1] == length:
            before, after = before[~outside], after[:, : outside.shape[1]][~outside]
        if before.shape != after.shape or not before.numel():
            continue
        apart = (after.double() - before.double()).abs().nan_to_num(0.0, 0.0, 0.0)
        scale = max(float(before.double().nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()), 1e-12)
        largest = max(largest, float(apart.max()) / scale)
    return largest


class _LocalHeard(TorchFunctionMode):
    """Names of local operations that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = short_name(func)
        if name.startswith(LOCAL):
            self.names.append(name)
        return func(*args, **(kwargs or {}))
