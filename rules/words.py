"""Numbers as the sentences of findings show them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float) -> str:
    """Three digits: '0.79', '2.3', '1250', '1.2e+05', 'NaN'."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    size = abs(value)
    if size != 0 and (size >= 1e5 or size < 1e-3):
        return f"{value:.2g}"
    return f"{value:.0f}" if size >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    """'20.6 %', '0.4 %', '63 %'; a share that is neither none nor all never reads as 0 % or 100 %."""
    if not math.isfinite(share):
        return f"{number(share)} %"
    for digits in range(1, 4):
        text = f"{100 * share:.{digits}f}"
        if float(text) not in (0, 100) or share in (0, 1):
            break
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def count(amount: int, noun: str) -> str:
    """'1 step', '3 steps', '12 classes'."""
    plural = f"{noun}es" if noun.endswith(("s", "x", "ch")) else f"{noun}s"
    return f"{amount} {noun if amount == 1 else plural}"


def named(name: str) -> str:
    """A layer's name for a sentence: 'fc1', 'layer 0' for the numbered ones of a Sequential, 'a layer' for none."""
    return name if any(letter.isalpha() for letter in name) else f"layer {name}" if name else "a layer"


def listing(items: Sequence[str], most: int = 5) -> str:
    """'a', 'a and b', 'a, b, c, d, e and 4 more'."""
    shown = list(items[:most])
    if len(items) > most:
        shown.append(f"{len(items) - most} more")
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
