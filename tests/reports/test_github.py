"""GitHub's workflow commands: escaping, order, limits."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from auditor.reports import github
from hypothesis import given
from hypothesis import strategies as st

from auditor.declare import Severity
from auditor.evidence import Location
from auditor.result import Audit

COMMAND = re.compile(r"::(error|warning|notice) ((?:\w+=[^,:\r\n]*,?)+)::([^\r\n]*)")


def read(line: str) -> tuple[str, dict[str, str], str]:
    """As the runner reads it."""
    found = COMMAND.fullmatch(line)
    assert found, line
    properties = dict(each.split("=", 1) for each in found[2].split(","))

    def plain(text: str) -> str:
        return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")

    return (
        found[1],
        {name: plain(value.replace("%3A", ":").replace("%2C", ",")) for name, value in properties.items()},
        plain(found[3]),
    )


def test_every_line_is_one_command(audit: Audit) -> None:
    for line in github.render(audit).splitlines():
        read(line)


def test_rendering_is_deterministic(audit: Audit) -> None:
    assert github.render(audit) == github.render(Audit.model_validate_json(audit.to_json()))


def test_annotations(faulty: Audit) -> None:
    lines = [read(line) for line in github.render(faulty).splitlines()]
    assert [level for level, _, _ in lines] == ["error"] * 3 + ["warning"] * 3 + ["notice"]
    _, properties, message = lines[0]
    assert properties == {"file": "train.py", "line": "26", "title": "OPT101 missing-zero-grad"}
    assert message.splitlines()[0] == faulty.findings[0].message
    assert "optimizer.zero_grad()" in message


def test_nothing_found_says_nothing(healthy: Audit) -> None:
    assert github.render(healthy) == ""


def test_a_crash_is_an_error_at_its_line(crashed: Audit) -> None:
    ((level, properties, message),) = [read(line) for line in github.render(crashed).splitlines()]
    assert (level, properties["file"], properties["line"]) == ("error", "train.py", "24")
    assert "RuntimeError: mat1 and mat2" in message


@pytest.mark.parametrize(("count", "shown", "last"), [(9, 9, "X8"), (10, 10, "X9"), (11, 10, "and more")])
def test_at_most_ten_of_each_level(faulty: Audit, count: int, shown: int, last: str) -> None:
    many = [faulty.findings[0].model_copy(update={"code": f"X{n}"}) for n in range(count)]
    warning = faulty.findings[4]
    lines = github.render(faulty.model_copy(update={"findings": (warning, *many)})).splitlines()
    assert len(lines) == shown + 1
    assert read(lines[-1])[0] == "warning"  # less severe ones come last
    _, properties, message = read(lines[shown - 1])
    assert last in properties["title"]
    if count > 10:
        assert message.startswith("2 more errors")


def test_a_place_outside_of_the_sources_is_left_out(faulty: Audit) -> None:
    away = faulty.findings[0].model_copy(update={"location": Location(file="/somewhere/else/x.py", line=3)})
    shown = github.render(faulty.model_copy(update={"findings": (away,), "suppressed": ()}))
    assert read(shown.splitlines()[0])[1] == {"title": "OPT101 missing-zero-grad"}
    assert "/somewhere" not in shown


@given(st.text(max_size=40), st.sampled_from(Severity))
def test_any_text_is_one_command(samples: ModuleType, audits: dict[str, Audit], text: str, severity: Severity) -> None:
    evil = samples.finding(f"C{text}", f"r{text}", "f", severity, f"m {text}", fix=f"x {text}").model_copy(
        update={"location": Location(file=f"a{text}.py", line=1)}
    )
    (line,) = github.render(audits["healthy"].model_copy(update={"findings": (evil,)})).splitlines()
    _, properties, message = read(line)
    assert set(properties) <= {"file", "line", "title"}
    assert message.startswith("m")


@pytest.mark.parametrize("text", ["50 %0A::error::x", "a\r\n::warning::b", "a::b,c=d", "100%25"])
def test_escapes_are_undone_by_the_runner(faulty: Audit, text: str) -> None:
    evil = faulty.findings[0].model_copy(update={"message": text})
    (line,) = github.render(faulty.model_copy(update={"findings": (evil,)})).splitlines()
    assert read(line)[2].splitlines()[0] == " ".join(text.split())
