"""The corpus is whole, and its split never moves."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[2] / "fixtures" / "corpus"
FOLDERS = sorted(path for path in CORPUS.iterdir() if path.is_dir())


def digest(name: str) -> int:
    return hashlib.sha256(f"corpus/{name}".encode()).digest()[0] % 2


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_each_folder_is_a_pair_with_its_cause_or_a_healthy_program(folder: Path) -> None:
    files = {path.name for path in folder.iterdir() if path.is_file()}
    if "healthy.py" in files:
        assert files == {"healthy.py"}
        return
    assert files == {"bad.py", "good.py", "fault.toml"}
    fault = tomllib.loads((folder / "fault.toml").read_text(encoding="utf-8"))
    assert fault["cause"]
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z]+)*", cause) for cause in fault["cause"])
    assert fault["story"]
    assert (folder / "bad.py").read_text(encoding="utf-8") != (folder / "good.py").read_text(encoding="utf-8")


def test_there_are_enough_programs_in_both_halves() -> None:
    pairs = [folder.name for folder in FOLDERS if (folder / "bad.py").exists()]
    assert len(pairs) >= 90
    assert 0.35 < sum(map(digest, pairs)) / len(pairs) < 0.65


def test_the_split_is_the_one_that_was_fixed() -> None:
    source = (CORPUS.parents[1] / "tests" / "benchmarks" / "corpus.py").read_text(encoding="utf-8")
    assert 'hashlib.sha256(f"corpus/{name}".encode()).digest()[0] % 2' in source
    assert (digest("whale_calls"), digest("house_prices"), digest("bone_age")) == (1, 0, 0)
