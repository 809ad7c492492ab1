"""A comparison of two audits as one page: no script, and no request leaves it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from auditor.compare import Difference

from . import clean, difference

COMPARES = "html"
SUFFIXES = (".html", ".htm")

_MOST = 500  # of each kind
_HERE = Path(__file__).parent


def render(found: Difference) -> str:
    """The same comparison gives the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(line=clean.line, called=difference.called, place=difference.place)
    style = "\n" + (_HERE / "difference.css").read_text(encoding="utf-8").strip() + "\n"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("difference.html.j2").render(
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        kind=difference.kind(found),
        sign=difference.SIGNS[difference.kind(found)],
        sentence=difference.sentence(found),
        sides=difference.sides(found),
        sections=list(difference.sections(found)),
        cautions=found.cautions,
        tool=found.new.tool,
        most=_MOST,
    )
