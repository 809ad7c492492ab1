"""Attributes of `self` as plain variables, and methods put where `__init__` calls them: a class read as one scope."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

MOST_DEPTH = 3  # of methods that call methods


class _Plain(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return ast.copy_location(ast.Name(id=f"self.{node.attr}", ctx=node.ctx), node)
        return self.generic_visit(node)


def with_plain_attributes(tree: ast.Module) -> ast.Module:
    """A copy in which `self.x` is one name."""
    plain = _Plain().visit(copy.deepcopy(tree))
    assert isinstance(plain, ast.Module)
    return plain


def constructor(owner: ast.ClassDef) -> list[ast.stmt]:
    """The statements of `__init__`, with those of its own methods that it calls without arguments in their place."""
    methods = {node.name: node for node in owner.body if isinstance(node, ast.FunctionDef)}
    return list(_inlined(methods["__init__"].body, methods, 0)) if "__init__" in methods else []


def _inlined(body: list[ast.stmt], methods: dict[str, ast.FunctionDef], depth: int) -> Iterator[ast.stmt]:
    for statement in body:
        called = statement.value if isinstance(statement, ast.Expr) else None
        name = called.func.id if isinstance(called, ast.Call) and isinstance(called.func, ast.Name) else ""
        method = methods.get(name.removeprefix("self.")) if name.startswith("self.") else None
        if method is None or depth >= MOST_DEPTH or not isinstance(called, ast.Call) or called.args or called.keywords:
            yield statement
            continue
        yield from _inlined(method.body, methods, depth + 1)
