"""The probe reads a module's tensors where they are held: an attribute may be computed, which may have effects."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROBE = sorted((ROOT / "auditor" / "probe").rglob("*.py"))
COMPUTED = {"weight", "bias"}  # what torch.nn.utils.parametrize replaces by a property


def reads(path: Path) -> list[int]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        named = node.attr if isinstance(node, ast.Attribute) else ""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            named = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
        if named in COMPUTED:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", PROBE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_weight_is_read_by_attribute(path: Path) -> None:
    assert not reads(path), "see auditor/probe/held.py"
