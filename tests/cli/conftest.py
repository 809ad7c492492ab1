"""Fake children: tiny scripts that speak the protocol, die, hang or flood."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from auditor.spec import ProbeSpec

DRIVER = Path(__file__).with_name("drive.py")

PRELUDE = """
import json, os, signal, subprocess, sys, time
spec = json.load(open(sys.argv[1]))
events = open(spec["run_dir"] + "/events.jsonl", "ab", buffering=0)

def write(kind, **record):
    events.write((json.dumps({"kind": kind, **record}) + "\\n").encode())

def trajectory(*losses):
    value = {"losses": losses, "learning_rates": [0.1] * len(losses), "grad_norms": [1.0] * len(losses)}
    write("part", name="trajectory", value=value)

def stale(steps):
    value = {"optimizers": [{"optimizer": "SGD", "steps_checked": 5, "stale_steps": steps}]}
    write("part", name="gradient_resets", value=value)

def finish(steps=3, **facts):
    write("run", steps=steps, finished=True, device="cpu", **facts)
"""
HEALTHY = "trajectory(3.0, 2.0, 1.0)\nstale(0)\nfinish()\n"
SICK = "trajectory(3.0, 20.0, 1.0)\nstale(2)\nfinish()\n"


def _driver() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_test_driver", DRIVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def driver() -> ModuleType:
    """The module with the two test rules."""
    return _driver()


@dataclass
class Child:
    """Writes fake children and the specs to start them with."""

    folder: Path

    def command(self, body: str) -> list[str]:
        """A child that runs `body` after the prelude."""
        path = self.folder / "child.py"
        path.write_text(PRELUDE + textwrap.dedent(body))
        return [sys.executable, "-S", str(path)]

    def spec(self, seconds: float = 60.0, **fields: Any) -> ProbeSpec:
        run_dir = self.folder / "run"
        for part in ("tmp", "files"):
            (run_dir / part).mkdir(parents=True, exist_ok=True)
        return ProbeSpec(
            **{"target": "train.py", "run_dir": str(run_dir), "deadline": time.monotonic() + seconds, **fields}
        )


@pytest.fixture
def child(tmp_path: Path) -> Child:
    folder = tmp_path / "child"
    folder.mkdir()
    return Child(folder)


@dataclass
class Shell:
    """Runs the command line with a fake child, in a folder that holds train.py."""

    folder: Path
    child: Child
    patch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, body: str = HEALTHY) -> subprocess.CompletedProcess[str]:
        """In this process, which is quicker."""
        from auditor.cli import main

        command = self.child.command(body)
        self.patch.setattr("auditor.supervisor.child_command", lambda: command)
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        return subprocess.CompletedProcess(arguments, int(ending.value.code or 0), *self.capfd.readouterr())

    def start(self, arguments: Sequence[str], body: str = HEALTHY, **options: Any) -> subprocess.Popen[str]:
        """In a process of its own."""
        self.child.command(body)
        command = [sys.executable, str(DRIVER), str(self.child.folder / "child.py"), *arguments]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, **{**streams, **options})

    def audit(self) -> dict[str, Any]:
        """What the latest run left in .audit."""
        return dict(json.loads((self.folder / ".audit/audit.json").read_text()))


@pytest.fixture
def shell(
    tmp_path: Path,
    child: Child,
    driver: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Shell:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "train.py").write_text("print('never run by the fake child')\n")
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("AUDIT_", "FORCE_COLOR", "NO_COLOR", "GITHUB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("auditor.registry.rules", lambda: driver.RULES)
    return Shell(folder, child, monkeypatch, capfd)


@pytest.fixture
def bodies() -> tuple[str, str]:
    """A child that finds nothing wrong, and one that finds an error and a warning."""
    return HEALTHY, SICK
