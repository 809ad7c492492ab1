"""The picture of a trial, whatever its curves are."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from auditor.reports import trial_chart
from hypothesis import given
from hypothesis import strategies as st

from auditor.result import Trial

VALUES = st.lists(st.one_of(st.floats(), st.floats(0, 5)), max_size=80).map(tuple)


def trial(**values: object) -> Trial:
    return Trial(**{"what": "clipping at 1", "steps": 3, "before": 2.0, "after": 1.0, "helped": True, **values})


@given(VALUES, VALUES, st.sampled_from(["loss", "error rate"]), st.booleans())
def test_any_two_curves_make_a_picture(
    control: tuple[float, ...], treated: tuple[float, ...], metric: str, helped: bool
) -> None:
    chart = trial_chart.draw(trial(control=control, treated=treated, metric=metric, helped=helped), "key")
    if chart is None:
        return
    picture = ElementTree.fromstring(chart.figure)
    for node in picture.iter():
        for name in ("d", "x", "y", "x1", "y1", "cx", "cy", "width"):
            assert not re.search("nan|inf", node.get(name, "")), node.attrib
    assert chart.table
    assert chart.table.head == ("step", "as it is", "with the fix")


def test_there_is_no_picture_without_curves() -> None:
    assert trial_chart.draw(trial(), "key") is None
    assert trial_chart.draw(trial(control=(math.nan,) * 5, treated=(math.inf,) * 5), "key") is None


def test_each_curve_is_named_beside_it() -> None:
    chart = trial_chart.draw(trial(control=(2.0, 2.0, 2.0), treated=(2.0, 1.9, 1.99)), "key")
    assert chart
    tops = {
        name: float(top)
        for top, name in re.findall(r'class="label curve[^>]* y="([\d.]+)%"[^>]*>([^<]+)<', chart.figure)
    }
    assert tops["with the fix"] - tops["as it is"] >= 9


def test_a_curve_that_breaks_off_is_marked() -> None:
    broken = trial(control=(2.0, 2.1, math.nan, math.nan), treated=(2.0, 1.0, 0.9, 0.8), before=math.nan)
    chart = trial_chart.draw(broken, "key")
    assert chart
    assert "diverged at step 2<" in chart.figure
    assert chart.conclusion == "As it is, the loop diverged at step 2; with this change, the loss ended at 1."
    never = trial_chart.draw(broken.model_copy(update={"control": (math.inf,) * 4}), "key")
    assert never
    assert "as it is: diverged at step 0<" in never.figure


def test_what_did_not_help_is_said_so() -> None:
    said = trial_chart.conclusion(trial(helped=False))
    assert said == "No help: the loss ended at 1 with this change, and at 2 as it is."
