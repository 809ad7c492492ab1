"""QUIET_EVALUATION: a dropout function is told the mode of its module."""

from __future__ import annotations

import libcst as cst

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import full_name
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
# Place of `training` among the arguments, after the input and the rate.
_DROPOUTS = {f"torch.nn.functional.{name}": 2 for name in ("dropout", "dropout1d", "dropout2d", "dropout3d")}
_DROPOUTS |= {"torch.nn.functional.alpha_dropout": 2, "torch.nn.functional.feature_alpha_dropout": 2}
_RATE = 4  # place of `dropout_p` among the arguments of attention


@writes(RemedyKind.QUIET_EVALUATION)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`training=self.training`, and `dropout_p=p if self.training else 0.0`; in methods of a module."""
    calls = [call for call in source.calls_at(site.line) if full_name(source, call.func) in (*_DROPOUTS, _ATTENTION)]
    if len(calls) != 1:
        raise NoEdit(f"line {site.line} is not one call of a dropout function")
    [call] = calls
    if not _is_method(source, call):
        raise NoEdit("the call is in no method of a module, which would know its mode")
    if full_name(source, call.func) == _ATTENTION:
        rate = argument(call, "dropout_p", _RATE)
        if rate is None or "training" in source.code(rate.value):
            raise NoEdit("attention drops nothing, or knows the mode already")
        return (source.replaced(rate.value, f"{_plain(source, rate.value)} if self.training else 0.0"),)
    place = _DROPOUTS[full_name(source, call.func)]
    given = argument(call, "training", place)
    if given is None:
        return added(source, call, "training=self.training")
    if source.code(given.value) != "True":
        raise NoEdit("whether it drops is decided elsewhere")
    return (source.replaced(given.value, "self.training"),)


def _plain(source: Parsed, value: cst.BaseExpression) -> str:
    text = source.code(value)
    return text if isinstance(value, cst.Name | cst.Attribute | cst.Float | cst.Integer) else f"({text})"


def _is_method(source: Parsed, call: cst.Call) -> bool:
    around = list(source.above(call))
    method = next((each for each in around if isinstance(each, cst.FunctionDef)), None)
    owner = next((each for each in around if isinstance(each, cst.ClassDef)), None)
    if method is None or owner is None or method not in source.inside(owner, cst.FunctionDef):
        return False
    parameters = method.params.params
    return bool(parameters) and parameters[0].name.value == "self"
