"""Reads evidence and audits that were saved as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from auditor.errors import AuditError
from auditor.evidence import SCHEMA_VERSION, Evidence
from auditor.result import Audit

_Model = TypeVar("_Model", bound=BaseModel)


def load_evidence(path: Path) -> Evidence:
    """Evidence from its file, or from an audit's, which holds it. Raises AuditError in one sentence."""
    data = _read(path)
    if isinstance(data.get("evidence"), dict):
        _check_version(data, path)
        data = data["evidence"]
    return _load(Evidence, data, path, "saved evidence")


def load_audit(path: Path) -> Audit:
    """Raises AuditError in one sentence when the file is not an audit that this version can read."""
    data = _read(path)
    if "evidence" not in data and "run" in data:
        raise AuditError(f"{path} holds evidence only; `audit judge {path}` judges it")
    return _load(Audit, data, path, "a saved audit")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as why:
        raise AuditError(f"{path} cannot be read: {why.strerror or why}") from None
    except (ValueError, RecursionError):
        raise AuditError(f"{path} is not JSON, or damaged") from None
    if not isinstance(data, dict) or "schema_version" not in data or "run" not in data:
        raise AuditError(f"{path} was not written by this tool")
    return data


def _check_version(data: dict[str, Any], path: Path) -> None:
    found = data.get("schema_version")
    try:
        major, minor = (int(part) for part in str(found).split("."))
    except ValueError:
        raise AuditError(f"{path} has the unknown schema version {found!r}") from None
    ours = tuple(int(part) for part in SCHEMA_VERSION.split("."))
    if (major, minor) > ours:
        raise AuditError(
            f"{path} was written by a newer version (schema {found}, here {SCHEMA_VERSION}); update this one"
        )
    if major < ours[0]:
        raise AuditError(
            f"{path} was written by an older version (schema {found}, here {SCHEMA_VERSION}); run it again"
        )


def _load(model: type[_Model], data: dict[str, Any], path: Path, what: str) -> _Model:
    _check_version(data, path)
    try:
        return model.model_validate_json(json.dumps(data))
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise AuditError(f"{path} is not {what}, or damaged: {where}: {first['msg']}") from None
