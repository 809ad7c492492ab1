"""The report for a terminal: the verdict, what to fix first, and the counts."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.compare import Difference
from auditor.evidence import Location
from auditor.result import Audit, Outcome, ReportedFinding, SourceLine, Verdict

from . import clean, difference_text, gauge, story, terminal_fix, tried, words
from .portable import portable
from .terminal import Page

FORMAT = "text"
SUFFIXES = (".txt",)

_COLOURS = {"error": "bold red", "warning": "bold yellow", "note": "bold blue", "pass": "green", "broken": "bold red"}
_VERDICTS = {
    "not-ready": ("error", "bold red"),
    "caution": ("warning", "bold yellow"),
    "ready": ("pass", "bold green"),
    "inconclusive": ("inconclusive", "bold yellow"),
}
_MOST_REASONS = 8
_MOST_CONSEQUENCES = 12
_MOST_BRIEF = 12


def render(
    audit: Audit,
    *,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
    difference: Difference | None = None,
) -> str:
    """The report in lines no longer than `width` cells; plain ASCII without `unicode`, no escapes without `color`."""
    audit, difference = portable(audit, difference)
    page = Page(width, color, unicode)
    _headline(page, audit)
    _crash(page, audit)
    groups = story.groups(audit)
    for number, group in enumerate(groups[: story.FIRST], 1):
        _finding(page, audit, number, group)
    _more(page, groups[story.FIRST :])
    if audit.together is not None:
        page.gap()
        page.put(tried.at_once(audit.together), hang=2)
    _counts(page, audit)
    if difference is not None:
        difference_text.against(page, difference)
    _undecided(page, audit)
    _aside(page, audit)
    _next(page, audit)
    return page.text()


def _headline(page: Page, audit: Audit) -> None:
    found = story.conclusion(audit)
    kind, style = _VERDICTS[found.kind]
    page.put((f"{page.sign(kind)} ", style), (found.sentence, style), hang=2)
    page.flow(((fact, "dim") for fact in _facts(audit)), between=" · ", indent=2)


def _facts(audit: Audit) -> Iterable[str]:
    run = audit.run
    yield words.command(run)
    if run.source_only:
        return
    yield words.plural(run.steps, "step") + f" in {words.seconds(run.seconds)}"
    if run.overhead is not None:
        yield f"overhead {words.overhead(run.overhead)}"
    yield clean.name(run.device, 30)
    if run.torch:
        yield f"torch {clean.name(run.torch, 30)}"


def _called(said: ReportedFinding | Verdict) -> str:
    return f"{clean.name(said.code, 16)} {clean.name(said.rule)}"


def _finding(page: Page, audit: Audit, number: int, group: story.Group) -> None:
    finding = group.cause
    style = _COLOURS[finding.severity]
    page.gap()
    page.put(
        (f"{number} " if number else "", "bold"),
        (f"{page.sign(finding.severity)} {finding.severity} ", style),
        (f"{clean.name(finding.code, 16)} ", "bold"),
        clean.name(finding.rule),
        (f" · {story.sure(finding)}", "dim"),
        hang=2,
    )
    page.put((clean.line(finding.message), "bold"), indent=2)
    _frame(page, finding.source, finding.location, style, _under(finding))
    _facts_of(page, audit, finding)
    terminal_fix.show(page, audit.run, finding.fix)
    _consequences(page, group)


def one(audit: Audit, group: story.Group) -> str:
    """A finding by itself, in plain lines: for an issue or a chat."""
    page = Page(100, color=False, unicode=True)
    _finding(page, audit, 0, group)
    return page.text()


def _under(finding: ReportedFinding) -> str:
    return clean.name(finding.where, 60)


def _frame(page: Page, source: Iterable[SourceLine], place: Location | None, style: str, note: str) -> None:
    """The user's lines with the marked one underlined, as compilers show them."""
    if place is None:
        if note:
            page.put(("--> ", "cyan"), note, indent=2)
        return
    rows = list(source)
    gutter = len(str(max([place.line, *(row.number for row in rows)])))
    page.put((f"{' ' * gutter}--> ", "cyan"), words.place(place), (words.inside(place), "dim"), indent=2, hang=4)
    if not any(row.number == place.line for row in rows):
        if note:
            page.put((" " * gutter + " = at ", "cyan"), note, indent=2, hang=4)
        return
    page.cut((" " * gutter + " |", "cyan"), indent=2)
    for row, code in zip(rows, story.dedent([clean.code(row.text) for row in rows]), strict=True):
        marked = row.number == place.line
        page.cut((f"{row.number:>{gutter}} | ", "cyan"), (code, "bold" if marked else ""), indent=2)
        if marked:
            depth = len(code) - len(code.lstrip())
            carets = "^" * max(1, min(len(page.plain(code.strip())), page.width - gutter - depth - 5))
            page.cut((f"{' ' * gutter} | ", "cyan"), " " * depth, (carets, style), indent=2)
            if note:
                page.cut((f"{' ' * gutter} | ", "cyan"), " " * depth, (note, style), indent=2)
    page.cut((" " * gutter + " |", "cyan"), indent=2)


