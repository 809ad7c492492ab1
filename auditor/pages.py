"""The list of rules, and one rule's page."""

from __future__ import annotations

import json
from collections.abc import Sequence

from auditor.declare import Rule
from auditor.remedywords import describe

FORMATS = ("text", "json", "markdown")
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def listing(rules: Sequence[Rule], format: str, *, color: bool = False, width: int = 100) -> str:
    if format == "json":
        return json.dumps([_facts(rule) for rule in rules], indent=2, ensure_ascii=False)
    if format == "markdown":
        head = ["| Code | Name | Severity | What it finds |", "|---|---|---|---|"]
        rows = [
            f"| {r.code} | {r.name} | {r.severity.value} | {r.summary.replace('|', chr(92) + '|')} |" for r in rules
        ]
        return "\n".join(head + rows)
    return "\n".join(_table(rules, color, width)) or "no rule is selected"


def _table(rules: Sequence[Rule], color: bool, width: int) -> list[str]:
    lines: list[str] = []
    wide = max((len(rule.name) for rule in rules), default=0)
    family = ""
    for rule in sorted(rules, key=lambda rule: (rule.family, rule.code)):
        if rule.family != family:
            family = rule.family
            lines += [""] * bool(lines) + [_styled(family, _BOLD, color)]
        start = f"  {rule.code}  {rule.name:<{wide}}  {rule.severity.value:<7}  "
        lines.append(start + _shortened(rule.summary, max(20, width - len(start))))
    return lines


def _facts(rule: Rule) -> dict[str, object]:
    return {
        "code": rule.code,
        "name": rule.name,
        "family": rule.family,
        "severity": rule.severity.value,
        "summary": rule.summary,
        "fix": rule.fix,
        "needs": [need.evidence for need in rule.needs if need.required],
        "explains": list(rule.explains),
        "remedies": [remedy.kind.value for remedy in rule.remedies],
        "limits": {name: default for name, default, _ in _limits(rule)},
        "references": list(rule.references),
    }


def page(rule: Rule, *, color: bool = False) -> str:
    """The rule's page: Markdown, which is plain enough to read as it is; headings are bold with `color`."""
    limits = [f"- `{name} = {json.dumps(default)}`: {text}" for name, default, text in _limits(rule)]
    parts = [f"# {rule.code} {rule.name} ({rule.severity.value})", rule.page, "## Fix in short", rule.fix]
    parts += ["## What the audit tries on your loop", trial_of(rule)]
    if limits:
        parts += ["## Limits", f"In the configuration, below `[tool.auditor.limits.{rule.name}]`:", "\n".join(limits)]
    if rule.explains:
        parts += ["## Explains", "\n".join(f"- `{name}`" for name in rule.explains)]
    if rule.references:
        parts += ["## References", "\n".join(f"- {reference}" for reference in rule.references)]
    waiver = f"In the source, on the line: `# audit: ignore[{rule.code}] why it is fine here`"
    text = "\n\n".join([*parts, "## To waive it", waiver])
    return "\n".join(_styled(line, _BOLD, color and line.startswith("#")) for line in text.splitlines())


def trial_of(rule: Rule) -> str:
    """Which remedies are tried for the rule's findings, or that none is."""
    if not rule.remedies:
        return "Nothing: no change of single steps shows whether this is cured."
    return "; ".join(describe([remedy]) for remedy in rule.remedies) + "."


def _limits(rule: Rule) -> list[tuple[str, object, str]]:
    return [
        (field.alias or name, field.default, field.description or "")
        for name, field in rule.limits.model_fields.items()
    ]


def _styled(text: str, style: str, color: bool) -> str:
    return f"{style}{text}{_PLAIN}" if color else text


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
