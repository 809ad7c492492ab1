"""Adding a rule is one new file; a new family is one line of pyproject.toml more. There is no list to keep."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from auditor.registry import rules

ROOT = Path(__file__).resolve().parents[2]
RULE = '''
"""NEW999: the loss is exactly 42."""

from __future__ import annotations

from auditor import Finding, Measured, Options, Severity, rule
from auditor.declare import Judgement
from auditor.evidence import Trajectory


class Limits(Options):
    """No limits."""


@rule("NEW999", "answer-everywhere", severity=Severity.NOTE, fix="Ask another question.")
def answer_everywhere(trajectory: Trajectory, limits: Limits) -> Judgement:
    """The loss is 42."""
    hits = sum(loss == 42 for loss in trajectory.losses)
    yield Measured(hits, 0)
    if hits:
        yield Finding(f"the loss was 42 in {hits} steps")
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the checkout, known to Python as an editable install would make it known."""
    copy = tmp_path / "tree"
    for folder in ("auditor", "rules", "reports"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    project = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    facts = copy / "training_auditor-0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: training-auditor\nVersion: 0\n", encoding="utf-8")
    points = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (facts / "entry_points.txt").write_text("\n".join(points), encoding="utf-8")
    return copy


def run(code: str, *places: Path, cwd: Path) -> str:
    """Output of code that sees these places first, and the dependencies."""
    dependencies = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, places), *dependencies])}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


KNOWN = "from auditor.registry import rules; print(*[rule.code for rule in rules()])"
JUDGED = """
from auditor.evidence import Trajectory
from auditor.testing import judge
answer = judge("answer-everywhere", Trajectory(losses=(42.0, 41.0), learning_rates=(0.1, 0.1), grad_norms=(1.0, 1.0)))
print(answer.verdict.outcome, *[finding.message for finding in answer.findings])
"""


@pytest.mark.parametrize("place", ["learning", "novelty"])
def test_a_rule_is_one_file(tree: Path, tmp_path: Path, place: str) -> None:
    before = run(KNOWN, tree, cwd=tmp_path).split()
    family = tree / "rules" / place
    family.mkdir(exist_ok=True)
    (family / "__init__.py").touch()
    (family / "answer_everywhere.py").write_text(RULE.lstrip(), encoding="utf-8")
    assert run(KNOWN, tree, cwd=tmp_path).split() == sorted([*before, "NEW999"])
    assert "fail the loss was 42 in 1 steps" in run(JUDGED, tree, cwd=tmp_path)
    page = run("from auditor.cli import main; main(['explain', 'NEW999'])", tree, cwd=tmp_path)
    assert "answer-everywhere" in page


def test_a_new_family_is_one_line_of_pyproject(tree: Path) -> None:
    """It runs in a checkout without the line, and would be missing from the wheel: test_packaging.py says so."""
    packages = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    families = {path.parent.name for path in (tree / "rules").glob("*/__init__.py")}
    assert {name.rpartition(".")[2] for name in packages if name.startswith("auditor.rules.")} == families


def test_a_third_party_rule_needs_only_an_entry_point(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "their_rules").mkdir(parents=True)
    (other / "their_rules" / "__init__.py").touch()
    (other / "their_rules" / "answer.py").write_text(RULE.lstrip(), encoding="utf-8")
    facts = other / "their_rules-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rules\nVersion: 1\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text("[auditor.rules]\ntheirs = their_rules\n", encoding="utf-8")
    codes = run(KNOWN, tree, other, cwd=tmp_path).split()
    assert "NEW999" in codes
    assert "LOS101" in codes
    assert len(codes) == len(set(codes))


def test_engine_names_no_rule() -> None:
    """No hand-kept list: neither code nor name of a rule is a string of the engine."""
    known = {name for rule in rules() for name in (rule.code, rule.name)}
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in (ROOT / "auditor").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in known
    ]
    assert not wrong
