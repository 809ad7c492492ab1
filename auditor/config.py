"""Settings: `[tool.auditor]` in pyproject.toml or auditor.toml, strict."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from auditor.declare import Options, Rule, Severity
from auditor.registry import find
from auditor.result import ReportedFinding
from auditor.spec import DEFAULT_BATCH_MEMORY, DEFAULT_LOOK_ON, DEFAULT_MAX_TIME, DEFAULT_STEPS

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)")
_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: object) -> object:
    """'90', '90s', '5m' or '1h' in seconds; anything but text is returned as it is. Raises ValueError."""
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a time; write seconds (120), or 90s, 5m, 1h")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def _threshold(value: object) -> object:
    return None if value == "never" else value


class Ignore(BaseModel):
    """One waived rule, by name, code or code prefix, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    reason: str = ""

    def waives(self, finding: ReportedFinding) -> bool:
        wanted = self.rule.upper()
        return wanted == "ALL" or finding.rule.upper() == wanted or finding.code.startswith(wanted)


class Settings(BaseModel):
    """Everything the configuration can set; the command line overrides it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    steps: int = Field(default=DEFAULT_STEPS, ge=1, strict=True)
    look_on: int = Field(
        default=DEFAULT_LOOK_ON, alias="look-on", ge=0, strict=True
    )  # further steps, for what comes late
    trials: bool = True  # of the remedies for what is found
    max_time: Annotated[float, BeforeValidator(seconds)] = Field(
        default=DEFAULT_MAX_TIME, alias="max-time", gt=0, allow_inf_nan=False
    )
    batch_memory: int = Field(default=DEFAULT_BATCH_MEMORY, alias="batch-memory", ge=1, strict=True)
    group_key: str = Field(default="", alias="group-key")  # the field or attribute that tells whose sample it is
    select: tuple[str, ...] = ("ALL",)
    ignore: tuple[Ignore, ...] = ()
    fail_on: Annotated[Severity | None, BeforeValidator(_threshold)] = Field(default=Severity.ERROR, alias="fail-on")
    limits: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def selected(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """The rules to judge by. Raises UnknownRule for a selector that names none."""
        known = tuple(rules)
        chosen = {rule.code for selector in self.select for rule in find(selector, known)}
        return tuple(rule for rule in known if rule.code in chosen)

    def limits_of(self, rule: Rule) -> Options:
        return rule.limits.model_validate(self.limits.get(rule.name, self.limits.get(rule.code, {})))

    def ignore_reason(self, finding: ReportedFinding) -> str | None:
        """The reason given for waiving this finding, None when it is not waived."""
        return next((entry.reason for entry in self.ignore if entry.waives(finding)), None)
