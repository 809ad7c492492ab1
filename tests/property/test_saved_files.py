"""Saved evidence and audits are read as data, never run; whatever else a file holds is refused in one sentence."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.cli import main
from auditor.errors import AuditError
from auditor.evidence import Evidence, Run, Trajectory
from auditor.judge import judge
from auditor.saved import LARGEST, load_audit, load_evidence

SEEN = Evidence(
    run=Run(target="train.py", steps=3),
    trajectory=Trajectory(losses=(1.0, 2.0), learning_rates=(0.1,), grad_norms=(float("nan"),)),
)
AUDIT = judge(SEEN, ())
GOOD = {"evidence": SEEN.model_dump_json(), "audit": AUDIT.to_json()}


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def nested(depth: int) -> bytes:
    return b'{"schema_version": "1.0", "run": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(GOOD["evidence"]), **fields}).encode()


BAD = {
    "empty": b"",
    "binary": bytes(range(256)) * 9,
    "pickle": pickle.dumps(Bomb()),
    "torch": b"PK\x03\x04" + b"\0" * 400,
    "truncated": GOOD["audit"].encode()[:-200],
    "foreign": b'{"name": "package", "version": 1}',
    "a list": b"[1, 2]",
    "a number": b"1e999",
    "deep": nested(500),
    "deeper": nested(50_000),
    "endless list": b"[" * 1_000_000,
    "huge integer": changed(run={"target": "a", "steps": 10**400}),
    "longer integer": b'{"schema_version": "1.0", "run": ' + b"9" * 9_000 + b"}",
    "newer": changed(schema_version="99.0"),
    "older": changed(schema_version="0.1"),
    "no version": changed(schema_version={"a": ["\x1b[31m" * 900]}),
    "strange version": changed(schema_version="\x1b]0;t\x07" * 300),
    "unknown key": changed(**{"\x1b[2J" * 500: 1}),
    "wrong type": changed(run={"target": ["x"]}),
    "wrong part": changed(trajectory={"losses": "many"}),
    "utf-16 half": "{\"schema_version\": \"1.0\"}".encode("utf-16")[:-3],
}  # fmt: skip


def refusal(load: Any, path: Path) -> str:
    """The sentence with which a file is refused; '' when it is taken."""
    try:
        load(path)
    except AuditError as why:
        said = str(why)
        assert said.isprintable(), said
        assert path.name in said
        assert len(said) < 1_200
        return said
    return ""


@pytest.mark.parametrize("load", [load_evidence, load_audit])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, name: str, load: Any) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(BAD[name])
    assert refusal(load, path)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("command", ["judge", "report"])
@pytest.mark.parametrize("name", ["binary", "pickle", "truncated", "foreign", "deeper", "newer", "unknown key"])
def test_the_command_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, command: str) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(BAD[name])
    with pytest.raises(SystemExit) as end:
        main([command, str(path)])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert "\x1b" not in said


def test_a_file_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.saved.LARGEST", 10_000)
    assert "too large" in refusal(load_evidence, Path("/dev/zero"))
    path = tmp_path / "large.json"
    path.write_bytes(b" " * 10_001)
    assert "too large" in refusal(load_audit, path)
    assert LARGEST > 10_000_000


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert refusal(load_evidence, tmp_path)
    assert refusal(load_audit, tmp_path / "missing.json")


def test_a_good_file_is_taken(tmp_path: Path) -> None:
    for name, text in GOOD.items():
        path = tmp_path / f"{name}.json"
        path.write_text(text)
        assert repr(load_evidence(path)) == repr(SEEN)
    assert load_audit(path).to_json() == AUDIT.to_json()


def test_escaped_surrogates_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(changed(run={"target": "train\udcff.py"}))
    assert load_evidence(path).run.target == "train\\udcff.py"


@settings(max_examples=150)
@given(name=st.sampled_from([*GOOD]), place=st.floats(0, 1), cut=st.integers(0, 40), put=st.binary(max_size=8))
def test_any_damage_is_noticed_or_harmless(tmp_path: Path, name: str, place: float, cut: int, put: bytes) -> None:
    good = GOOD[name].encode()
    at = int(place * len(good))
    path = tmp_path / "saved.json"
    path.write_bytes(good[:at] + put + good[at + cut :])
    for load in (load_evidence, load_audit):
        if not refusal(load, path):
            loaded = load(path)
            assert loaded.model_dump_json()
