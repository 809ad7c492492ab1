"""RATE: the learning rate times a factor, where the file defines it."""

from __future__ import annotations

import libcst as cst

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.definitions import literal_behind
from auditor.edits.imports import dotted
from auditor.edits.literals import scaled
from auditor.edits.optimizers import constructed_at, every_group_has_its_own, group_settings, kind_of
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

# Rates of optimizers that are given none, where all versions of torch agree.
_DEFAULTS = {"Adam": "1e-3", "AdamW": "1e-3", "RAdam": "1e-3", "RMSprop": "1e-2", "Adagrad": "1e-2", "NAdam": "2e-3"}
_RATE = 1  # place among the arguments of every optimizer of torch
_SET_ELSEWHERE = ("OneCycleLR", "CyclicLR")  # they have their own rates and overwrite the optimizer's


@writes(RemedyKind.RATE)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """The literal behind the rate, and those of parameter groups that have their own."""
    factor = remedy.amount
    if not factor or factor <= 0 or factor == 1:
        raise NoEdit("the factor is not known")
    call = constructed_at(source, site.line)
    _check_nothing_else_sets_it(source)
    groups = [literal_behind(source, value) for value in group_settings(source, call, "lr")]
    rate = argument(call, "lr", _RATE if kind_of(source, call) else None)
    own: tuple[Change, ...] = ()
    if rate is None and not every_group_has_its_own(call, len(groups)):
        default = _DEFAULTS.get(kind_of(source, call))
        if default is None:
            raise NoEdit("the optimizer is given no rate")
        own = added(source, call, f"lr={scaled(default, factor)}")
    elif rate is not None:
        literal = literal_behind(source, rate.value)
        own = (source.replaced(literal, scaled(literal.value, factor)),)
    return (*own, *(source.replaced(literal, scaled(literal.value, factor)) for literal in groups))


def _check_nothing_else_sets_it(source: Parsed) -> None:
    for call in source.every(cst.Call):
        if (name := dotted(call.func).rpartition(".")[2]) in _SET_ELSEWHERE:
            raise NoEdit(f"{name} sets the rate as well")
    for target in source.every(cst.AssignTarget):
        text = source.code(target)
        if text.endswith(('["lr"]', "['lr']")) and "group" in text:
            raise NoEdit("the rate is set elsewhere as well")
