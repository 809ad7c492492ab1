"""Strategies for everything that the frozen models allow, made from the models themselves."""

from __future__ import annotations

import math
import types
import typing
from enum import Enum
from typing import Any, Literal

from hypothesis import strategies as st

from auditor.evidence import Absence, Evidence, Frozen, Location, Run, part_types
from auditor.result import Audit, ReportedFinding

# What scripts and their data may put into a name, and what it must not do anywhere.
HOSTILE = (
    "</script><img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", '" onfocus="alert(1)" autofocus="',
    "--></style></title>]]>", "</code></pre></td></details>", "`a` | b\n|---|\n# h", "[x](javascript:alert(1))",
    "![i](https://example.com/i.png)", "@octocat @org/team #1 GH-2 www.example.com", "```\n~~~", "$x$ **b** _i_",
    "\x1b[31m\x1b]0;t\x07\x1b]8;;http://e\x1b\\", "\x9b2J\x00\x7f\r\b", "\u202egnp\u2066\ufeff", "\udcff\ud800",
    "{{ 7*7 }}", "a\u0300\u0301\u0302\u0303\u0304\u0305", "\U000e0041\U0010ffff", "层" * 90, "N" * 700, "\\", "1. ",
    "    code",
)  # fmt: skip
WORDS = ("", "a", "train_loader", "features.0", "softmax", "SoftmaxBackward0", "cross_entropy", "train.py", "SGD")
TEXT = st.one_of(st.sampled_from(WORDS), st.sampled_from(HOSTILE), st.text(max_size=8))
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 2.3, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324]),
    st.floats(-10, 10),
    st.floats(),
)
INTEGERS = st.one_of(st.integers(0, 3), st.integers(0, 5000), st.integers(-5, 2**62))
SERIES = st.one_of(
    st.lists(FLOATS, max_size=4).map(tuple),
    st.builds(
        lambda start, slope, n, last: (*(start * slope**i for i in range(n)), *last),
        st.sampled_from([0.01, 2.3, -1.0, 1e200]),
        st.sampled_from([0.9, 1.0, 1.05, 1.5]),
        st.sampled_from([2, 12, 40, 300]),
        st.lists(FLOATS, max_size=2),
    ),
)


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Values for one annotation."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(strategy(option) for option in options))
    if origin is Literal:
        return st.sampled_from(options)
    if origin is dict:
        return st.dictionaries(strategy(options[0]), strategy(options[1]), max_size=2)
    if origin is tuple:
        if options[0] is float:
            return SERIES
        if options[-1] is Ellipsis:
            return st.lists(strategy(options[0]), max_size=3).map(tuple)
        return st.tuples(*(strategy(option) for option in options))
    simple = {type(None): st.none(), float: FLOATS, int: INTEGERS, bool: st.booleans(), str: TEXT}
    if hint in simple:
        return simple[hint]
    if hint is Location:
        return st.builds(Location, file=TEXT, line=st.integers(1, 500), function=TEXT)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and issubclass(hint, Frozen):
        return model(hint)
    raise AssertionError(f"no strategy for {hint}")


def model(kind: type[Frozen], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Instances of one model with any value in every field."""
    hints = typing.get_type_hints(kind)
    return st.builds(
        kind, **{name: given[name] if name in given else strategy(hints[name]) for name in kind.model_fields}
    )


PARTS = {name: model(part) for name, part in part_types().items() if name != "run"}
ABSENCES = st.dictionaries(st.sampled_from([*PARTS]), model(Absence, reason=TEXT.filter(bool)), max_size=4)


def evidence(parts: int = 4) -> st.SearchStrategy[Evidence]:
    """Evidence with any few parts."""
    chosen = st.lists(st.sampled_from([*PARTS]), max_size=parts, unique=True)
    return chosen.flatmap(
        lambda names: st.builds(
            Evidence, run=model(Run), absent=ABSENCES, **{name: PARTS[name] for name in names}
        )
    )  # fmt: skip


def audits() -> st.SearchStrategy[Audit]:
    """Audits as no run of ours would give them: any finding and verdict beside any evidence."""
    names = ["missing-zero-grad", "test-set-leakage", "dead-units", "lr-too-high"]
    rule, cause = st.one_of(st.sampled_from(names), TEXT), st.sampled_from([None, *names])
    findings = model(ReportedFinding, rule=rule, caused_by=cause)
    return model(Audit, evidence=evidence(), findings=st.lists(findings, max_size=4).map(tuple))
