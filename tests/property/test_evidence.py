"""Evidence keeps what it is given, and judging it never fails."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import HOSTILE, PARTS, evidence

from auditor.evidence import Evidence, Run
from auditor.judge import ask, judge
from auditor.registry import rules

RULES = [rule for rule in rules() if rule.function.__module__.startswith("auditor.rules.")]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@settings(max_examples=80)
@given(evidence())
def test_json_gives_the_same_evidence_back(seen: Evidence) -> None:
    text = seen.model_dump_json()
    text.encode("utf-8")
    for again in (Evidence.model_validate_json(text), Evidence.model_validate(json.loads(text))):
        assert repr(again) == repr(seen)  # by text: NaN equals nothing
        assert again.model_dump_json() == text


@pytest.mark.parametrize("name", PARTS)
@settings(max_examples=12)
@given(data=st.data())
def test_every_part_survives_json(name: str, data: st.DataObject) -> None:
    part = data.draw(PARTS[name])
    assert repr(type(part).model_validate(json.loads(part.model_dump_json()))) == repr(part)


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_kept_readable(text: str) -> None:
    run = Run(target=text, args=(text, "b"), notes=("first", text))
    for kept in (run.target, run.args[0], run.notes[1]):
        assert kept == text.encode("utf-8", "backslashreplace").decode()
    assert json.loads(run.model_dump_json())["target"] == run.target


def test_text_without_end_is_shortened_and_says_so() -> None:
    run = Run(target="x" * 1_000_000)
    assert len(run.target) == 30_000
    assert "…(1,000,000 characters)…" in run.target


@settings(max_examples=60)
@given(evidence())
def test_judging_never_errs_and_is_repeatable(seen: Evidence) -> None:
    audit = judge(seen, RULES)
    assert [verdict.reason for verdict in audit.verdicts if verdict.outcome == "error"] == []
    assert len(audit.verdicts) == len(RULES)
    assert judge(Evidence.model_validate_json(seen.model_dump_json()), RULES).to_json() == audit.to_json()


@settings(max_examples=60)
@given(evidence(), st.sampled_from([*PARTS]))
def test_a_missing_part_decides_nothing(seen: Evidence, name: str) -> None:
    without = seen.model_copy(update={name: None})
    for rule in RULES:
        before, after = ask(rule, seen), ask(rule, without)
        need = next((need for need in rule.needs if need.evidence == name), None)
        if need is None:
            assert repr(after) == repr(before)
        elif need.required:
            assert after.findings == ()
            assert after.verdict.outcome in ("inconclusive", "not-applicable")
            assert after.verdict.reason or name in without.absent
