"""The small scale that a measured value and its limit lie on."""

from __future__ import annotations

import math
import re

import pytest
from auditor.reports import gauge
from auditor.reports.scale import Axis
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(NUMBERS, NUMBERS)
def test_any_two_numbers_lie_on_the_scale_or_there_is_none(measured: float, limit: float) -> None:
    found = gauge.of(measured, limit)
    if found is None:
        assert not (math.isfinite(measured) and math.isfinite(limit) and max(abs(measured), abs(limit)) < 1e300)
        assert gauge.picture(measured, limit) == gauge.row(measured, limit) == ""
        return
    assert 0 <= found.value <= 100
    assert 0 <= found.limit <= 100
    if measured < limit:
        assert found.value <= found.limit
    row = gauge.row(measured, limit, unicode=False)
    if measured == limit or limit == 0:
        assert row == ""
        return
    assert len(row) == 24
    assert row.isascii()
    assert (row.index("o") < row.index("|")) == (measured < limit)
    assert not re.search(r'"-?(nan|inf)', gauge.picture(measured, limit))


@pytest.mark.parametrize(
    ("measured", "limit", "words", "log"),
    [
        (0.3333, 0.01, "33 times the limit", True),
        (48, 10, "4.8 times the limit", False),
        (0.2, 0.5, "40 % of the limit", False),
        (0.983, 0, "", False),
        (1, 1, "at the limit", False),
        (1.02, 1, "close to the limit", False),
        (-3, 2, "", False),
    ],
)
def test_words(measured: float, limit: float, words: str, log: bool) -> None:
    found = gauge.of(measured, limit)
    assert found
    assert (found.words, found.log) == (words, log)
    assert words in gauge.picture(measured, limit)
    assert ("logarithmic" in gauge.picture(measured, limit)) == log


def test_without_a_limit_there_is_no_scale() -> None:
    assert gauge.picture(1.0, None) == gauge.row(None, 1.0) == ""


@pytest.mark.parametrize(("low", "high"), [(0.0, 5e-324), (0.0, 1.0), (-3.0, 1e300)])
def test_an_axis_of_any_length_has_ticks(low: float, high: float) -> None:
    assert all(-2 <= Axis(low, high).at(tick) <= 102 for tick in Axis(low, high).ticks())
    assert Axis(low, high).ticks()
