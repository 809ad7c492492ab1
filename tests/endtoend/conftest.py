"""The command line in a process of its own, with the real probe, as a user would start it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tried import audited, warm, written
from warmstart import WarmStart

__all__ = ["audited", "warm", "written"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "corpus: further scripts, much like others; left out unless asked for by -m")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "corpus" in config.option.markexpr:
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("corpus")])
    items[:] = [item for item in items if not item.get_closest_marker("corpus")]


@dataclass
class Ended:
    """One `audit run`."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def audit(self) -> dict[str, Any]:
        """What standard output held, with --format json."""
        return dict(json.loads(self.out))

    @property
    def status(self) -> str:
        return str(self.audit["run"]["status"])

    @property
    def report(self) -> Path:
        return self.folder / ".audit/report.html"


COLD = (sys.executable, "-m", "auditor")
WARM = Path(__file__).parents[1] / "warmaudit.py"


class Shell:
    """Runs `audit` in a folder. `start`: the beginning of its command."""

    def __init__(self, folder: Path, start: tuple[str, ...] = COLD) -> None:
        self.folder = folder
        self._start = start

    def write(self, text: str, name: str = "train.py") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def audit(self, *arguments: str, seconds: float = 600.0) -> Ended:
        """`audit ARGUMENTS`; without colours, whatever the terminal is."""
        kept = {name: value for name, value in os.environ.items() if not re.match("AUDIT_|FORCE_COLOR|PYTEST", name)}
        done = subprocess.run(
            [*self._start, *arguments],
            cwd=self.folder,
            env={**kept, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr, self.folder)

    def run(self, script: str, *arguments: str, options: tuple[str, ...] = ()) -> Ended:
        """`audit run` of a script that needs no experiments, with JSON on standard output."""
        self.write(script)
        quick = ("--steps", "20", "--select", "missing-zero-grad", "--format", "json")
        return self.audit("run", *quick, *options, "train.py", *arguments)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """As a user would start it."""
    return Shell(tmp_path)


@pytest.fixture
def warm_shell(tmp_path: Path, warm: WarmStart) -> Shell:
    """The script runs in a fork of a process that has imported torch, which saves seconds."""
    return Shell(tmp_path, (sys.executable, str(WARM), json.dumps(warm.command)))
