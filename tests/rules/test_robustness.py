"""No rule fails by itself, whatever valid evidence it gets: NaN, infinities, empty tuples, numbers that disagree."""

from __future__ import annotations

import math
import types
import typing
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditor.declare import Rule
from auditor.evidence import Evidence, Frozen, Location, part_types
from auditor.judge import ask
from auditor.registry import rules
from auditor.testing import evidence

OWN = [rule for rule in rules() if rule.function.__module__.startswith("auditor.rules.")]

FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 2.3, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324]),
    st.floats(-10, 10),
    st.floats(),
)
WORDS = st.sampled_from(["", "a", "train_loader", "softmax", "SoftmaxBackward0", "cross_entropy", "naïve 层"])
SERIES = st.one_of(
    st.lists(FLOATS, max_size=4),
    st.lists(FLOATS, min_size=10, max_size=40),
    # Smooth series reach deeper into the rules than noise does.
    st.builds(
        lambda start, slope, n, tail: [start * slope**i for i in range(n)] + tail,
        st.sampled_from([0.01, 2.3, -1.0, 1e200]),
        st.sampled_from([0.9, 1.0, 1.05, 1.5]),
        st.integers(0, 60),
        st.lists(FLOATS, max_size=3),
    ),
).map(tuple)


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(strategy(option) for option in options))
    if origin is Literal:
        return st.sampled_from(options)
    if origin is tuple:
        if options[0] is float:
            return SERIES
        if options[-1] is Ellipsis:
            return st.lists(strategy(options[0]), max_size=3).map(tuple)
        return st.tuples(*(strategy(option) for option in options))
    if hint is type(None):
        return st.none()
    if hint is float:
        return FLOATS
    if hint is int:
        return st.one_of(st.integers(0, 3), st.integers(0, 5000), st.integers(10**6, 10**12))
    if hint is bool:
        return st.booleans()
    if hint is str:
        return WORDS
    if hint is Location:
        return st.builds(Location, file=WORDS, line=st.integers(1, 500))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and issubclass(hint, Frozen):
        return model(hint)
    raise AssertionError(f"no strategy for {hint}")


def model(kind: type[Frozen]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: strategy(hints[name]) for name in kind.model_fields})


STRATEGIES = {name: model(part) for name, part in part_types().items() if name != "run"}


@pytest.mark.parametrize("rule", OWN, ids=lambda rule: rule.name)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_rule_ever_errs(rule: Rule, data: st.DataObject):
    parts = []
    for need in rule.needs:
        if need.evidence == "run":
            continue  # always there, from evidence()
        if need.required or data.draw(st.booleans()):
            parts.append(data.draw(STRATEGIES[need.evidence]))
    answer = ask(rule, evidence(*parts))
    assert answer.verdict.outcome != "error", answer.verdict.reason
    assert answer.verdict.reason or answer.verdict.outcome == "fail"
    assert (answer.verdict.outcome == "fail") == bool(answer.findings)
    for finding in answer.findings:
        assert finding.message
        assert not finding.message.endswith(".")
        assert finding.limit is not None
        assert finding.measured is not None


@pytest.mark.parametrize("rule", OWN, ids=lambda rule: rule.name)
def test_missing_evidence_is_never_a_failure(rule: Rule):
    answer = ask(rule, evidence())
    some_required = any(need.required for need in rule.needs if need.evidence != "run")
    assert answer.verdict.outcome in (("inconclusive",) if some_required else ("inconclusive", "not-applicable"))


def test_evidence_survives_its_json():
    from auditor.evidence import Nonfinite

    built = evidence(Nonfinite(steps_checked=1, losses_before=(math.nan, math.inf)))
    again = Evidence.model_validate_json(built.model_dump_json())
    assert math.isnan(again.nonfinite.losses_before[0])
