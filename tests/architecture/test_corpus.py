"""The corpus is whole, and what is reported on is not what anything was made with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [
    path for group in ("corpus", "unseen") for path in sorted((ROOT / "fixtures" / group).iterdir()) if path.is_dir()
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_folder_is_a_pair_with_its_cause_or_a_healthy_program(folder: Path) -> None:
    files = {path.name for path in folder.iterdir() if path.is_file()}
    if "healthy.py" in files:
        assert files == {"healthy.py"}
        return
    assert files == {"bad.py", "good.py", "fault.toml"}
    fault = tomllib.loads((folder / "fault.toml").read_text(encoding="utf-8"))
    assert fault["cause"]
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cause) for cause in fault["cause"])
    assert fault["story"]
    assert (folder / "bad.py").read_text(encoding="utf-8") != (folder / "good.py").read_text(encoding="utf-8")


def test_there_are_enough_programs() -> None:
    pairs = [folder for folder in FOLDERS if (folder / "bad.py").exists()]
    assert sum(folder.parent.name == "corpus" for folder in pairs) >= 90
    assert sum(folder.parent.name == "unseen" for folder in pairs) >= 35


def test_no_program_is_in_both() -> None:
    names = [folder.name for folder in FOLDERS]
    assert len(set(names)) == len(names)


def test_nothing_that_judges_or_tests_knows_an_unseen_program() -> None:
    unseen = {folder.name for folder in FOLDERS if folder.parent.name == "unseen"}
    sources = [path for part in ("auditor", "rules", "reports", "tests") for path in (ROOT / part).rglob("*.py")]
    for path in sources:
        words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        assert not words & unseen, path
