"""Experiments find what they build on, also when a single rule is selected."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "auditor" / "probe"


def _names(path: Path) -> set[str]:
    """Collectors that a module looks up: `collectors.find("name")`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    finds = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "find"]
    return {str(call.args[0].value) for call in finds if call.args and isinstance(call.args[0], ast.Constant)}


def _value(name: str) -> ast.expr:
    tree = ast.parse((FOLDER / "collect.py").read_text(encoding="utf-8"))
    return next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
    )


def _strings(node: ast.AST) -> set[str]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def test_every_collector_that_an_experiment_asks_is_there() -> None:
    asked = set().union(*(_names(path) for path in (FOLDER / "experiments").glob("*.py")))
    assert asked
    assert asked <= _strings(_value("ALWAYS")) | _strings(_value("BUILDS_ON"))
