"""The families of rules with their state: where this program stands, at one look."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from auditor.result import Audit, Outcome

from . import clean
from .words import plural

_NAMES = {
    "init": "Initialization", "loss": "Loss", "model": "Model", "data": "Data", "gradients": "Gradients",
    "optimizer": "Optimizer and schedule", "activations": "Activations", "sequence": "Sequences",
    "precision": "Precision", "evaluation": "Evaluation", "leakage": "Leakage", "learning": "Learning",
    "distributed": "Several processes", "efficiency": "Time and memory", "reproducibility": "Reproducibility",
}  # fmt: skip
_ORDER = ("error", "warning", "note", "pass", "inconclusive", "not-applicable")


@dataclass(frozen=True)
class Category:
    """One family: its worst state, and a few words on it."""

    name: str
    kind: str
    words: str


def states(audit: Audit) -> list[Category]:
    """Every family that was judged, the worst first."""
    found: dict[str, Counter[str]] = {}
    for verdict in audit.verdicts:
        counts = found.setdefault(verdict.family, Counter())
        counts[verdict.outcome.value] += verdict.outcome is not Outcome.FAIL
    for finding in audit.findings:
        found.setdefault(finding.family, Counter())[finding.severity.value] += 1
    made = [_category(family, counts) for family, counts in found.items() if family and counts.total()]
    return sorted(made, key=lambda category: (_ORDER.index(category.kind), category.name))


def _category(family: str, counts: Counter[str]) -> Category:
    faults = [plural(counts[kind], kind) for kind in ("error", "warning", "note") if counts[kind]]
    kind = next((kind for kind in _ORDER if counts[kind]), "inconclusive")
    parts = faults + ([f"{counts['pass']} passed"] if counts["pass"] else [])
    if counts["inconclusive"] and not faults:
        parts.append(f"{counts['inconclusive']} inconclusive")
    if not parts:
        parts = ["not applicable" if kind == "not-applicable" else "undecided"]
    return Category(clean.name(_NAMES.get(family, family.replace("-", " ").capitalize()), 40), kind, ", ".join(parts))
