"""Numbers as people write them."""

from __future__ import annotations

import re
from decimal import Decimal

_SMALLEST_DECIMAL = Decimal("1e-5")  # below, a string of zeros is hard to read
_SCIENTIFIC = re.compile(r"(?P<digits>[0-9.]+)(?P<letter>[eE])[+-]?[0-9]+")


def scaled(literal: str, factor: float) -> str:
    """The literal times a factor in the literal's own style, to three digits: 1e-3 and 0.25 give 2.5e-4."""
    plain = literal.replace("_", "")
    value = _rounded(Decimal(plain) * Decimal(repr(factor)), 3)
    scientific = _SCIENTIFIC.fullmatch(plain)
    if scientific and abs(value) < 1:
        return _scientific(value, scientific["letter"], point="." in scientific["digits"])
    if 0 < value < _SMALLEST_DECIMAL:
        return _scientific(value, "e", point=False)
    text = _plain(value)
    return text + ".0" if (scientific or "." in plain) and "." not in text else text


def number(value: float, digits: int = 4) -> str:
    """A float literal of a few significant digits: 1.0, 0.4914, 153.2."""
    short = _rounded(Decimal(repr(float(value))), digits)
    if short and abs(short) < _SMALLEST_DECIMAL:
        return _scientific(short, "e", point=False)
    text = _plain(short)
    return text if "." in text else text + ".0"


def _rounded(value: Decimal, digits: int) -> Decimal:
    return Decimal(f"{value:.{digits - 1}e}")


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scientific(value: Decimal, letter: str, *, point: bool) -> str:
    digits, _, exponent = f"{value:e}".partition("e")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    if point and "." not in digits:
        digits += ".0"
    return f"{digits}{letter}{int(exponent)}"
