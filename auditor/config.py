"""Settings: `[tool.auditor]` in pyproject.toml or auditor.toml, strict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from auditor.declare import Options, Rule, Severity
from auditor.registry import find
from auditor.result import ReportedFinding
from auditor.spec import DEFAULT_MAX_TIME, DEFAULT_STEPS


class Ignore(BaseModel):
    """One waived rule, everywhere or at places that match `where`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    reason: str = ""


class Settings(BaseModel):
    """Everything the configuration can set; the command line overrides it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    steps: int = Field(DEFAULT_STEPS, ge=1)
    max_time: float = Field(DEFAULT_MAX_TIME, alias="max-time", gt=0)
    select: tuple[str, ...] = ("ALL",)
    ignore: tuple[Ignore, ...] = ()
    fail_on: Severity | None = Field(Severity.ERROR, alias="fail-on")
    limits: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def selected(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        known = tuple(rules)
        chosen = {rule.code for selector in self.select for rule in find(selector, known)}
        return tuple(rule for rule in known if rule.code in chosen)

    def limits_of(self, rule: Rule) -> Options:
        return rule.limits.model_validate(self.limits.get(rule.name, self.limits.get(rule.code, {})))

    def ignore_reason(self, finding: ReportedFinding) -> str | None:
        """The reason given for waiving this finding, None when it is not waived."""
        for entry in self.ignore:
            if entry.rule in (finding.rule, finding.code) or finding.code.startswith(entry.rule):
                return entry.reason
        return None
