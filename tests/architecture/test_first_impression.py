"""What a newcomer reads and runs first is true: the README, and the demo."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from auditor import Severity
from auditor.cli import cli
from auditor.config import Settings
from auditor.configfile import load
from auditor.registry import report_formats, rules

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FAULTS = {"uncentered-inputs", "test-set-leakage", "double-softmax", "missing-zero-grad"}


def test_links_of_the_readme_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_readme_counts_the_rules_of_every_family() -> None:
    listed = dict(re.findall(r"^\| (\w+) \| (\d+) \|", README, re.MULTILINE))
    assert listed == {family: str(count) for family, count in Counter(rule.family for rule in rules()).items()}


def test_readme_names_only_rules_that_exist() -> None:
    table = README[README.index("| family | rules |") : README.index("Each rule has a page:")]
    named = set(re.findall(r"`([a-z-]+)`", table))
    assert named
    assert named <= {rule.name for rule in rules()}


def test_readme_names_every_option_of_run_and_no_other() -> None:
    table = README[README.index("| option |") : README.index("| exit code |")]
    named = set(re.findall(r"`(--?[a-z-]+)", table))
    known = {option for parameter in cli.commands["run"].params for option in parameter.opts if option.startswith("-")}
    assert named <= known
    assert known - named <= {"-m", "--module", "--output", "--quiet", "--color"}


def test_readme_lists_every_format_with_its_suffixes() -> None:
    table = README[README.index("| format |") : README.index("One run writes all")]
    listed = dict(re.findall(r"^\| `(\w+)` \| (?:`([.\w]+)` )?\|", table, re.MULTILINE))
    assert listed == {name: next(iter(module.SUFFIXES), "") for name, module in report_formats().items()}


def test_configuration_of_the_readme_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(example, encoding="utf-8")
    settings = load(tmp_path, rules())
    assert settings.steps == 100
    assert settings.fail_on is Severity.WARNING


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b(?= |$|`)", README, re.MULTILINE)) <= targets


def test_the_demo_finds_its_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    from auditor import audit

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = audit(ROOT / "fixtures" / "demo" / "train.py", settings=Settings(max_time=800, trials=False))
    assert found.run.status == "completed"
    roots = {finding.rule for finding in found.findings if not finding.caused_by and finding.severity != "note"}
    assert roots == FAULTS
    assert all(finding.severity is Severity.ERROR for finding in found.findings if finding.rule in FAULTS)
    assert not list(tmp_path.glob("*.pt"))
