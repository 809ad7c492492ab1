"""Writes README.md of this folder from the rules themselves: `python -m auditor.rules.catalogue > rules/README.md`."""

from __future__ import annotations

from itertools import groupby

from auditor.declare import Rule
from auditor.registry import rules
from auditor.remedywords import describe

HEAD = """# The rules

One folder a family, one file a rule. A file holds everything about its rule: limits, judgement and, as the docstring of
the function, its page. `audit explain RULE` shows the page, `audit rules` lists the rules.

Findings are `confirmed` where an identity or an experiment with the program as its own control proved them, `suspected`
where a statistic did. *Tries* names the remedies that are tried on the user's own loop, against the replayed loop as it
is; `audit fix` writes one that helped into the source, where that is mechanical. *Explains* names rules whose findings
are taken for consequences and shown below the cause.

## Adding a rule

1. Write `rules/<family>/<rule_name>.py` like its neighbours. Ask for evidence by annotating a parameter with its part;
   `Part | None` is optional. Raise `NotApplicable` or `Inconclusive` with a reason a user understands.
2. Yield `Measured` before any `Finding`, so that a passed rule shows its value too.
3. Try it with `auditor.testing.judge("rule-name", part, ...)`, and add `fixtures/<family>/<rule_name>/{bad,good}.py`.
4. Refresh this page: `python -m auditor.rules.catalogue > rules/README.md`.
"""


def _limits(rule: Rule) -> str:
    fields = rule.limits.model_fields
    return ", ".join(f"`{field.alias or name} = {field.default}`" for name, field in fields.items()) or "none"


def _entry(rule: Rule) -> str:
    needs = [need.evidence.replace("_", " ") + ("" if need.required else " (optional)") for need in rule.needs]
    lines = [
        f"### {rule.code} {rule.name}",
        "",
        rule.summary,
        "",
        f"- severity: {rule.severity}",
        f"- needs: {', '.join(needs)}",
        f"- limits: {_limits(rule)}",
    ]
    if rule.remedies:
        lines.append(f"- tries: {'; '.join(describe([remedy]) for remedy in rule.remedies)}")
    if rule.explains:
        lines.append(f"- explains: {', '.join(rule.explains)}")
    return "\n".join(lines)


def render() -> str:
    """The catalogue of the built-in rules in Markdown."""
    own = sorted(
        (rule for rule in rules() if rule.function.__module__.startswith(__package__ + ".")),
        key=lambda rule: (rule.family, rule.code),
    )
    sections = [HEAD.rstrip()]
    for family, members in groupby(own, key=lambda rule: rule.family):
        sections.append(f"## {family.capitalize()}")
        sections.extend(_entry(rule) for rule in members)
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    print(render(), end="")
