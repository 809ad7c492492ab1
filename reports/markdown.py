"""The report for a pull request: a verdict, a table, and one foldable section a finding."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from auditor.compare import Difference
from auditor.result import Audit, Outcome, ReportedFinding, SourceLine, Verdict

from . import clean, configuration, difference_markdown, gauge, markdown_fix, story, words
from .inert import details, fenced, html, inert, labelled, prose, sentence, ticked
from .portable import portable

FORMAT = "markdown"
SUFFIXES = (".md",)

LIMIT = 60_000  # GitHub refuses comments above 65,536 characters
_RESERVE = 1_500
_MOST_ROWS = 40
_DETAILS, _OTHER = "finding's details", "other section"
_MANY = {_DETAILS: "findings' details", _OTHER: "other sections"}

_SIGNS = {
    "error": "✖",
    "warning": "⚠",
    "note": "•",
    "pass": "✔",
    "not-applicable": "–",
    "inconclusive": "?",
    "broken": "✖",
}
_VERDICTS = {"not-ready": "✖", "caution": "⚠", "ready": "✔", "inconclusive": "?"}


def render(audit: Audit, *, difference: Difference | None = None) -> str:
    """The report, at most 60,000 characters; what does not fit is counted. With a difference, what is new is marked."""
    audit, difference = portable(audit, difference)
    page = ""
    left_out: Counter[str] = Counter()
    for kind, section in _sections(audit, difference):
        if len(page) + len(section) + 2 > LIMIT - _RESERVE:
            left_out[kind] += 1
        else:
            page += section.strip("\n") + "\n\n"
    if left_out:
        counted = [words.plural(left_out[kind], kind, _MANY[kind]) for kind in (_DETAILS, _OTHER) if left_out[kind]]
        page += f"*Left out here for want of room: {' and '.join(counted)}; the other formats have all.*\n\n"
    tool = f"{inert(audit.tool.name, 40)} {inert(audit.tool.version, 20)}"
    return page + f"<sub>{tool} · {inert(story.effort(audit))}</sub>\n"


def _sections(audit: Audit, difference: Difference | None) -> Iterator[tuple[str, str]]:
    """(what it is, Markdown) of each section, in the order of importance."""
    groups = story.groups(audit)
    yield from ((_OTHER, part) for part in _top(audit, groups, difference))
    yield from ((_DETAILS, _finding(audit, group)) for group in groups)
    yield from ((_OTHER, part) for part in _rest(audit))


def _top(audit: Audit, groups: list[story.Group], difference: Difference | None) -> Iterator[str]:
    # The marker lets a bot find its own comment again. A hash, because a file name could end the HTML comment.
    yield f"<!-- training-auditor:{hashlib.sha256(audit.run.target.encode('utf-8', 'replace')).hexdigest()[:12]} -->"
    found = story.conclusion(audit)
    yield f"## {_VERDICTS[found.kind]} {inert(found.sentence)}"
    yield _facts(audit)
    yield _counts(audit)
    if audit.run.crash:
        yield _crash(audit)
    if groups:
        yield _table(groups, difference)
    if audit.together is not None:
        yield markdown_fix.together(audit.together)
    if difference is not None:
        yield from difference_markdown.since(difference)


def _rest(audit: Audit) -> Iterator[str]:
    yield from _folded("Passed", audit, Outcome.PASS)
    yield from _folded("Not applicable", audit, Outcome.NOT_APPLICABLE)
    yield from _folded("Inconclusive", audit, Outcome.INCONCLUSIVE)
    yield from _folded("Rules that failed", audit, Outcome.ERROR)
    yield from _suppressed(audit)
    yield from _configuration(audit)
    yield from _asides(audit)


def _facts(audit: Audit) -> str:
    run = audit.run
    if run.source_only:
        return ticked(words.command(run), 200)
    facts = [
        ticked(words.command(run), 200),
        words.plural(run.steps, "step") + f" in {words.seconds(run.seconds)}",
        f"overhead {words.overhead(run.overhead)}" if run.overhead is not None else "",
        inert(run.device, 40),
        f"torch {inert(run.torch, 40)}" if run.torch else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def _counts(audit: Audit) -> str:
    return " · ".join(f"{_SIGNS.get(kind, '○')} {text}" for kind, _, text in words.counts(audit.summary))


def _crash(audit: Audit) -> str:
    crash = audit.run.crash
    assert crash is not None
    where = f" at {ticked(words.place(crash.location))}" if crash.location else ""
    text = f"**The script ended with {inert(crash.name, 80)}**{where}: {inert(crash.message)}"
    rows = clean.lines(crash.traceback, most=30, limit=200)
    return f"{text}\n\n{fenced(rows, 'text')}" if rows else text


def _table(groups: list[story.Group], difference: Difference | None) -> str:
    findings = [
        (finding, finding is not group.cause) for group in groups for finding in (group.cause, *group.consequences)
    ]
    rows = ["| | rule | finding | where | measured | limit |", "|---|---|---|---|---:|---:|"]
    for finding, follows in findings[:_MOST_ROWS]:
        cells = (
            f"{_SIGNS[finding.severity]} {finding.severity}",
            ("↳ " if follows else "") + _called(finding) + _mark(finding, difference),
            sentence(finding.message, 240),
            ticked(words.place(finding.location)) or ticked(finding.where),
            words.number(finding.measured),
            words.number(finding.limit),
        )
        rows.append("| " + " | ".join(cells) + " |")
    if len(findings) > _MOST_ROWS:
        rows.append(f"| | | and {words.plural(len(findings) - _MOST_ROWS, 'more finding')} | | | |")
    return "\n".join(rows)


def _mark(finding: ReportedFinding, difference: Difference | None) -> str:
    if difference is None:
        return ""
    return " · **new**" if difference.is_new(finding) else " · changed" if difference.change_of(finding) else ""


def _called(said: ReportedFinding | Verdict) -> str:
    return f"**{inert(said.code, 16)}** {inert(said.rule, 60)}"


def one(audit: Audit, group: story.Group) -> str:
    """A finding by itself, unfolded: for an issue or a chat."""
    finding = group.cause
    title = f"### {_SIGNS[finding.severity]} {finding.severity} {_called(finding)} · {story.sure(finding)}"
    return "\n\n".join(part.strip("\n") for part in (title, *_body(audit, group)) if part) + "\n"


def _finding(audit: Audit, group: story.Group) -> str:
    finding = group.cause
    title = (
        f"{_SIGNS[finding.severity]} {finding.severity} · <b>{html(finding.code, 16)}</b> {html(finding.rule, 60)}"
        f" · {story.sure(finding)}"
    )
    return details(title, "\n\n".join(part for part in _body(audit, group) if part))


def _body(audit: Audit, group: story.Group) -> Iterator[str]:
    finding = group.cause
    yield sentence(finding.message)
    yield prose(finding.why)
    yield _evidence(audit, finding)
    if finding.location:
        yield ticked(words.place(finding.location), 140)
        yield _frame(finding.source, finding.location.line)
    yield from markdown_fix.parts(audit.run, finding.fix)
    if finding.doubt:
        yield labelled("When this may be wrong.", finding.doubt)
    if group.consequences:
        yield details(inert(story.consequences(group)), "\n".join(_consequences(group)))


def _consequences(group: story.Group) -> Iterator[str]:
    """A list item a consequence: what was seen, and what would be done about it alone."""
    for finding in group.consequences[:_MOST_ROWS]:
        said = f"- {_SIGNS[finding.severity]} {_called(finding)}: {sentence(finding.message)}"
        between = story.step_between(finding, group.cause)
        evidence = [
            f"by way of {inert(between)}" if between else "",
            f"measured {words.measured(finding.measured, finding.limit)}" if finding.measured is not None else "",
            words.since(finding.since),
            ticked(words.place(finding.location), 140),
        ]
        yield f"{said} ({', '.join(part for part in evidence if part)})" if any(evidence) else said
    if len(group.consequences) > _MOST_ROWS:
        yield f"- and {len(group.consequences) - _MOST_ROWS} more"


def _evidence(audit: Audit, finding: ReportedFinding) -> str:
    measured, since = words.measured(finding.measured, finding.limit), words.since(finding.since)
    seen = [f"measured {measured}" if measured else "", since if measured or not since else f"there {since}"]
    rows = ["- " + ", ".join(part for part in seen if part)] if any(seen) else []
    if scale := gauge.row(finding.measured, finding.limit):
        rows[0] = f"- `{scale}` {rows[0].removeprefix('- ')}"
    numbers = story.series(finding, audit.evidence)
    if numbers:
        tail = f" {words.ends(numbers.values)}" if numbers.ordered else ""
        rows.append(f"- {numbers.label} `{words.sparkline(numbers.values)}`{tail}")
    rows += [f"- {sentence(detail, 300)}" for detail in finding.detail[:8]]
    return "\n".join(rows)


def _frame(source: tuple[SourceLine, ...], marked: int) -> str:
    if not source:
        return ""
    gutter = len(str(max(row.number for row in source)))
    rows = story.dedent([clean.code(row.text, 160) for row in source])
    return fenced(
        (f"{'>' if row.number == marked else ' '} {row.number:>{gutter}}  {text}".rstrip()
         for row, text in zip(source, rows, strict=True)),
        "text",
    )  # fmt: skip


def _folded(title: str, audit: Audit, outcome: Outcome) -> Iterator[str]:
    verdicts = story.outcomes(audit, outcome)
    if not verdicts:
        return
    rows = []
    for verdict in verdicts[: 3 * _MOST_ROWS]:
        said = [words.measured(verdict.measured, verdict.limit), sentence(verdict.reason, 240)]
        rows.append(f"- {_called(verdict)}" + "".join(f" · {part}" for part in said if part))
    if len(verdicts) > len(rows):
        rows.append(f"- and {len(verdicts) - len(rows)} more")
    yield details(f"{title} ({len(verdicts)})", "\n".join(rows))


def _suppressed(audit: Audit) -> Iterator[str]:
    if audit.suppressed:
        rows = (
            f"- {_called(waived.finding)}, by {waived.by}: {sentence(waived.reason, 240) or 'no reason given'}"
            for waived in audit.suppressed[:_MOST_ROWS]
        )
        yield details(f"Suppressed ({len(audit.suppressed)})", "\n".join(rows))


def _configuration(audit: Audit) -> Iterator[str]:
    """Only what was changed: the rest is in the other formats."""
    changed = configuration.changed(audit)
    if changed:
        yield details("Configuration", "\n".join(f"- {sentence(each, 240)}" for each in changed[:_MOST_ROWS]))


def _asides(audit: Audit) -> Iterator[str]:
    rows = [f"- diverted, your own file was left alone: {ticked(file)}" for file in audit.run.diverted[:_MOST_ROWS]]
    rows += [f"- {sentence(note, 300)}" for note in (*audit.run.notes, *audit.notes)[:_MOST_ROWS]]
    if rows:
        yield details("Notes", "\n".join(rows))
