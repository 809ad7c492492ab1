"""The timeline, the configuration in force, all fixes at once, and a finding for the clipboard."""

from __future__ import annotations

import json
import re

import pytest
from auditor.reports import configuration, copies, html, markdown, story, text, timeline

from auditor import evidence as ev
from auditor.config import Ignore, Settings
from auditor.declare import Severity
from auditor.judge import judge
from auditor.registry import rules
from auditor.result import Audit, Trial
from auditor.session import Request

TOGETHER = Trial(
    what="the gradients cleared and clipping at 1", steps=60, before=2.25, after=0.04, helped=True,
    control=(2.3, 2.2, 2.25), treated=(2.3, 0.6, 0.04),
)  # fmt: skip


def test_a_timeline_has_a_row_for_each_phase_that_took_time(faulty: Audit) -> None:
    chart = timeline.draw(faulty.run)
    assert chart
    assert [row[0] for row in chart.table.rows] == ["start-up", "observe", "overfit", "rate sweep"]
    assert [row[2] for row in chart.table.rows] == ["0", "2.1", "6.5", "8.7"]
    assert "4 phases took 12.0 s of the audit's 14.2 s" in chart.conclusion
    assert dict(chart.legend)["s1 box"] == "watching 4.4 s, 37 %"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0])
def test_without_times_there_is_no_timeline(seconds: float) -> None:
    phases = tuple(ev.Phase(name=name, status="completed", seconds=seconds) for name in ("observe", "try clip"))
    assert timeline.draw(ev.Run(target="x.py", phases=phases)) is None
    assert timeline.draw(ev.Run(target="x.py")) is None


def test_many_phases_show_the_longest_in_their_order() -> None:
    phases = tuple(ev.Phase(name=f"experiment {i}", status="completed", seconds=1 + i % 7) for i in range(90))
    chart = timeline.draw(ev.Run(target="x.py", phases=phases))
    assert chart
    assert chart.figure.count('class="phase"') == 20
    assert len(chart.table.rows) == 90


def test_the_configuration_in_force_is_part_of_the_audit() -> None:
    settings = Settings(
        steps=30, fail_on=Severity.WARNING, ignore=(Ignore(rule="REP", reason="seeds differ"),),
        limits={"exploding-gradients": {"max_growth": 77.0}},
    )  # fmt: skip
    assert "max_growth" in next(rule for rule in rules() if rule.name == "exploding-gradients").limits.model_fields
    run = Request("x.py", side_effects="allow", samples=False).run(settings)
    audit = judge(ev.Evidence(run=run), rules(), settings)
    assert Audit.model_validate_json(audit.to_json()).judged_by == audit.judged_by
    shown = dict(configuration.settings(audit))
    assert shown["steps"] == "30 steps"
    assert shown["side-effects"] == "allowed"
    assert shown["samples in reports"] == "no"
    assert shown["fail-on"] == "warning"
    assert shown["ignore REP"] == "seeds differ"
    table = configuration.limits(audit)
    assert table
    assert table.rows[0][:3] == ("GRD101 exploding-gradients", "max_growth", "77.0")
    assert "max_growth" in html.render(audit)
    assert "`max_growth` is 77.0" in markdown.render(audit)


def test_the_defaults_are_said_too_but_not_in_a_comment(healthy: Audit) -> None:
    audit = judge(ev.Evidence(run=Request("x.py").run(Settings())), rules())
    assert dict(configuration.settings(audit))["limits"] == "each rule's own"
    assert configuration.limits(audit) is None
    assert configuration.changed(audit) == []
    assert "Configuration" not in markdown.render(audit)
    assert list(configuration.settings(healthy)) == []  # an audit of an earlier version


@pytest.mark.parametrize("helped", [True, False])
def test_all_fixes_at_once_are_in_every_report_for_people(faulty: Audit, helped: bool) -> None:
    audit = faulty.model_copy(update={"together": TOGETHER.model_copy(update={"helped": helped})})
    for shown in (html.render(audit), markdown.render(audit), text.render(audit)):
        assert "All fixes at once" in shown
        assert "2.25 → 0.04" in " ".join(shown.split())
    assert ("it helped" if helped else "fix one fault") in markdown.render(audit)
    assert ("Fix one fault" in html.render(audit)) is not helped


def test_a_finding_can_be_copied_whole(faulty: Audit) -> None:
    page = html.render(faulty)
    stored = json.loads(re.search(r'<script type="application/json" id="copies">(.*?)</script>', page, re.DOTALL)[1])
    first = faulty.findings[0]
    assert set(re.findall(r'data-of="([^"]+)"', page)) == set(stored)
    found = stored[first.id]
    assert found["markdown"].startswith("### ✖ error **OPT101** missing-zero-grad")
    assert "```diff" in found["markdown"]
    assert "train.py:26" in found["text"]
    assert "optimizer.step()" in found["text"]


def test_a_copy_cannot_end_the_element_it_stands_in(hostile: Audit) -> None:
    block = copies.block({"x": copies.Copies(hostile).of(story.groups(hostile)[0])})
    assert "<" not in block
    assert ">" not in block
    assert max(map(len, json.loads(block)["x"].values())) <= 8_000
