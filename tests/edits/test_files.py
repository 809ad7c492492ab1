"""Files keep their bytes, and those that are not the user's are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from edit_samples import SCRIPT, sample

from auditor.edits import Suggestions
from auditor.edits.textfile import read, write
from auditor.errors import AuditError
from auditor.evidence import Location, Remedy, RemedyKind, Run


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfx = 'gr\xc3\xbc\xc3\x9f'\r\n",
        b"# -*- coding: latin-1 -*-\nx = 'gr\xfc\xdf'\n",
        b"x = 1\r\ny = 2\n",
        b"x = 1",
    ],
)
def test_files_keep_their_bytes_and_their_mode(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(data)
    path.chmod(0o750)
    file = read(path)
    write(file, file.text + "# é")
    assert path.read_bytes() == data + "# é".encode("latin-1" if b"latin" in data else "utf-8")
    assert path.stat().st_mode & 0o777 == 0o750
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_encoding_cannot_hold_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(b"# coding: latin-1\n")
    with pytest.raises(AuditError):
        write(read(path), "→")
    assert path.read_bytes() == b"# coding: latin-1\n"


# ------------------------------------------------------------------------------------------------------------ project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "scripts").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    (root / "scripts" / "train.py").write_text(SCRIPT, encoding="utf-8")
    return root


def shuffled(path: Path, kind: RemedyKind = RemedyKind.SHUFFLE) -> Remedy:
    return sample(kind, SCRIPT, str(path))


def test_paths_are_relative_to_the_project(project: Path) -> None:
    suggestions = Suggestions(Run(target="train.py"), project / "scripts")
    rows = suggestions.diff([shuffled(project / "scripts" / "train.py")]).splitlines()
    assert rows[:2] == ["--- a/scripts/train.py", "+++ b/scripts/train.py"]
    assert len([row for row in rows if row.startswith(" ")]) == 6


def test_the_first_remedy_that_can_be_written(project: Path) -> None:
    suggestions = Suggestions(Run(target="scripts/train.py"), project)
    path = project / "scripts" / "train.py"
    by_hand = Remedy(kind=RemedyKind.WARM_UP, site=Location(file=str(path), line=1))
    diff, reason = suggestions.first([by_hand, shuffled(path), shuffled(path, RemedyKind.CLIP)])
    assert diff is not None
    assert "shuffle=True" in diff
    assert not reason
    diff, reason = suggestions.first([by_hand])
    assert diff is None
    assert reason.startswith("a warm-up needs a scheduler")
    assert suggestions.first([]) == (None, "")


def test_files_outside_of_the_project_are_left_alone(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(SCRIPT, encoding="utf-8")
    package = project / "venv" / "site-packages" / "net.py"
    package.parent.mkdir(parents=True)
    package.write_text(SCRIPT, encoding="utf-8")
    (project / "link.py").symlink_to(other)
    suggestions = Suggestions(Run(target="scripts/train.py"), project)
    for path, reason in (
        (other, "lies outside of the project"),
        (project / "link.py", "lies outside of the project"),
        (package, "belongs to an installed package"),
        (project / "gone.py", "is not there"),
    ):
        assert reason in suggestions.first([shuffled(path)])[1]


def test_a_script_by_itself_is_its_own_project(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    script = tmp_path / "inner" / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    assert Suggestions(Run(target="inner/train.py"), tmp_path).root == script.parent.resolve()


def test_a_bug_of_an_edit_costs_its_diff_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.edits.registry.changes", lambda *_: 1 / 0)
    suggestions = Suggestions(Run(target="scripts/train.py"), project)
    reason = suggestions.first([shuffled(project / "scripts" / "train.py")])[1]
    assert reason.startswith("the edit itself failed: ZeroDivisionError")


def test_without_libcst_there_is_no_diff(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.edits.suggestions.available", lambda: False)
    suggestions = Suggestions(Run(target="scripts/train.py"), project)
    assert "pip install libcst" in suggestions.first([shuffled(project / "scripts" / "train.py")])[1]
