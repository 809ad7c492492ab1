"""The configuration in force: what the run was asked for, what it was judged by, and the limits that were changed."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.evidence import Asked
from auditor.result import Audit, Judging

from . import clean, words
from .page import Grid, grid

_MOST_WAIVERS = 50


def settings(audit: Audit) -> Iterator[tuple[str, str]]:
    """(setting, value), as the options and the configuration file call them."""
    if audit.run.asked is not None:
        yield from _asked(audit.run.asked)
    if audit.judged_by is not None:
        yield from _judging(audit.judged_by)


def _asked(asked: Asked) -> Iterator[tuple[str, str]]:
    yield "steps", words.plural(asked.steps, "step")
    yield "look-on", words.plural(asked.look_on, "step")
    yield "max-time", words.seconds(asked.max_time)
    yield "batch-memory", f"{asked.batch_memory:,} MB"
    if asked.group_key:
        yield "group-key", asked.group_key
    yield "experiments", _yes(asked.experiments)
    yield "trials of fixes", _yes(asked.trials)
    yield "side-effects", {"divert": "diverted", "allow": "allowed"}[asked.side_effects]
    yield "samples in reports", _yes(asked.samples)
    yield "device, for files without a loop", asked.device


def _judging(judging: Judging) -> Iterator[tuple[str, str]]:
    yield "select", words.listed([clean.name(each, 60) for each in judging.select], 12)
    yield "fail-on", judging.fail_on.value if judging.fail_on else "never"
    for waiver in judging.ignore[:_MOST_WAIVERS]:
        yield f"ignore {clean.name(waiver.rule, 60)}", clean.line(waiver.reason, 100) or "no reason given"
    if len(judging.ignore) > _MOST_WAIVERS:
        yield "ignore", f"{len(judging.ignore) - _MOST_WAIVERS} more"
    if not judging.limits:
        yield "limits", "each rule's own"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def limits(audit: Audit) -> Grid | None:
    """The limits that are not the rules' own."""
    changed = audit.judged_by.limits if audit.judged_by else ()
    rows = ((f"{each.code} {each.rule}", each.name, each.value, each.default) for each in changed)
    return grid("Changed limits", ("rule", "limit", "value", "the rule's own"), rows, (2, 3))


def changed(audit: Audit) -> list[str]:
    """What differs from the defaults, a sentence each."""
    asked, judging = audit.run.asked, audit.judged_by
    found = []
    if asked is not None and not asked.experiments:
        found.append("no experiments")
    elif asked is not None and not asked.trials:
        found.append("no trials of fixes")
    if judging is not None and judging.select != ("ALL",):
        found.append(f"judged by {words.listed(list(judging.select), 12)} only")
    for each in judging.limits if judging is not None else ():
        found.append(f"{each.code} {each.rule}: `{each.name}` is {each.value}, by default {each.default}")
    return found
