"""The terminal's report."""

from __future__ import annotations

import sys

import pytest
from auditor.reports import text
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from auditor.result import Audit


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_longer_than_the_width(audit: Audit, width: int, unicode: bool) -> None:
    for line in text.render(audit, width=width, unicode=unicode).splitlines():
        assert cell_len(line) <= width, line


def test_without_unicode_everything_is_ascii(audit: Audit) -> None:
    assert text.render(audit, unicode=False).isascii()


def test_without_colour_there_are_no_escapes(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not set(text.render(audit)) & {"\x1b", "\x07", "\r", "\u202e"}


def test_colour_adds_nothing_but_escapes(faulty: Audit) -> None:
    from rich.text import Text

    coloured = text.render(faulty, color=True)
    assert "\x1b[" in coloured
    plain = Text.from_ansi(coloured).plain
    assert [row.rstrip() for row in plain.splitlines()] == text.render(faulty).splitlines()


def test_hostile_names_cannot_move_the_cursor(hostile: Audit) -> None:
    shown = text.render(hostile, color=True)
    assert "\x1b]0;" not in shown
    assert "\x1b[31mred" not in shown
    assert "\x07" not in shown


@pytest.mark.parametrize("name", ["faulty", "tried", "healthy", "crashed"])
def test_snapshot(audits: dict[str, Audit], name: str, snapshot: SnapshotAssertion) -> None:
    assert text.render(audits[name]) == snapshot


def test_snapshot_ascii_narrow(faulty: Audit, snapshot: SnapshotAssertion) -> None:
    assert text.render(faulty, width=60, unicode=False) == snapshot


def test_consequences_are_a_line_each(tried: Audit) -> None:
    shown = text.render(tried, width=60)
    assert "= leads to 2 consequences\n    ✖ ACT101 dead-units: 41 of 64 units of features.2 were …\n" in shown
    assert "\n    ⚠ FIT104 loss-plateau: The loss did not fall" in shown


@pytest.mark.parametrize("width", [60, 80, 200])
def test_both_curves_stand_on_one_scale(tried: Audit, width: int) -> None:
    rows = text.render(tried, width=width).splitlines()
    at = next(number for number, row in enumerate(rows) if row.startswith("    as it is"))
    assert rows[at].endswith("×" * 12)
    assert rows[at + 1].startswith("    with the fix ▃")
    assert len(rows[at]) == len(rows[at + 1]) == 57
    assert "as it is  " not in text.render(tried, width=width, unicode=False)


def test_what_did_not_help_is_never_green(tried: Audit) -> None:
    shown = text.render(tried, color=True, width=200)
    row = next(row for row in shown.splitlines() if "no help; loss" in row)
    assert "\x1b[33m= tried" in row
    assert "\x1b[32m" not in row
    assert "\x1b[1;32m" not in row


def test_a_long_diff_is_cut_and_counted(tried: Audit) -> None:
    shown = text.render(tried)
    assert "    | … 23 more lines\n" in shown
    assert shown.count("= apply it: audit fix train.py") == 1


def test_the_verdict_comes_first(faulty: Audit) -> None:
    assert text.render(faulty).startswith("✖ Not ready: 2 faults (3 errors) would waste this run.\n")


def test_findings_not_shown_are_named(faulty: Audit) -> None:
    shown = text.render(faulty)
    assert "2 more findings:\n  ⚠ DAT201 class-imbalance at train.py:17: The most frequent" in shown
    assert "\n  • FIT101 cannot-overfit at train.py:24: 16 samples" in shown


def test_the_next_command_is_named_where_there_is_something_to_explain(faulty: Audit, healthy: Audit) -> None:
    assert text.render(faulty).endswith("\naudit explain OPT101: why it matters, and when it may be wrong\n")
    assert "audit explain" not in text.render(healthy)


def test_a_line_does_not_end_within_a_figure(faulty: Audit) -> None:
    detail = "held-out index = training index: " + ", ".join(f"{i} = {i + 160} of 95 %" for i in range(40))
    finding = faulty.findings[0].model_copy(update={"detail": (detail,), "source": ()})
    audit = faulty.model_copy(update={"findings": (finding,)})
    for width in range(40, 90, 7):
        rows = [row.strip() for row in text.render(audit, width=width).splitlines()]
        assert not [row for row in rows if row.startswith(("= 1", "= 2", "%")) or row.endswith(" =")]


def test_rendering_is_deterministic(audit: Audit) -> None:
    assert text.render(audit) == text.render(audit)


def test_importing_the_formats_is_cheap() -> None:
    import subprocess

    heavy = "rich jinja2 markdown_it PIL torch scipy numpy"
    program = (
        "import sys; from auditor.registry import report_formats as f; found = sorted(f());"
        f"print(found, [m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "'text'" in done.stdout


def test_rules_that_are_undecided_for_one_reason_stand_together(crashed: Audit) -> None:
    run = crashed.run.model_copy(update={"steps": 12})
    shown = text.render(crashed.model_copy(update={"run": run}))
    assert shown.count("the probe ended before its") == 1
    assert "? OPT101 missing-zero-grad and INI103 initial-loss: the probe" in shown


def test_a_crash_comes_before_what_was_found_until_then(crashed: Audit, faulty: Audit) -> None:
    shown = text.render(crashed.model_copy(update={"findings": faulty.findings}))
    assert shown.index("The script ended with RuntimeError") < shown.index("1 ✖ error OPT101")
