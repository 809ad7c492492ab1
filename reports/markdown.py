"""The report for a pull request: a verdict, a table, and one foldable section a finding."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from auditor.result import Audit, Outcome, ReportedFinding, SourceLine, Verdict

from . import clean, story, words

FORMAT = "markdown"
SUFFIXES = (".md",)

LIMIT = 60_000  # GitHub refuses comments above 65,536 characters
_RESERVE = 1_500
_MOST_ROWS = 40

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


def render(audit: Audit) -> str:
    """The report, at most 60,000 characters; what does not fit is counted."""
    page, left_out = "", 0
    for section in _sections(audit):
        if len(page) + len(section) + 2 > LIMIT - _RESERVE:
            left_out += 1
        else:
            page += section.strip("\n") + "\n\n"
    if left_out:
        page += f"*{words.plural(left_out, 'section')} left out here for want of room; the other formats have all.*\n\n"
    tool = f"{_inert(audit.tool.name, 40)} {_inert(audit.tool.version, 20)}"
    return page + f"<sub>{tool} · {_inert(story.effort(audit))}</sub>\n"


def _sections(audit: Audit) -> Iterator[str]:
    # The marker lets a bot find its own comment again. A hash, because a file name could end the HTML comment.
    yield f"<!-- training-auditor:{hashlib.sha256(audit.run.target.encode('utf-8', 'replace')).hexdigest()[:12]} -->"
    found = story.conclusion(audit)
    yield f"## {_VERDICTS[found.kind]} {_inert(found.sentence)}"
    yield _facts(audit)
    yield _counts(audit)
    if audit.run.crash:
        yield _crash(audit)
    groups = story.groups(audit)
    if groups:
        yield _table(groups)
    for group in groups:
        yield _finding(audit, group)
    yield from _folded("Passed", audit, Outcome.PASS)
    yield from _folded("Not applicable", audit, Outcome.NOT_APPLICABLE)
    yield from _folded("Inconclusive", audit, Outcome.INCONCLUSIVE)
    yield from _folded("Rules that failed", audit, Outcome.ERROR)
    yield from _suppressed(audit)
    yield from _asides(audit)


# ---------------------------------------------------------------------------------------------------------- escaping

_SPECIAL = re.compile(r"([\\`*_\[\]|~$]|^[-+=])")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_LINKING = re.compile(r"[@#]|://|\bwww\.|\bGH-", re.IGNORECASE)
_SPAN = re.compile(r"(`[^`\n]+`)")


def _html(text: str, limit: int = clean.LONGEST_SENTENCE) -> str:
    """Observed text that opens no HTML, links to nothing and pings nobody."""
    text = clean.line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A host looks for mentions and links in the rendered text, so an entity for @ would not do; a space of no width
    # in or after it does.
    return _LINKING.sub(lambda found: f"{found[0][:1]}&#8203;{found[0][1:]}", text)


def _inert(text: str, limit: int = clean.LONGEST_SENTENCE) -> str:
    """The same where Markdown is read: it formats nothing and breaks no table."""
    return _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", _html(text, limit)))


def _ticked(text: str, limit: int = clean.LONGEST_NAME) -> str:
    """Observed text as a code span."""
    text = clean.line(text, limit)
    if not text:
        return ""
    return f"<code>{_inert(text, limit)}</code>" if set(text) & set("`|\\@") else f"`{text}`"


def _sentence(text: str, limit: int = clean.LONGEST_SENTENCE) -> str:
    """One paragraph in which `code` may stand; everything else is inert."""
    parts = []
    for part in _SPAN.split(clean.line(text, limit)):
        if _SPAN.fullmatch(part):
            parts.append(_ticked(part.strip("`"), 200))
        elif part:
            around = (" " if part[0] == " " else "", " " if part[-1] == " " and part.strip() else "")
            parts.append(around[0] + _inert(part, limit) + around[1])
    return "".join(parts)


def _prose(markdown: str) -> str:
    """A rule's page: paragraphs, lists, bold and code stay; HTML, links, images and mentions do not."""
    return "\n\n".join(_paragraph(block) for block in story.blocks(markdown))


def _paragraph(block: story.Block) -> str:
    if block.code:
        return _fenced(block.text.splitlines(), "python")
    bullet = block.text.startswith(("- ", "* "))
    return ("- " if bullet else "") + _sentence(block.text[2 * bullet :], 1200).replace("\\*", "*")


def _fenced(rows: Iterable[str], language: str) -> str:
    rows = list(rows)
    longest = max((len(run) for row in rows for run in re.findall(r"`+", row)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence + language, *rows, fence])


