"""A finding's fix in the terminal: the change, its diff, what came of trying it, and how to apply it."""

from __future__ import annotations

from auditor.evidence import Run
from auditor.result import Fix, Trial

from . import clean, story, tried, words
from .terminal import Page

_MOST_DIFF = 20
_MOST_OTHERS = 4
_WIDEST_CURVE = 40


def show(page: Page, run: Run, fix: Fix) -> None:
    """Everything about the fix, each part only where there is one."""
    _text(page, fix)
    _diff(page, fix)
    if fix.trial:
        style = "bold green" if fix.trial.helped else "yellow"
        page.put(("= tried ", style), tried.sentence(fix.trial), indent=2, hang=2)
        _curves(page, fix.trial)
    for other in fix.others[:_MOST_OTHERS]:
        page.put(("= also tried ", "cyan"), tried.short(other, fix.trial), indent=2, hang=2)
    if len(fix.others) > _MOST_OTHERS:
        page.put((f"and {len(fix.others) - _MOST_OTHERS} more", "dim"), indent=4)
    if reason := tried.untried(fix):
        page.put(("= not tried: ", "cyan"), reason, indent=2, hang=2)
    if command := tried.apply_command(run, fix):
        page.put(("= apply it: ", "bold green"), command, indent=2, hang=2)


def _text(page: Page, fix: Fix) -> None:
    refuted = fix.trial is not None and not fix.trial.helped
    label = ("= fix ", "cyan" if refuted else "bold green")
    blocks = story.blocks(fix.text)
    if fix.diff and all(block.code for block in blocks):
        page.put(label, "Change these lines:", indent=2)
    first = True
    for block in blocks:
        if block.code and fix.diff:  # the diff shows the same in its place
            continue
        if block.code:
            for row in story.dedent(block.text.splitlines()):
                page.cut(("| ", "cyan"), (row, "green"), indent=4)
        else:
            page.put(label if first else "", story.unemphasised(block.text), indent=2 if first else 4, hang=2 * first)
        first = False


def _diff(page: Page, fix: Fix) -> None:
    rows, rest = clean.head(fix.diff or "", _MOST_DIFF)
    for row in rows:
        style = "green" if row.startswith("+") else "red" if row.startswith("-") else "dim"
        page.cut(("| ", "cyan"), (row, style), indent=4)
    if rest:
        page.cut(("| ", "cyan"), (f"… {words.plural(rest, 'more line')}", "dim"), indent=4)


def _curves(page: Page, trial: Trial) -> None:
    """Both courses on one scale, one below the other; only where the terminal can draw them."""
    pair = tried.curves(trial)
    if not pair or not page.unicode:
        return
    gutter = max(len(name) for name, _ in pair) + 1
    room = min(page.width - 4 - gutter, _WIDEST_CURVE)
    lines = words.sparklines([values for _, values in pair], room, top=tried.top(trial))
    for (name, _), line in zip(pair, lines, strict=True):
        page.cut((f"{name:<{gutter}}", "dim"), line, indent=4)
