"""Every rule says on what it must not fire, and which healthy program shows that (traps.toml)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from auditor.registry import rules

FIXTURES = Path(__file__).parents[2] / "fixtures"
TABLE = tomllib.loads(Path(__file__).with_name("traps.toml").read_text(encoding="utf-8"))
HEALTHY = {f"healthy/{path.name}" for path in (FIXTURES / "healthy").glob("*.py")}
BUILT_IN = [rule.name for rule in rules() if rule.function.__module__.startswith("auditor.rules.")]


def named() -> list[str]:
    return [trap["fixture"] for entry in TABLE["rules"].values() for trap in entry["traps"] if "fixture" in trap]


def test_every_rule_is_in_the_table_and_no_other() -> None:
    assert set(TABLE["rules"]) == set(BUILT_IN)


@pytest.mark.parametrize("rule", sorted(TABLE["rules"]))
def test_each_trap_has_a_program_or_says_why_not(rule: str) -> None:
    traps = TABLE["rules"][rule]["traps"]
    assert traps
    for trap in traps:
        assert trap["trap"]
        assert len({"fixture", "why"} & set(trap)) == 1, trap
        assert set(trap) <= {"trap", "fixture", "why"}, trap
    assert any("fixture" in trap for trap in traps)
    assert len({trap["trap"] for trap in traps}) == len(traps)


def test_the_programs_exist_and_are_not_the_faulty_ones() -> None:
    for name in named():
        assert (FIXTURES / name).is_file(), name
        assert name in HEALTHY or Path(name).name.startswith("good"), name


def test_every_healthy_program_stands_for_a_trap_or_is_plain() -> None:
    plain = set(TABLE["plain"])
    assert plain <= HEALTHY
    assert HEALTHY - set(named()) == plain
