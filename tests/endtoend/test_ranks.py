"""Two ranks under torchrun, each with an audit of its own: that of rank 0 compares them and reports."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures/distributed"
RULES = {path.name: path.name.replace("_", "-") for path in sorted(FIXTURES.iterdir())}
QUICK = {"missing_distributed_sampler/bad.py", "rank_divergence/good.py"}


def torchrun(script, folder, *options, audited=True):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    audit = ["-m", "auditor", "run", "--max-time", "500", "--select", ",".join(RULES.values()), "-o", "audit.json"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    kept = {name: value for name, value in os.environ.items() if not re.match("AUDIT_|PYTEST", name)}
    return subprocess.run(
        [*command, *(audit if audited else []), *options, str(script)],
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            path,
            id=f"{path.parent.name}-{path.stem}",
            marks=[] if f"{path.parent.name}/{path.name}" in QUICK else pytest.mark.corpus,
        )
        for path in sorted(FIXTURES.glob("*/*.py"))
    ],
)
def test_two_ranks(script, tmp_path):
    ended = torchrun(script, tmp_path, "--fail-on", "never")
    assert ended.returncode == 0, ended.stderr[-2000:]
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["run"]["status"] == "completed"
    outcomes = {verdict["rule"]: verdict["outcome"] for verdict in audit["verdicts"]}
    faulty = {rule for rule, outcome in outcomes.items() if outcome == "fail"}
    assert faulty == ({RULES[script.parent.name]} if script.stem == "bad" else set()), audit["verdicts"]
    assert ended.stdout.count("steps in") == 1, "one rank reports"
    assert len(audit["evidence"]["ranks"]["prints"]) == 2


def test_the_finding_of_rank_0_is_the_exit_code(tmp_path):
    assert torchrun(FIXTURES / "rank_divergence/bad.py", tmp_path).returncode == 1
