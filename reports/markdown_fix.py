"""A finding's fix in Markdown: the change, its diff, what came of trying it, and how to apply it."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.evidence import Run
from auditor.result import Fix, Trial

from . import clean, tried, words
from .inert import fenced, inert, labelled, sentence, ticked

_MOST_DIFF = 40
_MOST_OTHERS = 8


def parts(run: Run, fix: Fix) -> Iterator[str]:
    """Everything about the fix, each part only where there is one."""
    yield labelled("Fix.", fix.text)
    rows, rest = clean.head(fix.diff or "", _MOST_DIFF, 200)
    if rows:
        yield fenced([*rows, *([f"… {words.plural(rest, 'more line')}"] if rest else [])], "diff")
    if command := tried.apply_command(run, fix):
        yield f"{ticked(command, 160)} applies it."
    if fix.trial:
        yield _trial(fix.trial)
    if fix.others:
        yield "\n".join(["Also tried:", "", *_others(fix)])
    if reason := tried.untried(fix):
        yield f"**Not tried.** {sentence(_capital(reason), 300)}"


def together(trial: Trial) -> str:
    """What came of all the fixes at once."""
    verdict = "it helped" if trial.helped else "it did not help; fix one fault and audit again"
    text = f"**All fixes at once: {verdict}.** {inert(_capital(tried.change(trial)))}: {inert(tried.course(trial))}."
    return _with_courses(text, trial)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _trial(trial: Trial) -> str:
    """The outcome in a sentence, and both courses on one scale."""
    verdict = "Tried on this loop: it helped." if trial.helped else "Tried on this loop: it did not help."
    text = f"**{verdict}** {inert(_capital(tried.change(trial)))}: {inert(tried.course(trial))}."
    return _with_courses(text, trial)


def _with_courses(text: str, trial: Trial) -> str:
    pair = tried.curves(trial)
    lines = words.sparklines([values for _, values in pair], top=tried.top(trial)) if pair else []
    rows = [f"- `{line}` {name}" for (name, _), line in zip(pair, lines, strict=True)]
    return "\n".join([text, "", *rows]) if rows else text


def _others(fix: Fix) -> Iterator[str]:
    for other in fix.others[:_MOST_OTHERS]:
        yield f"- {inert(tried.short(other, fix.trial))}"
    if len(fix.others) > _MOST_OTHERS:
        yield f"- and {len(fix.others) - _MOST_OTHERS} more"