def _details(summary: str, body: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


# ---------------------------------------------------------------------------------------------------------- sections


def _facts(audit: Audit) -> str:
    run = audit.run
    if run.source_only:
        return _ticked(words.command(run), 200)
    facts = [
        _ticked(words.command(run), 200),
        words.plural(run.steps, "step") + f" in {words.seconds(run.seconds)}",
        f"overhead {words.number(run.overhead)}×" if run.overhead is not None else "",
        _inert(run.device, 40),
        f"torch {_inert(run.torch, 40)}" if run.torch else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def _counts(audit: Audit) -> str:
    return " · ".join(f"{_SIGNS.get(kind, '○')} {text}" for kind, _, text in words.counts(audit.summary))


def _crash(audit: Audit) -> str:
    crash = audit.run.crash
    assert crash is not None
    where = f" at {_ticked(words.place(crash.location))}" if crash.location else ""
    text = f"**The script ended with {_inert(crash.name, 80)}**{where}: {_inert(crash.message)}"
    rows = clean.lines(crash.traceback, most=30, limit=200)
    return f"{text}\n\n{_fenced(rows, 'text')}" if rows else text


def _table(groups: list[story.Group]) -> str:
    findings = [
        (finding, finding is not group.cause) for group in groups for finding in (group.cause, *group.consequences)
    ]
    rows = ["| | rule | finding | where | measured | limit |", "|---|---|---|---|---:|---:|"]
    for finding, follows in findings[:_MOST_ROWS]:
        cells = (
            f"{_SIGNS[finding.severity]} {finding.severity}",
            ("↳ " if follows else "") + _called(finding),
            _sentence(finding.message, 240),
            _ticked(words.place(finding.location)) or _ticked(finding.where),
            words.number(finding.measured),
            words.number(finding.limit),
        )
        rows.append("| " + " | ".join(cells) + " |")
    if len(findings) > _MOST_ROWS:
        rows.append(f"| | | and {words.plural(len(findings) - _MOST_ROWS, 'more finding')} | | | |")
    return "\n".join(rows)


def _called(said: ReportedFinding | Verdict) -> str:
    return f"**{_inert(said.code, 16)}** {_inert(said.rule, 60)}"


def _finding(audit: Audit, group: story.Group) -> str:
    finding = group.cause
    title = (
        f"{_SIGNS[finding.severity]} {finding.severity} · <b>{_html(finding.code, 16)}</b> {_html(finding.rule, 60)}"
        f" · {finding.confidence}"
    )
    return _details(title, "\n\n".join(part for part in _body(audit, group) if part))


def _body(audit: Audit, group: story.Group) -> Iterator[str]:
    finding = group.cause
    yield _sentence(finding.message)
    yield _prose(finding.why)
    yield _evidence(audit, finding)
    if finding.location:
        yield _ticked(words.place(finding.location), 140)
        yield _frame(finding.source, finding.location.line)
    yield "**Fix.** " + _prose(finding.fix.text)
    if finding.fix.diff:
        yield _fenced(clean.lines(finding.fix.diff, limit=200), "diff")
    if finding.fix.trial:
        yield f"**Tried on this loop.** {_inert(_capital(story.trial(finding.fix.trial)))}"
    if finding.doubt:
        yield "**When this may be wrong.** " + _prose(finding.doubt)
    for consequence in group.consequences:
        yield f"↳ {_SIGNS[consequence.severity]} {_called(consequence)}: {_sentence(consequence.message)}"


def _evidence(audit: Audit, finding: ReportedFinding) -> str:
    rows = []
    if finding.measured is not None:
        rows.append(f"- measured {words.measured(finding.measured, finding.limit)}")
    numbers = story.series(finding, audit.evidence)
    if numbers:
        tail = f" {words.ends(numbers.values)}" if numbers.ordered else ""
        rows.append(f"- {numbers.label} `{words.sparkline(numbers.values)}`{tail}")
    rows += [f"- {_sentence(detail, 300)}" for detail in finding.detail[:8]]
    return "\n".join(rows)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _frame(source: tuple[SourceLine, ...], marked: int) -> str:
    if not source:
        return ""
    gutter = len(str(max(row.number for row in source)))
    rows = story.dedent([clean.code(row.text, 160) for row in source])
    return _fenced(
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
        said = [words.measured(verdict.measured, verdict.limit), _sentence(verdict.reason, 240)]
        rows.append(f"- {_called(verdict)}" + "".join(f" · {part}" for part in said if part))
    if len(verdicts) > len(rows):
        rows.append(f"- and {len(verdicts) - len(rows)} more")
    yield _details(f"{title} ({len(verdicts)})", "\n".join(rows))


def _suppressed(audit: Audit) -> Iterator[str]:
    if audit.suppressed:
        rows = (
            f"- {_called(waived.finding)}, by {waived.by}: {_sentence(waived.reason, 240) or 'no reason given'}"
            for waived in audit.suppressed[:_MOST_ROWS]
        )
        yield _details(f"Suppressed ({len(audit.suppressed)})", "\n".join(rows))


def _asides(audit: Audit) -> Iterator[str]:
    rows = [f"- diverted, your own file was left alone: {_ticked(file)}" for file in audit.run.diverted[:_MOST_ROWS]]
    rows += [f"- {_sentence(note, 300)}" for note in (*audit.run.notes, *audit.notes)[:_MOST_ROWS]]
    if rows:
        yield _details("Notes", "\n".join(rows))
