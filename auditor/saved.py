"""Reads evidence and audits that were saved as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from auditor.errors import AuditError
from auditor.evidence import SCHEMA_VERSION, Evidence
from auditor.result import Audit
from auditor.untrusted import one_line

LARGEST = 200_000_000  # bytes; the evidence of the largest programs stays far below
_LARGEST_INTEGER = 2**63  # beyond it, a file was not written by this tool
_Model = TypeVar("_Model", bound=BaseModel)


def load_evidence(path: Path) -> Evidence:
    """Evidence from its file, or from an audit's, which holds it. Raises AuditError in one sentence."""
    data = _read(path)
    if isinstance(data.get("evidence"), dict):
        _check_version(data, path)
        data = data["evidence"]
    return _load(Evidence, data, path, "saved evidence")


def load(path: str | Path) -> Audit:
    """The audit that `audit run` kept in .audit/audit.json, or wrote with -o FILE.json.

    Raises AuditError in one sentence when the file is not an audit that this version can read.
    """
    return load_audit(Path(path))


def load_audit(path: Path) -> Audit:
    """Raises AuditError in one sentence when the file is not an audit that this version can read."""
    data = _read(path)
    if "evidence" not in data and "run" in data:
        raise AuditError(f"{_shown(path)} holds evidence only; `audit judge {_shown(path)}` judges it")
    return _load(Audit, data, path, "a saved audit")


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise AuditError(f"{_shown(path)} is too large: evidence has at most {LARGEST:,} bytes")
        data = json.loads(text, parse_int=_integer)
    except OSError as why:
        raise AuditError(f"{_shown(path)} cannot be read: {why.strerror or one_line(str(why), 200)}") from None
    except (ValueError, RecursionError):
        raise AuditError(f"{_shown(path)} is not JSON, or damaged") from None
    if not isinstance(data, dict) or "schema_version" not in data or "run" not in data:
        raise AuditError(f"{_shown(path)} was not written by this tool")
    return data


def _integer(digits: str) -> int:
    number = int(digits)
    if abs(number) >= _LARGEST_INTEGER:
        raise ValueError("no count is so large")
    return number


def _shown(path: Path) -> str:
    return one_line(str(path), 300)


def _check_version(data: dict[str, Any], path: Path) -> None:
    found = data.get("schema_version")
    try:
        major, minor = (int(part) for part in str(found).split("."))
    except ValueError:
        raise AuditError(f"{_shown(path)} has the unknown schema version {one_line(repr(found), 60)}") from None
    ours = tuple(int(part) for part in SCHEMA_VERSION.split("."))
    versions = f"(schema {one_line(str(found), 40)}, here {SCHEMA_VERSION})"
    if (major, minor) > ours:
        raise AuditError(f"{_shown(path)} was written by a newer version {versions}; update this one")
    if major < ours[0]:
        raise AuditError(f"{_shown(path)} was written by an older version {versions}; run it again")


def _load(model: type[_Model], data: dict[str, Any], path: Path, what: str) -> _Model:
    _check_version(data, path)
    try:
        return model.model_validate(data)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        where = one_line(".".join(str(key) for key in first["loc"]), 200)
        raise AuditError(f"{_shown(path)} is not {what}, or damaged: {where}: {one_line(first['msg'], 200)}") from None
    except RecursionError:
        raise AuditError(f"{_shown(path)} is not {what}, or damaged: it is nested too deeply") from None
