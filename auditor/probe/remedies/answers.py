"""Remedies of what the model answers, whatever it is trained to: measured beside the loop, with the same weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import Remedy
from auditor.probe.batches import map_tensors, tensors
from auditor.probe.callchange import ChangedCalls
from auditor.probe.examination import SEED, Examination
from auditor.probe.experiments.modes import compare_outputs
from auditor.probe.experiments.padded_features import appended, declared, difference, with_other_padding
from auditor.probe.experiments.series_influence import later_values_influence
from auditor.probe.experiments.token_influence import TokenLook
from auditor.probe.modal import modal_modules, role
from auditor.probe.remedies.attention import causal, without_padding
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

DROPOUTS = (
    "dropout",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
)


def evaluation_mode(probe: Probe, remedy: Remedy) -> Treatment:
    """The figure: how far apart two evaluations of the same samples are, in training mode and in evaluation mode."""

    def gauge(examination: Examination) -> tuple[float, float]:
        return _apart(examination, training=True), _apart(examination, training=False)

    return Treatment(metric="change between evaluations", gauge=gauge)


def quiet_evaluation(probe: Probe, remedy: Remedy) -> Treatment:
    def gauge(examination: Examination) -> tuple[float, float]:
        loud = _apart(examination, training=False)
        with ChangedCalls(_without_dropout, None):
            return loud, _apart(examination, training=False)

    return Treatment(metric="change between evaluations", gauge=gauge)


def _without_dropout(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name.rstrip("_") in DROPOUTS:
        return args[0] if args else kwargs["input"]
    if name == "scaled_dot_product_attention":
        rest = {key: value for key, value in kwargs.items() if key != "dropout_p"}
        return function(*args[:4], 0.0, *args[5:], **rest) if len(args) > 4 else function(*args, **rest)
    return NotImplemented


def _apart(examination: Examination, *, training: bool) -> float:
    """RMS difference of the outputs over their spread: other random numbers and, where the model has norm layers, other
    samples beside the first half of the batch."""
    args, kwargs, half = examination.args, examination.kwargs, None
    if any(role(module) == "norm" for module in modal_modules(examination.module)):
        rows = [tensor.shape[0] for tensor in tensors((args, kwargs)) if tensor.dim()]
        if rows and len(set(rows)) == 1 and rows[0] >= 4:
            half = rows[0] // 2
            args, kwargs = (map_tensors(each, lambda t: _doubled(t, half)) for each in (args, kwargs))
    first = examination.outputs(training=training, seed=SEED)
    other = examination.outputs(args, kwargs, training=training, seed=SEED + 1)
    if half is not None:
        whole = {2 * half, 2 * half + 1}
        first, other = ([t[:half] if t.dim() and t.shape[0] in whole else t for t in each] for each in (first, other))
    return compare_outputs(first, other)[0]


def _doubled(tensor: torch.Tensor, half: int | None) -> torch.Tensor:
    """The first half of the rows in place of the others, in reverse, so that batch statistics change."""
    if not tensor.dim() or half is None:
        return tensor
    left = tensor.detach()[:half]
    return torch.cat([left, left[:1].expand(tensor.shape[0] - half, *left.shape[1:])])


def paired_metric(probe: Probe, remedy: Remedy) -> Treatment:
    raise NotRun("the script's own comparisons are worked out in pairs as well, where they are of one number a sample")


def causal_mask(probe: Probe, remedy: Remedy) -> Treatment:
    """The figure: how far outputs move, relative to their size, when tokens behind them are replaced."""

    def influence(examination: Examination) -> float:
        series = later_values_influence(probe, examination)
        found = series if series is not None else TokenLook(probe, examination).later_influence()
        if found is None:
            raise NotRun("the model's outputs could not be told apart by position")
        return found

    def gauge(examination: Examination) -> tuple[float, float]:
        open_eyed = influence(examination)
        with ChangedCalls(causal, None):
            return open_eyed, influence(examination)

    return Treatment(metric="influence of later tokens", gauge=gauge)


def padding_mask(probe: Probe, remedy: Remedy) -> Treatment:
    """The figure: how far outputs move, relative to their size, when the padding changes or grows."""

    def gauge(examination: Examination) -> tuple[float, float]:
        padded = declared(examination)
        if padded is None:
            return _of_tokens(probe, examination)
        runs = {padded.run.shape[1]: padded.run}
        longer = torch.cat([padded.run, padded.run.new_ones(padded.run.shape[0], appended(padded))], dim=1)
        runs[longer.shape[1]] = longer

        def moved() -> float:
            now = with_other_padding(examination, padded)
            return difference(examination.outputs(), now, padded.run, longer.shape[1])

        as_it_is = moved()
        with ChangedCalls(without_padding(runs), None):
            return as_it_is, moved()

    return Treatment(metric="influence of padding", gauge=gauge)


def _of_tokens(probe: Probe, examination: Examination) -> tuple[float, float]:
    look = TokenLook(probe, examination)
    mask, as_it_is = look.mask(), look.padding().get("pad_change")
    if mask is None or as_it_is is None:
        return math.nan, math.nan  # nothing is padded in this batch
    run = mask.run if mask.axis == 1 else mask.run.t()
    whole = torch.zeros_like(run)
    whole[:] = run
    with ChangedCalls(without_padding({run.shape[1]: whole}), None):
        treated = TokenLook(probe, examination).padding().get("pad_change", math.nan)
    return float(as_it_is), float(treated)
