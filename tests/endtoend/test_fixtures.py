"""Every faulty training script is reported with the rule it stands for, its fixed twin is not; healthy ones pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from warmstart import WarmStart

from auditor import Audit, Severity, audit
from auditor.capture import Capture
from auditor.config import Settings
from auditor.configfile import load
from auditor.registry import rules
from auditor.session import Request, conduct

FIXTURES = Path(__file__).parents[2] / "fixtures"
HEALTHY = sorted((FIXTURES / "healthy").glob("*.py"))
PAIRS = sorted(
    path
    for path in FIXTURES.glob("*/*/*.py")
    if path.name.startswith(("bad", "good"))
    and path.parents[1].name not in ("corpus", "unseen", "distributed")  # test_ranks.py
)
SECONDS = 400.0  # a few are enough; a busy machine may need more


def run(script: Path, warm: WarmStart, **settings: object) -> Audit:
    limits = Settings(max_time=SECONDS, **settings)  # type: ignore[arg-type]
    if (script.parent / "auditor.toml").exists():  # what the program declares
        limits = load(script.parent, rules(), overrides={"max_time": SECONDS, **settings})
    found = conduct(Request(str(script)), limits, command=warm.command, capture=Capture(None)).audit
    assert found.run.status == "completed", found.run.crash
    return found


def rule_of(script: Path) -> str:
    return script.parent.name.replace("_", "-")


def told(found: Audit) -> str:
    """What a failure should show."""
    findings = [f"{finding.severity}: {finding.rule}: {finding.message}" for finding in found.findings]
    verdicts = [f"{verdict.rule}: {verdict.outcome} {verdict.reason}" for verdict in found.verdicts]
    return "\n".join([*findings, *verdicts])


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            path,
            id=f"{path.parent.name}-{path.stem}",
            marks=[] if path.stem in ("bad", "good") else pytest.mark.corpus,  # one pair a rule
        )
        for path in PAIRS
    ],
)
def test_faulty_scripts_are_reported_and_their_twins_are_not(script, warm):
    found = run(script, warm, select=(rule_of(script),), look_on=0, trials=False)  # they have tests of their own
    [verdict] = [verdict for verdict in found.verdicts if verdict.rule == rule_of(script)]
    assert (verdict.outcome == "fail") is script.stem.startswith("bad"), told(found)
    assert bool(found.findings) is script.stem.startswith("bad")
    assert verdict.outcome != "error"


def test_a_child_that_starts_cold_says_the_same():
    script = FIXTURES / "optimizer/missing_zero_grad/bad.py"
    found = audit(script, settings=Settings(max_time=SECONDS, select=("missing-zero-grad",)))
    assert [finding.rule for finding in found.findings] == ["missing-zero-grad"]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, id=path.stem, marks=[] if index % 12 == 0 else pytest.mark.corpus)
        for index, path in enumerate(HEALTHY)
    ],
)
def test_healthy_scripts_have_no_error(script, warm):
    found = run(script, warm)
    assert not [finding for finding in found.findings if finding.severity is Severity.ERROR], told(found)
    assert len([finding for finding in found.findings if finding.severity is Severity.WARNING]) <= 1, told(found)
    assert not [verdict for verdict in found.verdicts if verdict.outcome == "error"], told(found)
