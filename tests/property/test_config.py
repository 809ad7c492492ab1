"""Any settings can be written to a file and read back; any file that cannot be used is refused in one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditor.config import Ignore, Settings
from auditor.configfile import load
from auditor.declare import Severity
from auditor.errors import AuditError
from auditor.registry import rules

RULES = [rule for rule in rules() if rule.function.__module__.startswith("auditor.rules.")]
NAMES = st.sampled_from([name for rule in RULES for name in (rule.name, rule.code)])

TEXT = st.text(max_size=20)
SETTINGS = st.builds(
    Settings,
    steps=st.integers(1, 10**9),
    max_time=st.floats(1e-6, 1e9),
    select=st.lists(st.one_of(NAMES, st.just("ALL")), max_size=3).map(tuple),
    ignore=st.lists(st.builds(Ignore, rule=NAMES, reason=TEXT.filter(str.strip)), max_size=3).map(tuple),
    fail_on=st.sampled_from([None, *Severity]),
)
ANYTHING = st.recursive(
    st.one_of(TEXT, st.integers(), st.floats(), st.booleans(), NAMES, st.just("5m"), st.sampled_from([10**400, -1])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
KEYS = st.one_of(st.sampled_from(["steps", "max-time", "select", "ignore", "fail-on", "limits", "max_time"]), TEXT)


def toml(value: Any) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return repr(value)


def document(table: dict[str, Any]) -> str:
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items())


def refused_in_one_sentence(folder: Path, file: Path) -> str:
    """What `load` said, '' when it took the file. Anything but AuditError comes through."""
    try:
        load(folder, RULES, config=file)
    except AuditError as why:
        said = str(why)
        assert said.isprintable(), said
        assert len(said) < 1_000
        assert file.name in said
        return said
    return ""


@settings(max_examples=100)
@given(wanted=SETTINGS, name=st.sampled_from(["auditor.toml", "pyproject.toml"]))
def test_settings_survive_their_file(tmp_path: Path, wanted: Settings, name: str) -> None:
    table = wanted.model_dump(mode="json", by_alias=True, exclude={"limits"})
    table["fail-on"] = table["fail-on"] or "never"
    head = "[tool.auditor]\n" if name == "pyproject.toml" else ""
    (tmp_path / name).write_text(head + document(table), encoding="utf-8")
    assert load(tmp_path, RULES, config=tmp_path / name) == wanted


@settings(max_examples=200)
@given(table=st.dictionaries(KEYS, ANYTHING, max_size=3))
def test_any_values_are_taken_or_refused(tmp_path: Path, table: dict[str, Any]) -> None:
    file = tmp_path / "auditor.toml"
    file.write_text(document(table), encoding="utf-8")
    refused_in_one_sentence(tmp_path, file)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@settings(max_examples=15)
@given(value=ANYTHING, key=TEXT)
def test_any_limit_is_taken_or_refused(tmp_path: Path, rule: Any, value: Any, key: str) -> None:
    file = tmp_path / "auditor.toml"
    known = [field.alias or name for name, field in rule.limits.model_fields.items()]
    for name in (*known, key):
        file.write_text(f"[limits.{rule.name}]\n{document({name: value})}", encoding="utf-8")
        said = refused_in_one_sentence(tmp_path, file)
        assert said or name in known


@settings(max_examples=150)
@given(
    data=st.one_of(st.binary(max_size=60), st.text(alphabet="[]{}=\"'.#\n\\x,1ausetp-", max_size=60).map(str.encode))
)
@example(b"x = " + b"[" * 20_000)
@example(b"x = " + b"{a=" * 20_000)
@example(b"x = " + b"9" * 20_000)
@example(b"[" + b"a." * 20_000 + b"a]")
@example(b"steps = 1\n[" + b" " * 200_000 + b"\nbroken = ")
@example(b"unknown = 1\n" + b" " * 200_000)
@example(b'"\\u001b[31m" = 1')
@example(b"x" * 2_000_000)
@example(b"d = 2024-13-45")
def test_no_bytes_get_through(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "auditor.toml"
    file.write_bytes(data)
    refused_in_one_sentence(tmp_path, file)
