"""Findings with remedies have diffs, and only those cost anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from auditor.declare import Finding, Judgement, Measured, Severity, rule
from auditor.evidence import Evidence, Location, Remedy, RemedyKind, Run, Trajectory
from auditor.judge import judge

SCRIPT = "from torch.utils.data import DataLoader\n\nloader = DataLoader(data, batch_size=4)\n"


def audited(folder: Path, kind: RemedyKind):
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    where = Location(file=str(folder / "train.py"), line=3)

    @rule("TST101", "unmixed", severity=Severity.ERROR, fix="Mix them.")
    def unmixed(trajectory: Trajectory) -> Judgement:
        """It is not mixed."""
        yield Measured(trajectory.losses[-1])
        yield Finding("not mixed", location=where, remedies=(Remedy(kind=kind, site=where),))

    trajectory = Trajectory(losses=(1.0,), learning_rates=(0.1,), grad_norms=(1.0,))
    run = Run(target=str(folder / "train.py"))
    return judge(Evidence(run=run, trajectory=trajectory), [unmixed]).findings[0].fix


def test_a_finding_has_the_diff_of_its_remedy(tmp_path: Path) -> None:
    fix = audited(tmp_path, RemedyKind.SHUFFLE)
    assert fix.diff is not None
    assert fix.diff.endswith(
        "-loader = DataLoader(data, batch_size=4)\n+loader = DataLoader(data, batch_size=4, shuffle=True)\n"
    )
    assert fix.by_hand == ""


def test_a_finding_says_why_it_has_none(tmp_path: Path) -> None:
    fix = audited(tmp_path, RemedyKind.CLIP)
    assert fix.diff is None
    assert fix.by_hand == "the limit is not known"


def test_judging_does_not_load_libcst(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom auditor.evidence import Evidence, Run\nfrom auditor.judge import judge\n"
        "import auditor.edits, auditor.fix\njudge(Evidence(run=Run(target='train.py')), [])\n"
        "assert 'libcst' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
