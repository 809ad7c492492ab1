"""Every rule carries a complete page, documented limits and sound declarations."""

from __future__ import annotations

import inspect
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from auditor.declare import NoLimits, Rule
from auditor.registry import rules

SECTIONS = ["What it does", "Why is it bad?", "How it is measured", "When it may be wrong", "How to fix"]
PREFIXES = {
    "init": "INI",
    "data": "DAT",
    "activations": "ACT",
    "gradients": "GRD",
    "learning": "FIT",
    "leakage": "LEK",
    "loss": "LOS",
    "optimizer": "OPT",
    "evaluation": "EVL",
    "sequence": "SEQ",
    "model": "MOD",
    "precision": "PRC",
    "reproducibility": "REP",
    "efficiency": "EFF",
    "distributed": "DST",
}
FOLDER = Path(__file__).resolve().parents[2] / "rules"

OWN = [rule for rule in rules() if rule.function.__module__.startswith("auditor.rules.")]
every_rule = pytest.mark.parametrize("rule", OWN, ids=lambda rule: rule.name)


def test_the_catalogue_is_complete():
    assert {rule.name for rule in OWN} >= {
        "symmetric-init",
        "initial-loss",
        "uncentered-inputs",
        "class-imbalance",
        "dead-units",
        "exploding-gradients",
        "nonfinite-loss",
        "cannot-overfit",
        "lr-too-high",
        "test-set-leakage",
        "double-softmax",
        "missing-zero-grad",
    }


@every_rule
def test_page_has_the_sections_in_order(rule: Rule):
    headings = re.findall(r"^## (.+)$", rule.page, re.MULTILINE)
    assert headings == SECTIONS
    for heading in SECTIONS:
        assert len(rule.section(heading)) > 60, heading


@every_rule
def test_page_begins_with_a_title_of_one_line(rule: Rule):
    title, blank = rule.page.splitlines()[:2]
    assert blank == ""
    assert title.endswith(".")
    assert 20 < len(title) <= 110
    assert "`" not in title


@every_rule
def test_page_shows_the_fix_in_code(rule: Rule):
    fix = rule.section("How to fix")
    assert "```python" in fix
    assert fix.count("```") % 2 == 0
    assert "`" in rule.fix, "the short fix holds a line of code"
    for block in re.findall(r"```python\n(.*?)```", fix, re.DOTALL):
        compile(block.replace("...\n", "pass\n"), rule.name, "exec")


@every_rule
def test_page_names_only_limits_that_exist(rule: Rule):
    fields = rule.limits.model_fields
    known = {field.alias or name for name, field in fields.items()}
    named = set(re.findall(r"`((?:max|min|extreme|chance|still)[-_][a-z-_]+)`", rule.page))
    assert named <= known


@every_rule
def test_code_family_and_file_agree(rule: Rule):
    assert re.fullmatch(r"[A-Z]{3}\d{3}", rule.code)
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z]+)*", rule.name)
    assert rule.code.startswith(PREFIXES[rule.family])
    source = Path(inspect.getsourcefile(rule.function) or "")
    assert source.stem == rule.name.replace("-", "_") == rule.function.__name__
    assert source.parent.name == rule.family
    first = source.read_text("utf-8").splitlines()[0]
    assert re.fullmatch(rf'"""{rule.code}: .+\."""', first)


@every_rule
def test_limits_are_documented_and_bounded(rule: Rule):
    if rule.limits is NoLimits:
        return
    rule.limits()
    for name, field in rule.limits.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert len(field.description) > 15, name
        assert not field.is_required(), name
        assert field.metadata, f"{name} has no bound"


@every_rule
def test_references_are_https(rule: Rule):
    assert rule.references
    for reference in rule.references:
        assert reference.startswith("https://"), reference
        assert " " not in reference


@every_rule
def test_explains_names_rules_that_exist(rule: Rule):
    assert set(rule.explains) <= {other.name for other in OWN}
    assert rule.name not in rule.explains


def test_explaining_goes_in_no_circle():
    graph = {rule.name: set(rule.explains) for rule in OWN}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("cannot-overfit") < order.index("lr-too-high") < order.index("uncentered-inputs")


@every_rule
def test_a_file_holds_one_rule(rule: Rule):
    module = sys.modules[rule.function.__module__]
    assert [value for value in vars(module).values() if isinstance(value, Rule)] == [rule]


def test_readme_is_the_rendered_catalogue():
    # Fetched by name: auditor.rules is reached through the package's path only.
    render = sys.modules["auditor.rules.catalogue"].render
    assert (FOLDER / "README.md").read_text("utf-8") == render()


def test_modules_import_neither_scipy_nor_torch(tmp_path):
    import subprocess

    code = (
        "import sys; from auditor.registry import rules; rules();"
        "print([m for m in ('torch', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
