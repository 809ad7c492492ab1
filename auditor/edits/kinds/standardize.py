"""STANDARDIZE_INPUTS: a Normalize with the measured constants in torchvision's transforms, or a table standardized."""

from __future__ import annotations

import math
from collections.abc import Sequence

import libcst as cst

from auditor.edits.arguments import argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.literals import number
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.edits.tables import standardized
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.STANDARDIZE_INPUTS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`mean` and `std` are those of what the model is given: behind a Normalize that is there already.

    Of a table, `subject` is "table", and its numbers are taken where it is split.
    """
    if remedy.subject == "table":
        return standardized(source, site.line)
    if not remedy.mean or len(remedy.mean) != len(remedy.std):
        raise NoEdit("means and deviations were not measured")
    if not all(map(math.isfinite, (*remedy.mean, *remedy.std))) or min(remedy.std) <= 0:
        raise NoEdit("the measured constants cannot be used")
    compose = _compose(source, site.line)
    transforms = _transforms(compose)
    unit = [place for place, each in enumerate(transforms) if _gives_unit_range(source, each)]
    present = [each for each in transforms if _name(source, each) == "Normalize"]
    if len(unit) != 1 or len(present) > 1:
        raise NoEdit("the transforms do not make a tensor from 0 to 1 in one place")
    if present:
        return _renewed(source, present[0], remedy)
    if unit[0] != len(transforms) - 1:
        raise NoEdit("other transforms follow the one that makes the tensor")
    _check_unit_range(remedy.mean)
    last = transforms[-1]
    assert isinstance(last, cst.Call)
    owner, dot, _ = source.code(last.func).rpartition(".")
    if not dot and "Normalize" not in {each.value for each in source.every(cst.Name)}:
        raise NoEdit("the file does not import Normalize")
    text = f"{owner}{dot}Normalize({_numbers(remedy.mean)}, {_numbers(remedy.std)})"
    return _behind(source, compose, text)


def _name(source: Parsed, node: cst.BaseExpression) -> str:
    """'ToTensor' of a call of torchvision's."""
    name = full_name(source, node.func) if isinstance(node, cst.Call) else ""
    return name.rpartition(".")[2] if name.startswith("torchvision.transforms") else ""


def _compose(source: Parsed, line: int) -> cst.Call:
    """The composition around the line, or the only one of the file."""
    known = [call for call in source.every(cst.Call) if _name(source, call) == "Compose"]
    found = [call for call in source.calls_around(line) if call in known] or known
    if len(found) != 1:
        raise NoEdit("it is not certain which transforms the inputs pass")
    return found[0]


def _transforms(compose: cst.Call) -> list[cst.BaseExpression]:
    given = argument(compose, "transforms", 0)
    if given is None or not isinstance(given.value, cst.List):
        raise NoEdit("the transforms are not written as a list")
    return [element.value for element in given.value.elements]


def _gives_unit_range(source: Parsed, node: cst.BaseExpression) -> bool:
    if not isinstance(node, cst.Call):
        return False
    scaled = [arg for arg in node.args if arg.keyword is not None and arg.keyword.value == "scale"]
    name = _name(source, node)
    return name == "ToTensor" or (name == "ToDtype" and bool(scaled) and dotted(scaled[0].value) == "True")


def _check_unit_range(means: Sequence[float]) -> None:
    if not all(0 <= mean <= 1 for mean in means):  # the script rescales further on
        raise NoEdit("the inputs are rescaled behind the transforms")


def _renewed(source: Parsed, normalize: cst.BaseExpression, remedy: Remedy) -> tuple[Change, ...]:
    """The constants that make up for those which are there: what they leave over is measured."""
    assert isinstance(normalize, cst.Call)
    mean, std = argument(normalize, "mean", 0), argument(normalize, "std", 1)
    if mean is None or std is None:
        raise NoEdit("the constants of Normalize are not written in it")
    old_mean, old_std = _constants(source, mean, remedy), _constants(source, std, remedy)
    if all(abs(value) < 0.01 for value in remedy.mean) and all(abs(value - 1) < 0.01 for value in remedy.std):
        raise NoEdit("the inputs are standardized already")
    means = [m0 + s0 * value for m0, s0, value in zip(old_mean, old_std, remedy.mean, strict=True)]
    _check_unit_range(means)
    deviations = [s0 * value for s0, value in zip(old_std, remedy.std, strict=True)]
    return source.replaced(mean.value, _numbers(means)), source.replaced(std.value, _numbers(deviations))


def _constants(source: Parsed, arg: cst.Arg, remedy: Remedy) -> list[float]:
    """The numbers of a list or tuple, or one number for all channels."""
    try:
        elements = arg.value.elements if isinstance(arg.value, cst.List | cst.Tuple) else None
        texts = [source.code(each.value) for each in elements] if elements is not None else [source.code(arg.value)]
        values = [float(text) for text in texts]
    except ValueError:
        raise NoEdit("the constants of Normalize are not plain numbers") from None
    if len(values) == 1:
        values *= len(remedy.mean)
    if len(values) != len(remedy.mean):
        raise NoEdit("Normalize has another number of channels than was measured")
    return values


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(number(value) for value in values)}]"


def _behind(source: Parsed, compose: cst.Call, text: str) -> tuple[Change, ...]:
    """One more element of the list, on a line of its own where the last one has that."""
    given = argument(compose, "transforms", 0)
    assert given is not None
    assert isinstance(given.value, cst.List)
    last = given.value.elements[-1]
    comma = last.comma if isinstance(last.comma, cst.Comma) else None
    line, last_line = source.lines(last.value)
    end = source.span(comma or last.value)[1]
    indent = source.text[source.line_span(line)[0] : source.span(last.value)[0]]
    line_end = source.line_span(last_line)[0] + len(source.line_text(last_line))
    rest = source.text[end:line_end].strip()
    if indent.strip() or (rest and not rest.startswith("#")):
        return (Change(end, end, f" {text}" if comma else f", {text}"),)
    below = source.line_break(last_line) + indent + text + ("," if comma else "")
    return (Change(line_end, line_end, below),) if comma else (Change(end, end, ","), Change(line_end, line_end, below))
