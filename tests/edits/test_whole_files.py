"""What holds for all edits: the result parses, the rest of the file stays, and a diff leads to the same text."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.edits import NoEdit, Suggestions, diffs, edited, registry
from auditor.edits.changes import Change, apply
from auditor.edits.parsed import Parsed
from auditor.edits.textfile import read, write
from auditor.errors import AuditError
from auditor.evidence import Location, Remedy, RemedyKind, Run

SCRIPT = '''
"""Trains a network."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader


def traced(function):
    return function


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, width),
            nn.ReLU(),
            nn.Dropout(0.5),  # a lot
            nn.Linear(width, 2),
        )

    def forward(self, x):
        return F.softmax(self.body(x), dim=1)  # größer


@traced
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-2, help="rate")
    args = parser.parse_args()
    loader = DataLoader(
        data(),
        batch_size=16,
        num_workers=0  # in this process
    )
    model = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)

    def run():
        for epoch in range(3):
            total = 0.0
            for x, y in loader:
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                total += loss.item()
            print(f"{epoch}: {total}")

    run()


if __name__ == "__main__":
    main()
'''
KINDS: dict[RemedyKind, tuple[str, dict[str, object]]] = {
    RemedyKind.RATE: ("optimizer = ", {"amount": 0.1}),
    RemedyKind.CLIP: ("optimizer.step", {"amount": 1.0, "subject": "model"}),
    RemedyKind.ZERO_GRADIENTS: ("loss.backward", {"subject": "optimizer"}),
    RemedyKind.TRAINING_MODE: ("loss = ", {"subject": "model"}),
    RemedyKind.LEAVE_OUT: ("F.softmax", {"subject": "softmax"}),
    RemedyKind.SHUFFLE: ("loader = ", {}),
    RemedyKind.DIVIDE_LOSS: ("loss.backward", {"amount": 2.0}),
    RemedyKind.LEAKY_UNITS: ("nn.ReLU", {}),
    RemedyKind.CLASS_WEIGHTS: ("criterion = ", {"values": (1.0, 3.0)}),
    RemedyKind.NO_DROPOUT: ("nn.Dropout", {}),
    RemedyKind.NO_PENALTY: ("optimizer = ", {}),
}


def remedy(kind: RemedyKind, text: str, file: str = "/home/user/train.py") -> Remedy:
    at, fields = KINDS[kind]
    line = next(number for number, row in enumerate(diffs.split(text), 1) if at in row)
    return Remedy.model_validate({"kind": kind, "site": Location(file=file, line=line), **fields})


@st.composite
def styles(draw: st.DrawFn) -> str:
    """The same script as other people write it."""
    text = SCRIPT.lstrip("\n")
    for _ in range(draw(st.integers(0, 3))):  # comments and empty lines anywhere but inside the long string
        rows = text.split("\n")
        place = draw(st.integers(1, len(rows) - 1))
        text = "\n".join([*rows[:place], draw(st.sampled_from(["", "# ---- ü", "    # one more"])), *rows[place:]])
    text = text.replace("    ", draw(st.sampled_from(["    ", "\t", "  "])))
    if draw(st.booleans()):
        text = text.rstrip("\n")
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@settings(max_examples=40, deadline=None)
@given(text=styles(), kinds=st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4, unique=True))
def test_edits_of_any_style(text: str, kinds: list[RemedyKind]) -> None:
    remedies = [remedy(kind, text) for kind in kinds]
    after = edited(remedies, text)
    ast.parse(after)
    assert ("\r\n" in after) == ("\r\n" in text)
    assert "\n" not in after.replace("\r\n", "") or "\r\n" not in text
    assert after.endswith("\n") == text.endswith("\n")
    (file,) = diffs.parse(diffs.unified("train.py", text, after))
    assert apply(text, diffs.changes(file, text)) == after


@settings(max_examples=30, deadline=None)
@given(text=styles(), kind=st.sampled_from(sorted(set(KINDS) - {RemedyKind.RATE})))
def test_an_edit_is_made_once(text: str, kind: RemedyKind) -> None:
    """At the site where it was made, wherever that is now, it is refused or changes nothing."""
    after = edited([remedy(kind, text)], text)
    source = Parsed(after)
    for line in range(1, len(diffs.split(after)) + 1):
        site = Location(file="/home/user/train.py", line=line)
        try:
            again = registry.changes(source, remedy(kind, text).model_copy(update={"site": site}))
        except NoEdit:
            continue
        assert apply(after, again) == after


@settings(max_examples=30, deadline=None)
@given(text=styles(), kinds=st.lists(st.sampled_from(list(KINDS)), min_size=2, max_size=5, unique=True))
def test_diffs_of_one_audit_add_up(text: str, kinds: list[RemedyKind]) -> None:
    """Each was made of the same text; applied together they are what one edit of all would be."""
    changes: list[Change] = []
    for kind in kinds:
        (file,) = diffs.parse(diffs.unified("train.py", text, edited([remedy(kind, text)], text)))
        changes += diffs.changes(file, text)
    assert apply(text, changes) == edited([remedy(kind, text) for kind in kinds], text)


def texts(*rows: str) -> st.SearchStrategy[str]:
    """Some lines, the last of them not empty and without a break."""
    return st.tuples(st.lists(st.sampled_from(["", *rows])), st.sampled_from(rows)).map(
        lambda drawn: "\n".join([*drawn[0], drawn[1]])
    )


@settings(max_examples=200, deadline=None)
@given(before=texts("a", "b = 1e-3", "c"), after=texts("a", "b = 1e-4", "c"))
def test_any_diff_can_be_applied(before: str, after: str) -> None:
    """But for the break at the very end, which diffs do not hold."""
    for file in diffs.parse(diffs.unified("train.py", before, after)):
        assert diffs.split(apply(before, diffs.changes(file, before))) == diffs.split(after)


def test_a_diff_of_another_text_is_refused() -> None:
    (file,) = diffs.parse(diffs.unified("train.py", "a\nb\nc\n", "a\nB\nc\n"))
    for text in ("a\nB\nc\n", "b\nc\n", "", "a\nb\nd\n"):
        with pytest.raises(diffs.Mismatch):
            diffs.changes(file, text)


@pytest.mark.parametrize("diff", ["nonsense", "--- a/x\n+++ b/y\n", "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n"])
def test_a_damaged_diff_is_refused(diff: str) -> None:
    with pytest.raises(diffs.Mismatch):
        diffs.parse(diff)


def test_two_rates_do_not_mix() -> None:
    """0.001 to 0.0001 and to 0.00025 each add digits in other places of one number."""
    text = "lr = 0.001\n"
    first, second = (
        diffs.changes(diffs.parse(diffs.unified("t.py", text, f"lr = {rate}\n"))[0], text)
        for rate in ("0.0001", "0.00025")
    )
    with pytest.raises(NoEdit):
        apply(text, [*first, *second])


@pytest.mark.parametrize("text", ["def f(:\n", "x = 1\n" * 2 + "  y", "\x00"])
def test_what_is_no_python_is_refused(text: str) -> None:
    with pytest.raises(NoEdit):
        edited([Remedy(kind=RemedyKind.SHUFFLE, site=Location(file="/t.py", line=1))], text)


def test_a_remedy_without_a_site_is_refused() -> None:
    with pytest.raises(NoEdit, match="is not known"):
        edited([Remedy(kind=RemedyKind.SHUFFLE)], "x = 1\n")


# -------------------------------------------------------------------------------------------------------------- files


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
    return remedy(kind, SCRIPT, str(path))


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
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
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
