"""What the file calls torch's functions and classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst
from libcst.helpers import get_full_name_for_node

from auditor.edits.changes import NoEdit
from auditor.edits.parsed import Parsed


def dotted(node: cst.CSTNode) -> str:
    """'self.optimizer' of that expression; '' for anything that is no chain of names."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr.value}"
    return ""


@lru_cache(maxsize=8)
def imported(source: Parsed) -> dict[str, str]:
    """Names that imports outside of functions and classes bind, and what they stand for in full."""
    found: dict[str, str] = {}
    for statement in source.every(cst.Import):
        if _outside(source, statement):
            found.update(_plain(statement))
    for each in source.every(cst.ImportFrom):
        if _outside(source, each) and not each.relative and each.module is not None:
            found.update(_from(each, dotted(each.module)))
    return found


def _outside(source: Parsed, node: cst.CSTNode) -> bool:
    return not any(isinstance(each, cst.FunctionDef | cst.ClassDef) for each in source.above(node))


def _plain(statement: cst.Import) -> Iterator[tuple[str, str]]:
    for alias in statement.names:
        name = get_full_name_for_node(alias.name) or ""
        if alias.asname is not None:
            yield dotted(alias.asname.name), name
        else:  # import torch.nn binds torch
            yield name.partition(".")[0], name.partition(".")[0]


def _from(statement: cst.ImportFrom, module: str) -> Iterator[tuple[str, str]]:
    if isinstance(statement.names, cst.ImportStar):
        return
    for alias in statement.names:
        name = dotted(alias.name)
        yield dotted(alias.asname.name) if alias.asname is not None else name, f"{module}.{name}"


def full_name(source: Parsed, node: cst.CSTNode) -> str:
    """'torch.nn.functional.softmax' of `F.softmax`; '' for what no import explains."""
    first, dot, rest = dotted(node).partition(".")
    known = imported(source).get(first)
    return f"{known}{dot}{rest}" if known else ""


def is_torch(source: Parsed, node: cst.CSTNode, *names: str) -> bool:
    """Whether the expression is one of these names of torch, from whichever of its modules."""
    name = full_name(source, node)
    return name.startswith("torch.") and name.rpartition(".")[2] in names


def name_for(source: Parsed, wanted: str) -> str:
    """How the file can write 'torch.nn.utils.clip_grad_norm_'. Raises NoEdit when it imports nothing of the kind."""
    ways = [
        name + wanted[len(full) :]
        for name, full in imported(source).items()
        if wanted == full or wanted.startswith(full + ".")
    ]
    if not ways:
        raise NoEdit(f"the file does not import {wanted.partition('.')[0]} by name")
    return min(ways, key=len)
