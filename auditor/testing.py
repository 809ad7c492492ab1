"""For authors of rules: build the little evidence a rule needs, and judge that one rule on it.

answer = judge("missing-zero-grad", GradientResets(optimizers=(...,)))
assert answer.verdict.outcome == "fail"
assert answer.findings[0].confidence == "confirmed"
"""

from __future__ import annotations

from typing import Any, Literal

from auditor.config import Settings
from auditor.declare import Rule
from auditor.evidence import Absence, Evidence, Location, Part, Run, part_types
from auditor.judge import Answer, ask
from auditor.registry import find


def place(line: int = 1, file: str = "train.py", function: str = "") -> Location:
    """A location in a script that need not exist."""
    return Location(file=file, line=line, function=function)


def evidence(*parts: Part, absent: dict[str, Absence] | None = None) -> Evidence:
    """Evidence made of these parts; a Run is supplied when none is given.

    Raises TypeError for something that is no part, and for two parts of one type.
    """
    fields = {part: name for name, part in part_types().items()}
    given: dict[str, Any] = {}
    for part in parts:
        if type(part) not in fields:
            raise TypeError(f"{type(part).__name__} is no part of the evidence")
        if fields[type(part)] in given:
            raise TypeError(f"two parts of type {type(part).__name__}")
        given[fields[type(part)]] = part
    given.setdefault("run", Run(target="train.py", steps=60))
    return Evidence(**given, absent=absent or {})


def judge(rule: Rule | str, *parts: Part, limits: dict[str, Any] | None = None) -> Answer:
    """The rule's answer to these parts, with its default limits unless some are given as in the configuration."""
    chosen = rule if isinstance(rule, Rule) else _only(rule)
    settings = Settings(limits={chosen.name: limits}) if limits else Settings()
    return ask(chosen, evidence(*parts), settings)


def absence(outcome: Literal["not-applicable", "inconclusive"], reason: str) -> Absence:
    """Why a part is missing, to be given to `evidence(..., absent={'labels': absence(...)})`."""
    return Absence(outcome=outcome, reason=reason)


def _only(name: str) -> Rule:
    found = find(name)
    if len(found) != 1:
        raise LookupError(f"{name!r} means {len(found)} rules")
    return found[0]
