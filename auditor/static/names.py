"""What names in a module mean: imports looked through, so that `nn.Module` and `Module` are one thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
LOOPS = (ast.For, ast.AsyncFor, ast.While)


class Names:
    """The imports of one module, wherever they stand in it."""

    def __init__(self, tree: ast.AST) -> None:
        self._imported: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self._imported[name] = alias.name if alias.asname else name
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self._imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def is_module(self, name: str) -> bool:
        """The name was imported: it holds no data."""
        return name in self._imported

    def dotted(self, node: ast.AST | None) -> str:
        """'torch.nn.Module' for the expression `nn.Module`; '' for what is no plain dotted name."""
        if isinstance(node, ast.Name):
            return self._imported.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement of one scope in the order of the source, compound ones before what they contain."""
    for statement in body:
        yield statement
        if isinstance(statement, SCOPES):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from statements(handler.body)
        for case in getattr(statement, "cases", []):
            yield from statements(case.body)


def scopes(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """The bodies of the module and of every function in it."""
    yield tree.body
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.body


def used(node: ast.AST) -> set[str]:
    """Names that an expression reads, calls' own names included."""
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load)}


def assigned(statement: ast.stmt) -> list[str]:
    """Variables and attributes that a statement binds, as written."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign | ast.For | ast.AsyncFor):
        targets = [statement.target]
    elif isinstance(statement, ast.With | ast.AsyncWith):
        targets = [item.optional_vars for item in statement.items if item.optional_vars is not None]
    else:
        return []
    flat = [part for target in targets for part in _parts(target)]
    return [ast.unparse(part) for part in flat if isinstance(part, ast.Name | ast.Attribute | ast.Subscript)]


def _parts(target: ast.expr) -> list[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        return [part for item in target.elts for part in _parts(item)]
    return [target.value] if isinstance(target, ast.Starred) else [target]