def _facts_of(page: Page, audit: Audit, finding: ReportedFinding) -> None:
    measured, since = words.measured(finding.measured, finding.limit), words.since(finding.since)
    if measured or since:
        seen = ", ".join(part for part in (measured, since) if part)
        page.put(("= measured " if measured else "= there ", "cyan"), seen, indent=2, hang=2)
        if scale := gauge.row(finding.measured, finding.limit, unicode=page.unicode):
            page.cut((scale, _COLOURS[finding.severity]), (_legend(page, finding), "dim"), indent=4)
    numbers = story.series(finding, audit.evidence)
    if numbers:
        line = words.sparkline(numbers.values, unicode=page.unicode)
        tail = f"  {words.ends(numbers.values)}" if numbers.ordered else ""
        page.put((f"= {numbers.label} ", "cyan"), line + tail, indent=2, hang=2)
    for detail in finding.detail[:4]:
        page.put(("= ", "cyan"), clean.line(detail, 300), indent=2, hang=2)


def _legend(page: Page, finding: ReportedFinding) -> str:
    """What the signs of a scale are, and how far the value lies off."""
    signs = "  ┃ limit  ● measured" if page.unicode else "  | limit  o measured"
    off = gauge.ratio(finding.measured, finding.limit)
    return f"{signs}, {off}" if off else signs


def _consequences(page: Page, group: story.Group) -> None:
    if not group.consequences:
        return
    page.put(("= leads to ", "cyan"), words.plural(len(group.consequences), "consequence"), indent=2, hang=2)
    for finding in group.consequences[:_MOST_CONSEQUENCES]:
        page.cut(
            (f"{page.sign(finding.severity)} ", _COLOURS[finding.severity]),
            _called(finding),
            (f": {clean.line(finding.message)}", "dim"),
            indent=4,
        )
    if len(group.consequences) > _MOST_CONSEQUENCES:
        page.put((f"and {len(group.consequences) - _MOST_CONSEQUENCES} more", "dim"), indent=4)


def _more(page: Page, rest: list[story.Group]) -> None:
    """The causes that have no room here: a line each."""
    if not rest:
        return
    page.gap()
    count = sum(1 + len(group.consequences) for group in rest)
    page.put((words.plural(count, "more finding") + ":", "bold"))
    for group in rest[:_MOST_BRIEF]:
        finding = group.cause
        follow = f" ({words.plural(len(group.consequences), 'consequence')})" if group.consequences else ""
        place = words.place(finding.location)
        page.cut(
            (f"{page.sign(finding.severity)} ", _COLOURS[finding.severity]),
            _called(finding) + follow,
            (f" at {place}" if place else "", "cyan"),
            (f": {clean.line(finding.message)}", "dim"),
            indent=2,
        )
    if len(rest) > _MOST_BRIEF:
        page.put((f"and {len(rest) - _MOST_BRIEF} more", "dim"), indent=2)


def _next(page: Page, audit: Audit) -> None:
    """What to type next."""
    first = next((finding for finding in audit.findings if finding.code == clean.name(finding.code, 16)), None)
    if first is not None:
        page.gap()
        page.put((f"audit explain {first.code}", "cyan"), ": why it matters, and when it may be wrong", hang=2)


def _crash(page: Page, audit: Audit) -> None:
    crash = audit.run.crash
    if crash is None:
        return
    page.gap()
    where = f" at {words.place(crash.location)}" if crash.location else ""
    page.put(("The script ended with ", "bold"), (clean.name(crash.name), "bold red"), (where, "bold"))
    if crash.message:
        page.put(clean.line(crash.message), indent=2)
    for row in clean.lines(crash.traceback, most=12):
        page.cut(("| ", "cyan"), row, indent=2)


def _counts(page: Page, audit: Audit) -> None:
    page.gap()
    page.flow(
        (f"{page.sign(kind)} {text}", _COLOURS.get(kind, "") if count else "dim")
        for kind, count, text in words.counts(audit.summary)
    )


def _undecided(page: Page, audit: Audit) -> None:
    if not audit.run.steps:
        return  # without a step every rule is undecided for the one reason that the verdict names
    for outcome, verb in ((Outcome.INCONCLUSIVE, "inconclusive"), (Outcome.ERROR, "broken")):
        grouped = _by_reason(story.outcomes(audit, outcome))
        for reason, verdicts in list(grouped.items())[:_MOST_REASONS]:
            who = words.listed([_called(verdict) for verdict in verdicts], 6)
            page.put(f"{page.sign(verb)} {who}", (f": {reason}" if reason else "", "dim"), hang=2)
        if len(grouped) > _MOST_REASONS:
            rest = sum(map(len, list(grouped.values())[_MOST_REASONS:]))
            page.put((f"  and {rest} more", "dim"))


def _by_reason(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """Verdicts with the same reason together: one crash leaves many rules undecided."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(clean.line(verdict.reason, 320), []).append(verdict)
    return found


def _aside(page: Page, audit: Audit) -> None:
    run = audit.run
    if run.diverted or run.notes or audit.notes:
        page.gap()
    if run.diverted:
        names = [words.path(name) for name in run.diverted]
        page.put(("diverted ", "cyan"), words.listed(names), (" (your own files were left alone)", "dim"), hang=2)
    for note in (*run.notes, *audit.notes):
        page.put(("note ", "cyan"), clean.line(note, 300), hang=2)
