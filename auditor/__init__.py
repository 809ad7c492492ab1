"""Audit a PyTorch training script before its long run: `audit run train.py`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout, the folders rules/ and reports/ lie beside this one; installed, they lie inside it.
_CHECKOUT = Path(__file__).resolve().parents[1]
if (_CHECKOUT / "pyproject.toml").is_file():
    __path__.append(str(_CHECKOUT))

__version__ = "0.1.0"

# Public names and where they live. They are imported on first use, so that `audit --help` stays fast.
_PUBLIC = {
    "Audit": "auditor.result",
    "Evidence": "auditor.evidence",
    "Finding": "auditor.declare",
    "Inconclusive": "auditor.declare",
    "Measured": "auditor.declare",
    "NotApplicable": "auditor.declare",
    "Options": "auditor.declare",
    "Severity": "auditor.declare",
    "Target": "auditor.target",
    "audit": "auditor.session",
    "load": "auditor.saved",
    "rule": "auditor.declare",
}
__all__ = [
    "Audit",
    "Evidence",
    "Finding",
    "Inconclusive",
    "Measured",
    "NotApplicable",
    "Options",
    "Severity",
    "Target",
    "audit",
    "load",
    "rule",
]

if TYPE_CHECKING:
    from auditor.declare import Finding as Finding
    from auditor.declare import Inconclusive as Inconclusive
    from auditor.declare import Measured as Measured
    from auditor.declare import NotApplicable as NotApplicable
    from auditor.declare import Options as Options
    from auditor.declare import Severity as Severity
    from auditor.declare import rule as rule
    from auditor.evidence import Evidence as Evidence
    from auditor.result import Audit as Audit
    from auditor.saved import load as load
    from auditor.session import audit as audit
    from auditor.target import Target as Target


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")
