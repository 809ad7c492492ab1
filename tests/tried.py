"""Loops on which remedies are tried: what every script begins with, and an audit that tries what it is given."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

import pytest
from warmstart import WarmStart

from auditor.capture import Capture
from auditor.config import Settings
from auditor.declare import Finding, Judgement, Severity, rule
from auditor.evidence import Location, Program, Remedy, RemedyKind, Trajectory, TrialRun
from auditor.result import Audit
from auditor.session import Request, conduct

PRELUDE = """
import json
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
x = torch.randn(96, 6)
y = (x[:, 0] > 0).long() + (x[:, 1] > 0.3).long()
t = x @ torch.randn(6, 1)
losses = []


def batches(*columns, size=16):
    loader = DataLoader(TensorDataset(*columns), batch_size=size, shuffle=True)
    while True:
        yield from loader
"""

STEPS = 40
CLASSIFIER = """
model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
for step, (a, b) in enumerate(batches(x, y)):
    loss = F.cross_entropy(model(a), b)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if done(loss):
        break
"""
REGRESSION = CLASSIFIER.replace("nn.Linear(24, 3)", "nn.Linear(24, 1)").replace("batches(x, y)", "batches(x, t)")
REGRESSION = REGRESSION.replace("F.cross_entropy(model(a), b)", "F.mse_loss(model(a), b)").replace("0.2", "0.02")


def R(kind: RemedyKind, amount: float | None = None, **more: object) -> Remedy:  # noqa: N802
    return Remedy(kind=kind, amount=amount, **more)  # type: ignore[arg-type]


def lines(script: str, text: str) -> Location:
    """Where the text stands in the script that is written to disk."""
    before = (PRELUDE + script).partition(text)[0]
    return Location(file="train.py", line=before.count("\n") + 1)


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmStart]:
    """Whole audits, but for the seconds in which each child imports torch."""
    with WarmStart() as started:
        yield started


@pytest.fixture
def written(warm, tmp_path) -> Callable[[str], list[float]]:
    """The losses of a script by itself."""

    def run(script: str) -> list[float]:
        ending = f"\n\ndef done(loss):\n    losses.append(loss.item())\n    return len(losses) >= {STEPS}\n"
        path = tmp_path / "written.py"
        path.write_text(PRELUDE + ending + script + "\nprint(json.dumps(losses))\n")
        ran = subprocess.run([*warm.python, str(path)], capture_output=True, text=True, check=True)
        return json.loads(ran.stdout)

    return run


def some(cases: Iterable[str], further: Container[str]) -> list[object]:
    """Parameters, of which `further` are left out by default."""
    return [pytest.param(case, marks=pytest.mark.corpus if case in further else []) for case in cases]


@pytest.fixture
def audited(warm, tmp_path, monkeypatch) -> Callable[..., Audit]:
    """An audit whose one rule finds fault with everything, and names these remedies."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *remedies: Remedy, loop_steps: int = 10**6, **settings: object) -> Audit:
        done = f"\n\ndef done(loss):\n    losses.append(loss.item())\n    return len(losses) >= {loop_steps}\n"
        path = tmp_path / "train.py"
        path.write_text(PRELUDE + done.replace("\n\n\n", "\n") + script)
        placed = tuple(
            each if each.site is None else each.model_copy(update={"site": _moved(each.site, path, done)})
            for each in remedies
        )

        @rule("TST901", "always", severity=Severity.WARNING, fix="Whatever.")
        def always(program: Program) -> Judgement:  # noqa: ARG001
            """Something is always wrong."""
            yield Finding("wrong", remedies=placed)

        @rule("TST902", "never", severity=Severity.NOTE, fix="Nothing.")
        def never(trajectory: Trajectory) -> Judgement:  # noqa: ARG001
            """Not selected, so that what only it needs is left out."""
            yield from ()

        options = Settings(max_time=600.0, look_on=0, select=("always",), **settings)  # type: ignore[arg-type]
        request, silent = Request(str(path)), Capture(None)
        return conduct(request, options, rules=(always, never), command=warm.command, capture=silent).audit

    return run


def _moved(site: Location, path: Path, done: str) -> Location:
    return Location(file=str(path), line=site.line + done.replace("\n\n\n", "\n").count("\n"))


def trial(audit: Audit) -> TrialRun:
    assert audit.evidence.trials is not None, (audit.evidence.absent.get("trials"), audit.run.notes, audit.run.crash)
    return audit.evidence.trials.runs[0]
