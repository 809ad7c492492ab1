"""Calls of dropout functions: which module's code makes them, and how it says whether to drop."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from auditor.evidence import Location
from auditor.probe.locate import user_location

ATTENTION = "scaled_dot_product_attention"
_TRAINING_PLACE = 2  # of `training` among the arguments of torch.nn.functional.dropout


@dataclass
class DropoutHeard:
    """One call, and how many more there were of its kind."""

    function: str
    p: float
    active: bool  # it drops elements now
    owner: nn.Module | None
    location: Location | None
    calls: int = 0
    active_calls: int = 0

    @property
    def given(self) -> str:
        if self.function == ATTENTION:
            return "rate"
        if isinstance(self.owner, _DropoutNd):
            return "module"
        return training_given(self.location.file, self.location.line) if self.location else "expression"


def heard(function: str, p: float, active: bool, depth: int = 2) -> DropoutHeard:
    """Describe the call that is `depth` frames up."""
    return DropoutHeard(function, p, active, calling_module(sys._getframe(depth)), user_location())


def calling_module(frame: FrameType | None) -> nn.Module | None:
    """The module whose method is running, seen from a frame; torch's own functions in between are passed over."""
    for _ in range(8):
        if frame is None:
            return None
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(owner, nn.Module):
            return owner
        frame = frame.f_back
    return None


def is_users_dropout(call: DropoutHeard, models: Iterable[nn.Module]) -> bool:
    """True for a call that says something about the user's code: made by a module that is in evaluation mode, or by a
    Dropout module that belongs to no model, because it was made in the forward. A Dropout module of the model that is
    in training mode by itself was switched on purpose."""
    if call.p <= 0 or call.owner is None:
        return False
    if not isinstance(call.owner, _DropoutNd):
        return not call.owner.training
    if not call.owner.training:
        return False
    return not any(each is call.owner for model in models for each in model.modules())


@lru_cache(maxsize=1024)
def training_given(file: str, line: int) -> str:
    """How the dropout call in a line of source gives its `training`: 'default', 'literal' or 'expression'."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return "expression"
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and "dropout" in ast.unparse(node.func).lower()
    ]
    if not calls:
        return "expression"
    call = min(calls, key=lambda node: (node.end_lineno or node.lineno) - node.lineno)
    value = next((keyword.value for keyword in call.keywords if keyword.arg == "training"), None)
    if value is None and len(call.args) > _TRAINING_PLACE:
        value = call.args[_TRAINING_PLACE]
    if value is None:
        unknown = any(keyword.arg is None for keyword in call.keywords) or any(
            isinstance(argument, ast.Starred) for argument in call.args
        )
        return "expression" if unknown else "default"
    return "literal" if isinstance(value, ast.Constant) else "expression"
