"""Calls of torch's KL divergence whose input is a softmax by the source: it takes log-probabilities."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.evidence import Location, MisfitCall
from auditor.static.names import Names, assigned, scopes, statements

_SOFTMAX = ("torch.nn.functional.softmax", "torch.softmax", "torch.nn.functional.gumbel_softmax")
_CHOICES = (ast.If, ast.Try, ast.Match)


def softmax_divergences(path: str, tree: ast.Module, names: Names) -> Iterator[MisfitCall]:
    criteria = _criteria(tree, names)
    for body in scopes(tree):
        bound = _bound_once(body)
        for statement in statements(body):
            for call in _own_calls(statement):
                name = names.dotted(call.func)
                if name != "torch.nn.functional.kl_div" and name not in criteria:
                    continue
                given = call.args[0] if call.args else _keyword(call, "input")
                if isinstance(given, ast.Name):
                    value = bound.get(given.id)
                    given = value if value is not None and value.lineno < call.lineno else None
                if given is not None and _is_softmax(given, names):
                    yield MisfitCall(text=ast.unparse(given)[:80], location=Location(file=path, line=call.lineno))


def _criteria(tree: ast.Module, names: Names) -> set[str]:
    """Variables and attributes that are an nn.KLDivLoss wherever the file assigns them."""
    values: dict[str, list[bool]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            value = getattr(node, "value", None)
            built = isinstance(value, ast.Call) and names.dotted(value.func) == "torch.nn.KLDivLoss"
            for name in assigned(node):
                values.setdefault(name, []).append(built and isinstance(node, ast.Assign | ast.AnnAssign))
    return {name for name, kinds in values.items() if all(kinds)}


def _bound_once(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """Values of the variables that one statement of the scope alone binds, and no matter what."""
    values: dict[str, list[ast.expr | None]] = {}
    optional = {
        id(each) for choice in statements(body) if isinstance(choice, _CHOICES) for each in statements([choice])
    }
    for statement in statements(body):
        plain = isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        plain = plain and id(statement) not in optional
        for name in assigned(statement):
            value = statement.value if isinstance(statement, ast.Assign) and plain else None
            values.setdefault(name, []).append(value)
    return {name: found[0] for name, found in values.items() if len(found) == 1 and found[0] is not None}


def _own_calls(statement: ast.stmt) -> Iterator[ast.Call]:
    """Calls in the statement's own expressions, not in the statements that it contains."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield from (node for node in ast.walk(child) if isinstance(node, ast.Call))


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def _is_softmax(node: ast.expr, names: Names) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if names.dotted(node.func) in _SOFTMAX:
        return True
    if isinstance(node.func, ast.Call):  # nn.Softmax(dim=1)(x)
        return names.dotted(node.func.func) == "torch.nn.Softmax"
    if not isinstance(node.func, ast.Attribute) or node.func.attr != "softmax":
        return False
    owner = names.dotted(node.func.value)  # '' for an expression: `net(x).softmax(1)`
    tensor = owner != "self" and not names.is_module(owner.partition(".")[0])
    given = [*node.args, *(word.value for word in node.keywords if word.arg == "dim")]
    return tensor and len(given) == 1 and isinstance(given[0], ast.Constant | ast.UnaryOp)
