"""Every faulty training script is reported with the rule it stands for, its fixed twin is not; healthy ones pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor import Audit, Severity, audit
from auditor.config import Settings

FIXTURES = Path(__file__).parents[2] / "fixtures"
HEALTHY = sorted((FIXTURES / "healthy").glob("*.py"))
PAIRS = sorted(
    path
    for path in FIXTURES.glob("*/*/*.py")
    if path.name.startswith(("bad", "good")) and path.parents[1].name != "corpus"
)
SECONDS = 100.0  # a few are enough; a busy machine may need more


def run(script: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: object) -> Audit:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(folder)
    found = audit(script, settings=Settings(max_time=SECONDS, **settings))  # type: ignore[arg-type]
    assert found.run.status == "completed", found.run.crash
    return found


def rule_of(script: Path) -> str:
    return script.parent.name.replace("_", "-")


def told(found: Audit) -> str:
    """What a failure should show."""
    findings = [f"{finding.severity}: {finding.rule}: {finding.message}" for finding in found.findings]
    verdicts = [f"{verdict.rule}: {verdict.outcome} {verdict.reason}" for verdict in found.verdicts]
    return "\n".join([*findings, *verdicts])


@pytest.mark.parametrize("script", PAIRS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_faulty_scripts_are_reported_and_their_twins_are_not(script, monkeypatch, tmp_path):
    found = run(script, monkeypatch, tmp_path, select=(rule_of(script),))
    [verdict] = [verdict for verdict in found.verdicts if verdict.rule == rule_of(script)]
    assert (verdict.outcome == "fail") is script.stem.startswith("bad"), told(found)
    assert bool(found.findings) is script.stem.startswith("bad")
    assert verdict.outcome != "error"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, id=path.stem, marks=[] if index % 3 == 0 else pytest.mark.corpus)
        for index, path in enumerate(HEALTHY)
    ],
)
def test_healthy_scripts_have_no_error(script, monkeypatch, tmp_path):
    found = run(script, monkeypatch, tmp_path)
    assert not [finding for finding in found.findings if finding.severity is Severity.ERROR], told(found)
    assert len([finding for finding in found.findings if finding.severity is Severity.WARNING]) <= 1, told(found)
    assert not [verdict for verdict in found.verdicts if verdict.outcome == "error"], told(found)
