"""`audit check`: the source alone, quickly, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BAD = """
import torch.nn as nn

class Net(nn.Module):
    def train(self, x, y):
        loss(self(x), y).backward()
"""


@pytest.fixture
def check(tmp_path: Path):
    (tmp_path / "train.py").write_text(BAD)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "auditor", "check", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    run.folder = tmp_path
    return run


def test_findings_and_exit_code(check):
    done = check("train.py")
    assert done.returncode == 1
    assert "1 error and 1 note in the source of 1 file; nothing was run." in done.stdout
    assert "train.py:5" in done.stdout


def test_json_is_an_audit(check):
    audit = json.loads(check("--format", "json", ".").stdout)
    assert audit["run"]["source_only"] is True
    assert [finding["rule"] for finding in audit["findings"]] == ["shadowed-train-method", "unseeded"]
    assert {verdict["outcome"] for verdict in audit["verdicts"]} <= {"pass", "fail", "not-applicable"}


@pytest.mark.parametrize("format_", ["text", "markdown", "html"])
def test_a_clean_source_promises_no_more_than_was_read(check, format_):
    (check.folder / "train.py").write_text("x = 1\n")
    done = check("--format", format_, "train.py")
    assert done.returncode == 0
    assert "Nothing found in the source of 1 file; nothing was run." in done.stdout


def test_files_that_cannot_be_read_are_named(check):
    (check.folder / "odd.py").write_text("def f(:\n")
    done = check("odd.py", "train.py", "--select", "EVL107")
    assert done.returncode == 0
    assert "Nothing found in the source of 1 file; nothing was run." in done.stdout
    assert "could not be read: line 1: invalid syntax" in " ".join(done.stdout.split())


def test_no_file_that_can_be_read_is_no_clean_verdict(check):
    (check.folder / "odd.py").write_text("def f(:\n")
    assert "Inconclusive: no file could be read." in check("odd.py").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.py"], "no such file"),
        (["--select", "lr-too-high", "train.py"], "`audit run` judges them"),
        (["--select", "nonsense", "train.py"], "no rule is called"),
        (["empty"], "no Python file"),
        ([], "Missing argument"),
    ],
)
def test_what_cannot_be_checked_is_refused(check, arguments, said):
    (check.folder / "empty").mkdir()
    done = check(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_suppressions_and_the_configuration_hold(check):
    text = BAD.replace("def train", "# audit: ignore[MOD106] a name that others call\n    def train")
    (check.folder / "train.py").write_text(text)
    (check.folder / "pyproject.toml").write_text('[tool.auditor]\nignore = [{rule = "unseeded", reason = "fine"}]\n')
    done = check("train.py")
    assert done.returncode == 0
    assert "Nothing found" in done.stdout


def test_neither_torch_nor_scipy_is_imported(check):
    script = (
        "import json, sys\nfrom auditor.cli import main\n"
        "try:\n    main(['check', '--format', 'json', 'train.py'])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=check.folder, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}
    assert not loaded & {"torch", "scipy", "numpy"}
