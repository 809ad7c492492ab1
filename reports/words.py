"""Numbers, durations, places and counts as every report writes them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from auditor.evidence import Location, Run
from auditor.result import Summary

from . import clean


def number(value: float | None) -> str:
    """Four significant digits, never more: 0.4213, 1,204, 3.2e-5, NaN."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if value == int(value) and size < 1e6:
        return f"{int(value):,}" if size >= 10_000 else str(int(value))
    if 1e3 <= size < 1e6:
        return f"{value:,.0f}"
    if 1e-3 <= size < 1e3:
        return f"{value:.4g}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def signed(value: float) -> str:
    """A difference, two significant digits with its sign: +0.030, −1.7, 0."""
    if not math.isfinite(value) or value == 0:
        return number(value)
    size = abs(float(f"{value:.2g}"))
    return ("+" if value > 0 else "−") + (f"{size:#.2g}" if 1e-3 <= size < 10 else number(size))


def percent(share: float) -> str:
    """A share as a percentage; never rounded to 0 % or 100 % when it is neither."""
    if not math.isfinite(share):
        return number(share)
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.3g} %"


def integer(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """A duration in the unit that people would choose."""
    if value is None or not math.isfinite(value):
        return "–"
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.1f} s" if value < 120 else f"{int(value // 60)} min {int(value % 60):02d} s"


def overhead(value: float) -> str:
    """'1.04×': how much longer a step takes under observation. Three digits would be noise."""
    return f"{number(round(value, 2) if math.isfinite(value) else value)}×"


def plural(count: int, noun: str, many: str = "") -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {many or noun + 's'}"


def listed(items: Sequence[str], most: int = 6) -> str:
    """a, b and c; the rest is counted."""
    if len(items) > most:
        return ", ".join(items[:most]) + f" and {len(items) - most} more"
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


_LONGEST_PATH = 8_000


def path(file: str) -> str:
    """A file relative to the current directory where it lies below it."""
    if len(file) > _LONGEST_PATH:  # no system has such a file
        return clean.name(file, 120)
    try:
        found = Path(file)
        file = str(found.relative_to(Path.cwd())) if found.is_absolute() else file
    except (ValueError, OSError):
        pass
    return clean.name(file.replace(os.sep, "/"), 120)


def place(location: Location | None) -> str:
    """file:line, or '' when the place is unknown."""
    return f"{path(location.file)}:{location.line}" if location else ""


def inside(location: Location | None) -> str:
    """' in main', or '' at the top of a module, where there is no function to name."""
    named = location is not None and location.function not in {"", "<module>"}
    return f" in {clean.name(location.function, 60)}" if location and named else ""


def command(run: Run) -> str:
    """What was run, as typed."""
    words = [("-m " if run.module else "") + (run.target if run.module else path(run.target)), *run.args]
    return clean.line(" ".join(words), 300)


def measured(value: float | None, limit: float | None) -> str:
    """'1 against a limit of 0', or '' when nothing was measured."""
    if value is None:
        return ""
    return f"{number(value)} against a limit of {number(limit)}" if limit is not None else number(value)


def since(step: int | None) -> str:
    """'from step 0' or 'since step 20', or '' when that is not known."""
    if step is None or step < 0:
        return ""
    return f"since step {step:,}" if step else "from step 0"


def counts(summary: Summary) -> list[tuple[str, int, str]]:
    """(kind, how many, words) in the order of importance; zero only where zero tells something."""
    rows = [
        ("error", summary.errors, plural(summary.errors, "error")),
        ("warning", summary.warnings, plural(summary.warnings, "warning")),
        ("note", summary.notes, plural(summary.notes, "note")),
        ("pass", summary.passed, f"{summary.passed} passed"),
        ("not-applicable", summary.not_applicable, f"{summary.not_applicable} not applicable"),
        ("inconclusive", summary.inconclusive, f"{summary.inconclusive} inconclusive"),
        ("suppressed", summary.suppressed, f"{summary.suppressed} suppressed"),
        ("broken", summary.rule_errors, plural(summary.rule_errors, "rule failed", "rules failed")),
    ]
    return [row for row in rows if row[1] or row[0] in {"error", "warning", "pass"}]


_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.:-=+*#"


def sparkline(values: Iterable[float | None], width: int = 24, *, unicode: bool = True) -> str:
    """Values as one row of bars, '' without any finite one; a value that is not finite shows as ×."""
    return sparklines([values], width, unicode=unicode)[0]


def sparklines(
    series: Sequence[Iterable[float | None]], width: int = 24, *, unicode: bool = True, top: float = math.inf
) -> list[str]:
    """The same of several series on one scale, so that they can be compared; what lies above `top` shows as `top`."""
    shown = [_thin([math.nan if v is None else min(float(v), top) if v < math.inf else v for v in s], width)
             for s in series]  # fmt: skip
    finite = [value for values in shown for value in values if math.isfinite(value)]
    if not finite:
        return [""] * len(shown)
    if min(finite) > 0 and max(finite) / min(finite) > 1000:  # only a logarithm shows so wide a range
        shown = [[math.log(value) if math.isfinite(value) else value for value in values] for values in shown]
        finite = [value for values in shown for value in values if math.isfinite(value)]
    low, span = min(finite), max(finite) - min(finite)
    return ["".join(_bar(value, low, span, unicode) for value in values) for values in shown]


def _bar(value: float, low: float, span: float, unicode: bool) -> str:
    blocks = _BLOCKS if unicode else _ASCII_BLOCKS
    if not math.isfinite(value):
        return "×" if unicode else "x"
    if not 0 < span < math.inf:
        return blocks[(len(blocks) - 1) // 2]
    return blocks[round((len(blocks) - 1) * ((value - low) / span))]


def _thin(values: Sequence[float], most: int) -> list[float]:
    """At most `most` values: means of equal shares; a share that holds a non-finite value keeps it."""
    if len(values) <= most:
        return list(values)
    edges = [round(i * len(values) / most) for i in range(most + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def ends(values: Sequence[float]) -> str:
    """'0.42 → 20.9': the first and the last value."""
    return f"{number(values[0])} → {number(values[-1])}" if values else ""
